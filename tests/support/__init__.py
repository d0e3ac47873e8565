"""Helpers of the tests: fabricated homes, fake processes, tiny models."""
