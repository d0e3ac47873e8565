"""Presentation logic of the console as plain values.

Nothing here imports Textual.
"""
