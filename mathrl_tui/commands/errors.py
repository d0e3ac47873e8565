"""How a command says that it cannot do what it was asked: one line that names the thing and the remedy."""

from __future__ import annotations


class WrongInput(Exception):
    """The command line or a file that it names is at fault: exit status 2."""


class CommandFailed(Exception):
    """The command was right but could not be done: exit status 1."""


class EndedWithFailures(CommandFailed):
    """The run that was followed is done, but parts of it failed: its results are shown, exit status 1."""
