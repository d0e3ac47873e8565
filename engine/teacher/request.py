"""Send one question to the teacher and classify the outcome.

The outcome is an answer, a retry, a refusal, or the end of the stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.context import StageFailed
from engine.server_client.connection import AsyncServerConnection
from engine.server_client.errors import HttpStatus, NoAnswer
from engine.server_client.retry_after import retry_after
from engine.teacher.key import without_key
from profiles.schema import Traces

# Maximum Retry-After in seconds.
_LONGEST_WAIT = 3600.0
_WHOLE = frozenset({"stop", "length"})
_FATAL = {
    401: "refused the key in {variable} (HTTP 401); check it",
    402: "wants payment (HTTP 402): the balance is used up; top it up and run again, answers are kept",
    403: "forbids the request (HTTP 403); check what the key in {variable} may do",
    404: "does not know the address or model {model} (HTTP 404); check traces.base_url and traces.model",
}
_TRY_AGAIN = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class TeacherReply:
    """A whole answer.

    `finish` is 'stop', or 'length' if the teacher ran out of tokens.
    """

    text: str
    reasoning: str
    finish: str
    prompt_tokens: int
    completion_tokens: int


class TryAgain(Exception):
    """The request got no usable answer, but a retry may get one.

    Attributes:
        wait: seconds that the server requested.
        billed: the request may have cost money.
    """

    def __init__(self, reason: str, wait: float = 0.0, billed: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.billed = wait, billed


class EmptyAnswer(TryAgain):
    """The teacher's answer was empty.

    It may happen once; a question that always gets an empty answer counts as refused.
    """


class QuestionRefused(Exception):
    """The teacher will not answer this question at any time.

    The tokens are the cost of the refusal.
    """

    def __init__(self, reason: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        super().__init__(reason)
        self.prompt_tokens, self.completion_tokens = prompt_tokens, completion_tokens


async def ask(
    server: AsyncServerConnection, settings: Traces, messages: list[dict[str, str]], key: str
) -> TeacherReply:
    """Send the question once.

    Raises: TryAgain if a retry may help; QuestionRefused if the teacher declines this question; StageFailed
    if no question can be answered.
    """
    body = {
        "model": settings.model,
        "messages": messages,
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
    }
    try:
        found = await server.post("/chat/completions", body)
    except HttpStatus as error:
        raise _from_status(error, settings, key) from None
    except NoAnswer as error:
        raise TryAgain(without_key(str(error), key), billed=error.sent) from None
    return read_reply(found)


def read_reply(found: Any) -> TeacherReply:
    """Return the reply in a chat completion.

    Raises: TryAgain if `found` is not a whole chat completion; EmptyAnswer if it is empty; QuestionRefused if
        the teacher declined.
    """
    try:
        choice = found["choices"][0]
        finish, message = choice["finish_reason"], choice["message"]
        text = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        declined = message.get("refusal") or ""
        usage: dict[str, Any] = found.get("usage") or {}
        prompt_tokens: Any = usage.get("prompt_tokens")
        completion_tokens: Any = usage.get("completion_tokens")
    except (LookupError, TypeError, AttributeError):
        raise TryAgain("answer is not a chat completion", billed=True) from None
    # Some servers do not count tokens.
    counted = isinstance(prompt_tokens, int) and isinstance(completion_tokens, int)
    spent: tuple[int, int] = (prompt_tokens, completion_tokens) if counted else (0, 0)
    if finish == "content_filter" or (declined and not text):
        raise QuestionRefused(f"declined ({declined or finish})", *spent)
    if finish not in _WHOLE or not isinstance(text, str) or not isinstance(reasoning, str):
        raise TryAgain(f"answer is not whole (finish_reason {finish})", billed=True)
    if not text.strip() and not reasoning.strip() and finish == "stop":
        raise EmptyAnswer("answer is empty", billed=True)
    text, reasoning = _without_half_pairs(text), _without_half_pairs(reasoning)
    if not counted:
        spent = (0, (len(text) + len(reasoning)) // 3)
    return TeacherReply(text, reasoning, finish, *spent)


def _without_half_pairs(text: str) -> str:
    """Return `text` as UTF-8 can hold it.

    JSON may contain half an emoji if the teacher's tokens cut it.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def _from_status(error: HttpStatus, settings: Traces, key: str) -> Exception:
    status = error.status
    if status in _FATAL:
        reason = _FATAL[status].format(variable=settings.api_key_variable, model=settings.model)
        return StageFailed(f"traces: {settings.base_url} {reason}")
    if status in _TRY_AGAIN or status >= 500:
        return TryAgain(f"HTTP {status}", retry_after(error.headers, _LONGEST_WAIT))
    return QuestionRefused(without_key(str(error), key))
