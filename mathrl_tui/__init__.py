"""User interface: commands and console.

A client of the store and of the supervisor.
"""
