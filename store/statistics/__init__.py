"""Confidence intervals, significance tests and effect sizes.

Pure functions over arrays. Rates are fractions of 1, never per cent.
Each random function takes a seed; the same seed gives the same result.
"""
