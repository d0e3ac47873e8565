"""Generators of the worker: one small interface over vLLM and transformers."""
