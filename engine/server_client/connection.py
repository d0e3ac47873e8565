"""Requests to an OpenAI-compatible server, through the `openai` package.

    ServerConnection (threads) ─┐
                                ├─▶ several openai clients ─▶ JSON | HttpStatus | NoAnswer
    AsyncServerConnection ──────┘

Only this module imports openai, and it translates openai's errors. The answer is parsed here as plain JSON,
because openai's own types check nothing and take twice the time. Nothing is retried: each caller has its own
rule for retries.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any

import openai

from engine.server_client.errors import HttpStatus, NoAnswer
from store.plain_json import parse

# Longest wait for one answer of a server that is evaluated, and for a retry that it puts off (Retry-After).
ANSWER_SECONDS = 600.0
# Requests in flight per openai client. Its pool checks all its connections at every request, so several small
# pools are cheaper.
PER_CLIENT = 8
# Longest explanation of an HTTP error, characters.
_DETAIL = 500
# openai requires a key. This one is not sent.
_NO_KEY = "none"
# The HTTP library of openai: httpx, or httpx2 since openai 3. openai does not export its errors.
_http: Any = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


class ServerConnection:
    """Requests from several threads to the server at `url`.

    At most about `in_flight` of them run at a time.

    Args:
        url: base URL, usually …/v1.
        key: API key; "" sends none.
        timeout: longest wait for the connection and for each part of the answer, seconds.
    Raises: NoAnswer if `url` is not valid.
    """

    def __init__(self, url: str, key: str, timeout: float, in_flight: int = 1) -> None:
        with _translated():
            self._clients = [
                openai.OpenAI(
                    base_url=url,
                    api_key=key or _NO_KEY,
                    timeout=timeout,
                    max_retries=0,
                    http_client=openai.DefaultHttpxClient(verify=_tls()),
                )
                for _ in range(_clients(in_flight))
            ]
        self._turns = itertools.count()
        # openai would send what the environment holds for OpenAI's own server.
        self._headers = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        if not key:
            self._headers["Authorization"] = openai.omit

    def get(self, path: str) -> Any:
        """Return the JSON at `path`.

        Raises: HttpStatus or NoAnswer.
        """
        with _translated():
            return parse(self._client().get(path, cast_to=bytes, options={"headers": self._headers}))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST `body` as JSON and return the JSON answer.

        Raises: HttpStatus or NoAnswer.
        """
        with _translated():
            content = self._client().post(
                path, content=_encoded(body), cast_to=bytes, options={"headers": self._headers}
            )
            return parse(content)

    def close(self) -> None:
        """Close all connections. No request may follow."""
        for client in self._clients:
            client.close()

    def __enter__(self) -> ServerConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self) -> openai.OpenAI:
        return self._clients[next(self._turns) % len(self._clients)]


class AsyncServerConnection:
    """Requests of one event loop.

    Otherwise it is like `ServerConnection`, with a key that is always sent.
    """

    def __init__(self, url: str, key: str, timeout: float, in_flight: int = 1) -> None:
        with _translated():
            self._clients = [
                openai.AsyncOpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=0)
                for _ in range(_clients(in_flight))
            ]
        self._turns = itertools.count()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST `body` as JSON and return the JSON answer.

        Raises: HttpStatus or NoAnswer.
        """
        client = self._clients[next(self._turns) % len(self._clients)]
        with _translated():
            return parse(await client.post(path, content=_encoded(body), cast_to=bytes))

    async def close(self) -> None:
        """Close all connections. No request may follow."""
        await asyncio.gather(*(client.close() for client in self._clients))

    async def __aenter__(self) -> AsyncServerConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _clients(in_flight: int) -> int:
    """Return the number of openai clients for so many requests."""
    return max(1, -(-in_flight // PER_CLIENT))


@cache
def _tls() -> ssl.SSLContext:
    """Return the TLS context of all clients, with the system's certificates.

    Loading the certificates again for each client would be slow.
    """
    return ssl.create_default_context()


def _encoded(body: Mapping[str, Any]) -> bytes:
    """Return `body` as ASCII JSON.

    openai's own encoder rejects text with half an emoji.
    """
    return json.dumps(body).encode()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise HttpStatus or NoAnswer in place of other errors.

    Those are the errors of openai and of the JSON parser.
    """
    try:
        yield
    except openai.APIStatusError as error:
        response = error.response
        raise HttpStatus(
            response.status_code, response.reason_phrase, _detail(error), response.headers
        ) from None
    except openai.APITimeoutError as error:
        raise NoAnswer("no answer in time", sent=_was_sent(error.__cause__)) from None
    except openai.APIError as error:
        cause = error.__cause__ or error
        raise NoAnswer(_reason(cause), sent=_was_sent(cause), lost=_was_lost(cause)) from None
    except _http.InvalidURL as error:
        raise NoAnswer(f"invalid URL: {error}", sent=False) from None
    # A key that no header can hold, or an answer that is not JSON.
    except ValueError as error:
        sent = not isinstance(error, UnicodeEncodeError)
        what = "the answer is not JSON" if sent else "the request cannot be sent"
        raise NoAnswer(f"{what}: {error}", sent=sent) from None


def _detail(error: openai.APIStatusError) -> str:
    """Return the message in the body of an HTTP error, else the body."""
    body = error.response.text
    try:
        found = parse(body)
    except ValueError:
        found = None
    if isinstance(found, dict):
        inner = found.get("error", found)
        message = inner.get("message") if isinstance(inner, dict) else None
        body = message if isinstance(message, str) and message else body
    return " ".join(body.split())[:_DETAIL]


def _reason(cause: BaseException) -> str:
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _was_sent(cause: BaseException | None) -> bool:
    return not isinstance(cause, (_http.ConnectError, _http.ConnectTimeout))


def _was_lost(cause: BaseException) -> bool:
    """Return True if the server ended the connection before its answer.

    It may have refused, reset or closed it.
    """
    if isinstance(cause, _http.RemoteProtocolError):
        # The same error stands for a malformed or incomplete answer. Only its text differs.
        return "disconnected without sending" in str(cause)
    root: BaseException | None = cause
    while root is not None and not isinstance(root, ConnectionError):
        # The libraries below openai do not always link an error with `from`.
        root = root.__cause__ or root.__context__
    return root is not None
