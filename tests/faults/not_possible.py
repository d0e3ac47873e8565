"""What a fault raises when nothing is there that it could strike."""

from __future__ import annotations


class NotPossible(Exception):
    """The fault needs what is not there: mounts, a file that this run has not made yet."""
