"""The error with which the engine refuses a request before it has changed anything."""

from __future__ import annotations


class LaunchError(ValueError):
    """A run cannot be started, resumed or commanded. The message is one line that gives the reason and the remedy."""
