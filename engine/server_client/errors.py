"""Errors of a request to a model server, independent of the HTTP library."""

from __future__ import annotations

from collections.abc import Mapping


class ServerError(Exception):
    """The request got no usable answer.

    The message gives the reason in one line.
    """


class HttpStatus(ServerError):
    """The server answered with an HTTP error.

    Attributes:
        status: for example 404.
        reason: its name, for example "Not Found"; it may be empty.
        detail: the server's explanation, at most 500 characters; it may be empty.
        headers: of the response.
    """

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str]) -> None:
        named = f"HTTP {status} {reason}".strip()
        super().__init__(f"{named}: {detail}" if detail else named)
        self.status, self.reason, self.detail, self.headers = status, reason, detail, headers


class NoAnswer(ServerError):
    """The connection failed, the answer was late, or it was not JSON.

    Attributes:
        sent: False if the request certainly did not reach the server.
        lost: True if the server refused or closed the connection before it answered.
    """

    def __init__(self, reason: str, *, sent: bool, lost: bool = False) -> None:
        super().__init__(reason)
        self.sent, self.lost = sent, lost
