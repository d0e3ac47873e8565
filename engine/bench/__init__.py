"""Benchmarks of the engine's speed and numerics, next to TRL's."""
