"""Generators of the worker: one interface over vLLM and transformers."""
