"""Generation by a server with OpenAI's completions protocol.

It takes the place of a worker.

    Job ─▶ requests in flight (CONCURRENCY threads) ─▶ Completion …, JobDone | JobFailed

A question without an answer after all attempts becomes a completion with outcome `error`, so it stays in the
denominator. The job fails if no question is answered, or if the server no longer serves its model at the end.

Prompts are sent as token ids to a server of one of the run's own checkpoints. Other servers get ids of their
own tokenizer if they offer `/tokenize`, else text.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
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
from engine.server_client.connection import ANSWER_SECONDS, ServerConnection
from engine.server_client.errors import HttpStatus, NoAnswer
from engine.server_client.key import server_key
from engine.server_client.models import ServedModel, served_names
from engine.server_client.retry_after import retry_after

# Requests in flight.
CONCURRENCY = 64
# Attempts for a question while the server answers no other one.
ATTEMPTS = 3
# Longest pause before the second attempt. It doubles each time; the actual pause is a random 50 to 100 % of
# it.
PAUSE_SECONDS = 1.0
# Largest number of doublings.
LONGEST_PAUSE = 5
# HTTP status for "retry later".
TOO_MANY = 429
# Placeholder for the token ids of an answer, which the protocol does not return.
UNKNOWN_ID = -1


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


class Served:
    """Implements engine.context.Generation with an OpenAI-compatible server.

    The server at `url` (…/v1) serves `model`. Requests run on threads. With `by_ids` prompts are sent as
    token ids, else as text.
    """

    def __init__(
        self, url: str, model: ServedModel, by_ids: bool, encode: Callable[[Prompt], list[int]] | None = None
    ) -> None:
        self._url, self._model, self._by_ids, self._encode = url, model, by_ids, encode
        self._server = ServerConnection(url, server_key(), ANSWER_SECONDS, CONCURRENCY)
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
                found = _completion(ask, self._server.post("/completions", self._body(ask)))
            except HttpStatus as error:
                fault = f"HTTP {error.status}: {error.detail}"
                if error.status < 500 and error.status != TOO_MANY:
                    break
                asked = retry_after(error.headers, ANSWER_SECONDS)
                used += 1
            except NoAnswer as error:
                fault = str(error)
                used += not (error.lost and self._total > answered)
            # The answer is JSON, but not a completion.
            except (ValueError, LookupError, TypeError) as error:
                fault = f"{type(error).__name__}: {error}"
                used += 1
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
