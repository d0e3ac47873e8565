"""Input data: questions, splits, word problems, prompts, token sequences.

Each is found by its content.
"""
