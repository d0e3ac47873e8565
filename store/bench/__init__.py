"""Measured targets of the store.

`python -m store.bench` prints each target with its figure.
"""
