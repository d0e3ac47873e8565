"""Measured targets of the store.

`python -m tests.bench.store` prints each target with its figure.
"""
