"""Benchmarks and campaigns that are not part of the product.

Each is a command: `python -m tests.bench.NAME --help`.
"""
