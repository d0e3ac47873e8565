"""Generation by a server with OpenAI's completions protocol.

It takes the place of a worker.

    Job ─▶ requests in flight (CONCURRENCY threads) ─▶ Completion …, JobDone | JobFailed

A question without an answer after all attempts becomes a completion with outcome `error`, so it stays in the
denominator. The job fails if no question is answered, or if the server no longer serves its model at the end.

Prompts are sent as token ids to a server of one of the run's own checkpoints. Other servers get ids of their
own tokenizer if they offer `/tokenize`, else text.
"""

from __future__ import annotations

import http.client
import itertools
import json
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from engine.context import Generation, StageFailed
from engine.grading import grade
from engine.protocol.messages import (
    Completion,
    Finish,
    Job,
    JobDone,
    JobFailed,
    Prompt,
    Work,
    WorkerResult,
    completion_seed,
)
from engine.server_client.retry_after import retry_after
from store.env_file import EnvFileFault, setting
from store.plain_json import parse

# Requests in flight.
CONCURRENCY = 64
# Attempts for a question while the server answers no other one.
ATTEMPTS = 3
# Longest pause before the second attempt. It doubles each time; the actual pause is a random 50 to 100 % of
# it.
PAUSE_SECONDS = 1.0
# Largest number of doublings.
LONGEST_PAUSE = 5
# Longest wait for one answer, and for a retry that the server puts off (Retry-After).
ANSWER_SECONDS = 600.0
LIST_SECONDS = 10.0
# The variable that vLLM itself reads.
KEY_VARIABLE = "VLLM_API_KEY"
# HTTP statuses for a missing or wrong key.
REFUSED = (401, 403)
# HTTP status for "retry later".
TOO_MANY = 429
# Placeholder for the token ids of an answer, which the protocol does not return.
UNKNOWN_ID = -1


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server lists.

    `root` is the path or hub name that it was loaded from, "" if unknown.
    """

    name: str
    root: str


@dataclass(frozen=True, slots=True)
class _Ask:
    job: Job
    prompt: Prompt
    sample: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """The result of an ask. `fault` is the reason if it was not answered."""

    completion: Completion
    fault: str


def served_models(url: str) -> list[ServedModel]:
    """Return the models that the server at `url` (…/v1) lists.

    Raises: OSError or ValueError if no such server answers.
    """
    try:
        request = urllib.request.Request(f"{url}/models", headers=_headers())
        with urllib.request.urlopen(request, timeout=LIST_SECONDS) as response:
            found = parse(response.read())
    except http.client.HTTPException as error:
        raise ValueError(f"no HTTP: {type(error).__name__}") from None
    try:
        return [ServedModel(str(each["id"]), str(each.get("root") or "")) for each in found["data"]]
    except (LookupError, TypeError, AttributeError):
        raise ValueError("no list of models") from None


def served_names(url: str) -> list[str]:
    """Return the names of the models that the server at `url` (…/v1) lists.

    The list is empty if no such server answers.
    """
    try:
        return [model.name for model in served_models(url)]
    except (OSError, ValueError):
        return []


def only_model(url: str) -> ServedModel:
    """Return the model of a server that serves exactly one.

    Raises: StageFailed if it serves none or several, or does not answer.
    """
    try:
        models = served_models(url)
    except urllib.error.HTTPError as error:
        remedy = f"; set its key in {KEY_VARIABLE}" if error.code in REFUSED else "; see the server's log"
        raise StageFailed(f"eval.server {url}: HTTP {error.code} {error.reason}{remedy}") from None
    except EnvFileFault as error:
        raise StageFailed(f"eval.server {url}: {error}") from None
    except (OSError, ValueError) as error:
        raise StageFailed(f"eval.server {url}: no OpenAI-compatible server answers there: {error}") from None
    if len(models) != 1:
        names = ", ".join(model.name for model in models) or "none"
        raise StageFailed(f"eval.server {url}: serves {names}; it should serve one model")
    return models[0]


class Served:
    """Implements engine.context.Generation with an OpenAI-compatible server.

    The server at `url` (…/v1) serves `model`. Requests run on threads. With `by_ids` prompts are sent as
    token ids, else as text.
    """

    def __init__(
        self, url: str, model: ServedModel, by_ids: bool, encode: Callable[[Prompt], list[int]] | None = None
    ) -> None:
        self._url, self._model, self._by_ids, self._encode = url, model, by_ids, encode
        self._asks: queue.SimpleQueue[_Ask] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        # Pending completions of each job.
        self._left: dict[int, int] = {}
        # Jobs with at least one answered question.
        self._answered: set[int] = set()
        # The last fault of each job.
        self._faults: dict[int, str] = {}
        self._numbers = itertools.count(1)
        # Answers so far. It has no lock: a lost increment only costs an ask one of its attempts.
        self._total = 0
        for number in range(CONCURRENCY):
            threading.Thread(target=self._serve, name=f"ask {number}", daemon=True).start()

    def next_job_id(self) -> int:
        """Return a job id that no other job of this run has."""
        return next(self._numbers)

    def submit(self, job: Work) -> None:
        """Queue one request for each completion of `job`; do not wait.

        Raises: StageFailed for a suite job, which a server cannot answer.
        """
        if not isinstance(job, Job):
            raise StageFailed(
                f"eval.server {self._url}: a server can only answer the run's own tasks; clear eval.suite"
            )
        self._left[job.job_id] = len(job.prompts) * job.samples
        for prompt in job.prompts:
            for sample in range(job.samples):
                self._asks.put(_Ask(job, prompt, sample))

    def poll(self, timeout: float) -> Iterable[WorkerResult]:
        """Return the results that have arrived.

        Wait at most `timeout` seconds for the first.
        """
        deadline = time.monotonic() + timeout
        found: list[WorkerResult] = []
        while not found or not self._answers.empty():
            try:
                answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return found
            found += self._taken(answer)
        return found

    def _taken(self, answer: _Answer) -> list[WorkerResult]:
        """Return the completion and, after the last one of a job, the job's end."""
        completion = answer.completion
        job_id, kind = completion.job_id, completion.kind
        self._left[job_id] -= 1
        if answer.fault:
            self._faults[job_id] = answer.fault
        else:
            self._answered.add(job_id)
        if self._left[job_id]:
            return [completion]
        if job_id not in self._answered:
            return [JobFailed(job_id, kind, f"{self._url} answered no question: {answer.fault}")]
        if job_id in self._faults and self._model.name not in served_names(self._url):
            gone = f"{self._url} no longer serves {self._model.name} (last fault: {self._faults[job_id]})"
            return [JobFailed(job_id, kind, f"{gone}; start it again and resume the run")]
        return [completion, JobDone(job_id, kind, completion.version, (), 0, 0, 0.0, 0.0, 0.0)]

    def _serve(self) -> None:
        while True:
            self._answers.put(self._answer(self._asks.get()))

    def _answer(self, ask: _Ask) -> _Answer:
        """Ask until there is an answer or a refusal, or no attempt is left.

        A server with a short queue resets connections while it answers others, and its overload is not an
        error of the model. So a lost connection uses up an attempt only if the server has answered nothing
        since the previous one.
        """
        fault, used, tries, asked = "", 0, 0, 0.0
        while used < ATTEMPTS:
            answered = self._total
            self._pause(tries, asked)
            tries, asked = tries + 1, 0.0
            try:
                found = _completion(ask, post_json(f"{self._url}/completions", self._body(ask)))
            except urllib.error.HTTPError as error:
                fault = f"HTTP {error.code}: {error.read(500).decode(errors='replace').strip()}"
                if error.code < 500 and error.code != TOO_MANY:
                    break
                asked = retry_after(dict(error.headers.items()), ANSWER_SECONDS)
                used += 1
            except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
                fault = f"{type(error).__name__}: {error}"
                used += not (_is_lost_connection(error) and self._total > answered)
            else:
                self._total += 1
                return _Answer(found, "")
        return _Answer(_unanswered(ask), fault)

    @staticmethod
    def _pause(tries: int, asked: float) -> None:
        """Wait before another attempt: what the server `asked`, and a random time.

        Without the random time, rejected requests would return all at once.
        """
        if tries:
            time.sleep(asked + PAUSE_SECONDS * 2 ** min(tries - 1, LONGEST_PAUSE) * random.uniform(0.5, 1.0))

    def _body(self, ask: _Ask) -> dict[str, Any]:
        sampling = ask.job.sampling
        seed = completion_seed(ask.job.seed, ask.job.step, ask.prompt.index, ask.sample)
        return {
            "model": self._model.name,
            "prompt": self._prompt(ask.prompt),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % 2**31,
            "stop": list(sampling.stop) or None,
        }

    def _prompt(self, prompt: Prompt) -> list[int] | str:
        if self._by_ids:
            ids: list[int] = prompt.token_ids.tolist()
            return ids
        return self._encode(prompt) if self._encode else prompt.text


def _is_lost_connection(error: Exception) -> bool:
    """Return True if the connection was refused or reset.

    `urllib` wraps errors before the request is sent.
    """
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, ConnectionError)


def post_json(url: str, body: dict[str, Any]) -> Any:
    """POST `body` as JSON and return the JSON reply.

    Raises: OSError (includes HTTPError) or ValueError.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **_headers()}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
        return parse(response.read())


def server_key() -> str:
    """Return the API key for model servers; "" if none is set.

    Servers that are started here require it, and requests to servers contain it.
    """
    return setting(KEY_VARIABLE)


def _headers() -> dict[str, str]:
    key = server_key()
    return {"Authorization": f"Bearer {key}"} if key else {}


def _completion(ask: _Ask, found: Any) -> Completion:
    choice = found["choices"][0]
    text, finish = str(choice["text"]), "length" if choice["finish_reason"] == "length" else "stop"
    verdict = grade(text, ask.prompt.gold, truncated=finish == "length")
    tokens = int((found.get("usage") or {}).get("completion_tokens") or 0)
    return _made(ask, tokens, cast(Finish, finish), text, verdict.outcome, verdict.answer)


def _unanswered(ask: _Ask) -> Completion:
    return _made(ask, 0, "length", "", "error", "")


def _made(ask: _Ask, tokens: int, finish: Finish, text: str, outcome: str, answer: str) -> Completion:
    """Return a completion of `tokens` ids that are unknown."""
    job, prompt = ask.job, ask.prompt
    return Completion(
        job.job_id,
        job.kind,
        job.weights.version,
        prompt.index,
        ask.sample,
        np.full(tokens, UNKNOWN_ID, dtype=np.int32),
        np.zeros(0, dtype=np.float32),
        finish,
        text,
        outcome,
        answer,
    )


# mypy checks here that the class has every method of the protocol, with the same types.
_generation: type[Generation] = Served
