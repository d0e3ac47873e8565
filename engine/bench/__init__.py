"""Benchmarks of the engine's speed and numerics on a device, next to TRL's."""
