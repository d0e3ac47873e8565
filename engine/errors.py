"""The error for a request that is rejected before any change."""

from __future__ import annotations

from profiles.errors import UserError


class LaunchError(UserError, ValueError):
    """A run cannot be started, resumed or commanded.

    The message is one line with reason and remedy.
    """
