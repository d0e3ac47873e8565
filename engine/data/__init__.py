"""Input data: questions checked and split, word problems, prompts, token sequences.

Each is found by its content.
"""
