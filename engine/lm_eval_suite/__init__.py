"""The regression watch: lm-eval's tasks in this process, row by row.

Arms can be paired on the same documents.
"""
