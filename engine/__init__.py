"""The work: supervisor, stages, training, rollout, grading, prompts.

Imports store and profiles, never the console.
"""
