"""Data parallelism: several copies of a generator behind one interface.

Each copy is a process with its own devices.

    worker ── StartGeneration, AddRequests, CancelGeneration, ScoreRequests, WeightRef ─▶ copy
    worker ◀─ GeneratorProperties, [Generated], GenerationCancelled, [Score], WeightsLoaded ── copy

All samples of a prompt go to one copy, chosen by the prompt's index. So they share its prefill, and the
distribution does not depend on timing.
If a copy crashes, the worker exits too, and the supervisor restarts it. If the worker crashes, its copies see
their connection close and exit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from engine.generators.interface import Generated, GenerationRequest, Generator, TokenDecoder, WeightsRefused
from engine.generators.scoring import Score, ScoringRequest
from engine.machine.spawn import SPAWN, process_of
from engine.protocol.messages import Sampling, WeightRef

# Longest wait for a copy before control returns to the caller.
POLL_SECONDS = 0.05
# Requests that a copy receives at a time.
SCORED_AT_A_TIME = 512

# It must be picklable.
Build = Callable[[], Generator]


@dataclass(frozen=True, slots=True)
class GeneratorProperties:
    """The message of a copy that is ready: the attributes of its generator."""

    tokenizer: TokenDecoder
    vocabulary: int
    longest: int
    positions: int


@dataclass(frozen=True, slots=True)
class StartGeneration:
    """Generate what `AddRequests` adds, until `CancelGeneration`."""

    sampling: Sampling


@dataclass(frozen=True, slots=True)
class AddRequests:
    """Requests for the running generation."""

    requests: list[GenerationRequest]


@dataclass(frozen=True, slots=True)
class CancelGeneration:
    """End the generation and discard what is running.

    The reply is `GenerationCancelled`.
    """


@dataclass(frozen=True, slots=True)
class GenerationCancelled:
    """Reports that nothing of the dropped generation follows."""


@dataclass(frozen=True, slots=True)
class ScoreRequests:
    """Score these requests; the reply holds all their scores at once."""

    requests: list[ScoringRequest]


@dataclass(frozen=True, slots=True)
class WeightsLoaded:
    """Reports that the weights are in use, or the reason in `refusal`."""

    refusal: str


class CopyNotStarted(RuntimeError):
    """A copy ended while it started."""


class GeneratorCopies:
    """Implements Generator over several processes, one for each of `builds`.

    The constructor starts the processes, and returns when all copies are ready.
    Raises: CopyNotStarted if a copy ends before that.
    """

    def __init__(self, builds: Sequence[Build]) -> None:
        self._connections: list[Connection[Any, Any]] = []
        self._processes = []
        for build in builds:
            here, there = SPAWN.Pipe()
            process = process_of("copy", serve, build, there)
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)
        ready = self._wait_until_ready()
        self.tokenizer, self.vocabulary = ready[0].tokenizer, ready[0].vocabulary
        self.longest, self.positions = ready[0].longest, ready[0].positions

    def load(self, weights: WeightRef) -> None:
        """Load `weights` into every copy; see `Generator.load`.

        Every copy makes the same check, so all accept or all refuse.
        Raises: WeightsRefused if the copies refuse; RuntimeError if only some do.
        """
        for connection in self._connections:
            connection.send(weights)
        refusals = {connection.recv().refusal for connection in self._connections}
        if len(refusals) > 1:
            raise RuntimeError(f"some copies have version {weights.version}, others refused it: {refusals}")
        refusal = refusals.pop()
        if refusal:
            raise WeightsRefused(refusal)

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        """Generate the `waiting` requests on all copies; see `Generator.generate`."""
        for connection in self._connections:
            connection.send(StartGeneration(sampling))
        running = 0
        try:
            while waiting or running:
                running += self._distribute(waiting)
                finished: list[Generated] = []
                ready = wait(self._connections, POLL_SECONDS)
                for connection in self._connections:
                    if connection in ready:
                        finished += connection.recv()
                running -= len(finished)
                yield finished
        finally:
            self._cancel()

    def score(self, requests: Sequence[ScoringRequest]) -> Iterator[list[Score]]:
        """Compute log-probs of given texts; see `Generator.score`.

        Texts go to the copies in blocks, in turn.
        """
        blocks = deque(range(0, len(requests), SCORED_AT_A_TIME))
        while blocks:
            asked = []
            for connection in self._connections[: len(blocks)]:
                start = blocks.popleft()
                connection.send(ScoreRequests(list(requests[start : start + SCORED_AT_A_TIME])))
                asked.append((start, connection))
            # Yield a whole round, so that an iterator that is closed early leaves no reply in a connection.
            yield [
                replace(score, place=start + score.place)
                for start, connection in asked
                for score in connection.recv()
            ]

    def close(self) -> None:
        """End every copy, including those that have already exited."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join()

    def _wait_until_ready(self) -> list[GeneratorProperties]:
        """Wait for every copy's start.

        Raises: CopyNotStarted if one ends before; the others are ended, too. At its exit this process waits for its
            children, and a copy that has started waits for requests.
        """
        ready: list[GeneratorProperties] = []
        try:
            for connection in self._connections:
                ready.append(connection.recv())
        except (EOFError, ConnectionResetError) as error:
            for process in self._processes:
                process.kill()
            self.close()
            raise CopyNotStarted(
                f"copy {len(ready) + 1} of {len(self._processes)} of the model ended while it started, for the reason "
                "above in this log; if the GPU has too little memory, lower hardware.gpu_memory_fraction or "
                "hardware.worker_copies"
            ) from error
        return ready

    def _distribute(self, waiting: deque[GenerationRequest]) -> int:
        """Send the waiting requests to their copies; return how many they were."""
        count = len(waiting)
        shares: list[list[GenerationRequest]] = [[] for _ in self._connections]
        while waiting:
            request = waiting.popleft()
            shares[request.prompt % len(shares)].append(request)
        for connection, share in zip(self._connections, shares, strict=True):
            if share:
                connection.send(AddRequests(share))
        return count

    def _cancel(self) -> None:
        for connection in self._connections:
            connection.send(CancelGeneration())
        for connection in self._connections:
            while not isinstance(connection.recv(), GenerationCancelled):
                continue


def serve(build: Build, connection: Connection[Any, Any]) -> None:
    """Run a copy's process.

    Build the generator and serve until the connection closes.
    """
    generator = build()
    try:
        facts = GeneratorProperties(
            generator.tokenizer, generator.vocabulary, generator.longest, generator.positions
        )
        connection.send(facts)
        while True:
            message = connection.recv()
            if isinstance(message, WeightRef):
                connection.send(WeightsLoaded(_refusal(generator, message)))
            elif isinstance(message, StartGeneration):
                _generate(generator, message, connection)
            elif isinstance(message, ScoreRequests):
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


def _generate(generator: Generator, begin: StartGeneration, connection: Connection[Any, Any]) -> None:
    """Generate requested completions until `CancelGeneration` arrives."""
    waiting: deque[GenerationRequest] = deque()
    while True:
        for finished in generator.generate(waiting, begin.sampling):
            if finished:
                connection.send(finished)
            while connection.poll():
                if _is_cancelled(connection, waiting):
                    return
        if _is_cancelled(connection, waiting):
            return


def _is_cancelled(connection: Connection[Any, Any], waiting: deque[GenerationRequest]) -> bool:
    """Wait for one message and handle it.

    Return True if it ends the generation.
    """
    message = connection.recv()
    if isinstance(message, CancelGeneration):
        connection.send(GenerationCancelled())
        return True
    waiting.extend(message.requests)
    return False


# mypy checks here that the class has every method of the protocol, with the same types.
_generator: type[Generator] = GeneratorCopies
