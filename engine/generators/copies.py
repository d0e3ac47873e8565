"""Data parallelism: several copies of a generator, each a process with devices of its own, behind one interface.

All samples of a prompt go to one copy, chosen by the prompt's index, so that they share its prefill and the division
does not depend on timing. A copy that dies takes the worker along, which the supervisor then starts again; copies whose
worker dies see their connection close and end.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from engine.generators.interface import Generated, GenerationRequest, Generator, Tokenizer, WeightsRefused
from engine.generators.scoring import Score, ScoringRequest
from engine.messages import Sampling, WeightRef

BREATH_SECONDS = 0.05  # longest wait for a copy before the caller is given its turn
SCORED_AT_A_TIME = 512  # requests that a copy is given at a time

Build = Callable[[], Generator]  # must be picklable


@dataclass(frozen=True, slots=True)
class Facts:
    """A copy is ready."""

    tokenizer: Tokenizer
    vocabulary: int
    longest: int
    positions: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Generate what follows in `More`, until `Drop`."""

    sampling: Sampling


@dataclass(frozen=True, slots=True)
class More:
    """Requests for the generation under way."""

    requests: list[GenerationRequest]


@dataclass(frozen=True, slots=True)
class Drop:
    """The generation ends here, whatever is under way; answered with `Dropped`."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nothing of the dropped generation follows."""


@dataclass(frozen=True, slots=True)
class ToScore:
    """Score these; answered with all their scores at once."""

    requests: list[ScoringRequest]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The weights serve, or `refusal` says why they do not."""

    refusal: str


class Copies:
    """Implements Generator over one process for each of `builds`."""

    def __init__(self, builds: Sequence[Build]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connections: list[Connection[Any, Any]] = []
        self._processes = []
        for build in builds:
            here, there = spawn.Pipe()
            process = spawn.Process(target=serve, args=(build, there))
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)
        ready: list[Facts] = [connection.recv() for connection in self._connections]
        self.tokenizer, self.vocabulary = ready[0].tokenizer, ready[0].vocabulary
        self.longest, self.positions = ready[0].longest, ready[0].positions

    def load(self, weights: WeightRef) -> None:
        """See the interface. Every copy checks the same, so all refuse or none."""
        for connection in self._connections:
            connection.send(weights)
        refusals = {connection.recv().refusal for connection in self._connections}
        if len(refusals) > 1:
            raise RuntimeError(f"some copies have version {weights.version}, others refused it: {refusals}")
        refusal = refusals.pop()
        if refusal:
            raise WeightsRefused(refusal)

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        """See the interface."""
        for connection in self._connections:
            connection.send(Begin(sampling))
        running = 0
        try:
            while waiting or running:
                running += self._deal(waiting)
                finished: list[Generated] = []
                ready = wait(self._connections, BREATH_SECONDS)
                for connection in self._connections:
                    if connection in ready:
                        finished += connection.recv()
                running -= len(finished)
                yield finished
        finally:
            self._drop()

    def score(self, requests: Sequence[ScoringRequest]) -> Iterator[list[Score]]:
        """See the interface. Texts go to the copies in blocks, in turn."""
        blocks = deque(range(0, len(requests), SCORED_AT_A_TIME))
        while blocks:
            asked = []
            for connection in self._connections[: len(blocks)]:
                start = blocks.popleft()
                connection.send(ToScore(list(requests[start : start + SCORED_AT_A_TIME])))
                asked.append((start, connection))
            yield [  # a whole round: an iterator that is closed early leaves no answer in a connection
                replace(score, place=start + score.place)
                for start, connection in asked
                for score in connection.recv()
            ]

    def close(self) -> None:
        """Ends every copy, also where one is dead already."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join()

    def _deal(self, waiting: deque[GenerationRequest]) -> int:
        """Sends what waits to its copies; returns how many requests that were."""
        count = len(waiting)
        hands: list[list[GenerationRequest]] = [[] for _ in self._connections]
        while waiting:
            request = waiting.popleft()
            hands[request.prompt % len(hands)].append(request)
        for connection, hand in zip(self._connections, hands, strict=True):
            if hand:
                connection.send(More(hand))
        return count

    def _drop(self) -> None:
        for connection in self._connections:
            connection.send(Drop())
        for connection in self._connections:
            while not isinstance(connection.recv(), Dropped):
                continue


def serve(build: Build, connection: Connection[Any, Any]) -> None:
    """A copy's process: builds the generator and does what comes, until the other end is gone."""
    generator = build()
    try:
        facts = Facts(generator.tokenizer, generator.vocabulary, generator.longest, generator.positions)
        connection.send(facts)
        while True:
            message = connection.recv()
            if isinstance(message, WeightRef):
                connection.send(Loaded(_refusal(generator, message)))
            elif isinstance(message, Begin):
                _generate(generator, message, connection)
            elif isinstance(message, ToScore):
                connection.send([score for scores in generator.score(message.requests) for score in scores])
    except EOFError:
        return
    finally:
        generator.close()


def _refusal(generator: Generator, weights: WeightRef) -> str:
    try:
        generator.load(weights)
    except WeightsRefused as error:
        return str(error)
    return ""


def _generate(generator: Generator, begin: Begin, connection: Connection[Any, Any]) -> None:
    """Generates what is asked for until it is dropped, which is also how it ends."""
    waiting: deque[GenerationRequest] = deque()
    while True:
        for finished in generator.generate(waiting, begin.sampling):
            if finished:
                connection.send(finished)
            while connection.poll():
                if _is_drop(connection, waiting):
                    return
        if _is_drop(connection, waiting):
            return


def _is_drop(connection: Connection[Any, Any], waiting: deque[GenerationRequest]) -> bool:
    """Takes in one message, waiting for it: True where it ends the generation."""
    message = connection.recv()
    if isinstance(message, Drop):
        connection.send(Dropped())
        return True
    waiting.extend(message.requests)
    return False
