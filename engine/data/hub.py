"""What is raised where the hub cannot be reached; loading it loads the hub's library."""

from __future__ import annotations

from huggingface_hub.errors import HfHubHTTPError

# OSError, and the error of the HTTP client, which is another one in every other version of the hub's library.
UNREACHABLE: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
