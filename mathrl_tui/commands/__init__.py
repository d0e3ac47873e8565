"""The commands, one file for each or for a family.

Parameters of a command's function are its arguments and options.
"""
