"""Errors of commands.

Each message is one line that gives the object and the remedy.
"""

from __future__ import annotations

from profiles.errors import OperationFailed, UserError


class WrongInput(UserError):
    """The command line or a file in it is wrong: exit status 2."""


class CommandFailed(OperationFailed):
    """The command was valid but failed: exit status 1."""


class EndedWithFailures(CommandFailed):
    """The followed run is done, but parts of it failed.

    Its results are shown, and the exit status is 1.
    """
