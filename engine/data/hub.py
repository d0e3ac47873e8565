"""Errors that mean that the hub cannot be reached.

Importing this module imports the hub's library.
"""

from __future__ import annotations

from huggingface_hub.errors import HfHubHTTPError

# OSError, and the error of the HTTP client, which differs between versions of the hub's library.
UNREACHABLE: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
