"""How sure we are: intervals, tests and effect sizes as pure, seeded functions over arrays, without scipy.

Rates are fractions of 1, never per cent. Every random function takes a seed and repeats itself under it.
"""
