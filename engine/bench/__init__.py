"""Measurements of the command `bench`: SFT, generation, weight hand-over."""
