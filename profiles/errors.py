"""The base of every error that is shown to the user as one line.

The command line catches `UserError`, prints its message and exits with its status. Any other exception is an
internal error. This module imports nothing, so every package can use it at no cost.
"""

from __future__ import annotations

from typing import ClassVar


class UserError(Exception):
    """The request or an input is wrong.

    The message is one line: what failed, where, and what to do.
    """

    exit_status: ClassVar[int] = 2


class OperationFailed(UserError):
    """The request was valid, but it could not be carried out."""

    exit_status: ClassVar[int] = 1


class ProfileError(UserError, ValueError):
    """A profile or override that cannot be used. The message names the field."""
