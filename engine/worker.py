"""The worker process: generate, grade and return completions.

The trainer sends the jobs.

    jobs ─▶ queue by priority ─▶ load weights ─▶ generate ─▶ grade ─▶ Completion …, JobDone

One job is generated at a time and never mixed with another. If a job cannot be done, the worker returns
JobFailed and takes the next one. If the trainer exits, its unfinished work is dropped. If the supervisor
sends `stop` or dies, the worker exits between two tokens.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from engine.artifacts import arms
from engine.context import StageFailed
from engine.generators.groups import Groups
from engine.generators.interface import (
    Generated,
    GenerationRequest,
    Generator,
    JobRefused,
    WeightsRefused,
    text_of,
)
from engine.grading import grade, read_gold
from engine.ipc.channels import ChannelClosed, Receiver, Sender
from engine.ipc.child import WorkerChild
from engine.protocol.messages import (
    Completion,
    Job,
    JobDone,
    JobFailed,
    Prompt,
    Stop,
    SuiteDone,
    SuiteJob,
    SuiteProgress,
    WeightRef,
    Work,
    WorkerRequest,
    WorkerResult,
    completion_seed,
)
from profiles.schema import Model
from store.events import PhaseChange
from store.home import RunFolder
from store.records import Event, Record, Scalar
from store.run_config import read_config


class WorkerInterface(Protocol):
    """The worker's interface to its process.

    `engine.ipc.child.WorkerChild` implements it.
    """

    jobs: Receiver[WorkerRequest]
    results: Sender[WorkerResult]

    def emit(self, record: Record) -> None:
        """Send `record` to the journal."""

    def await_trainer(self) -> bool:
        """Wait for a trainer and connect `jobs` and `results` to it.

        Returns: False if the worker must exit.
        """


class StopReceived(Exception):
    """Raised if the trainer sent Stop."""


def main(folder: RunFolder, child: WorkerChild) -> None:
    """Serve jobs until a stop.

    Load the model at once if it exists, else with the first job.
    """
    profile = read_config(folder.config).valid_profile

    def generator() -> Generator | None:
        try:
            source = arms.tokenizer_source(folder, profile)
        except StageFailed:
            # The stage `pretrain` has not created the base model yet.
            return None
        # Import late: this loads torch and the generator's library.
        from engine.generators.build import build

        return build(
            profile, source, lambda phase, detail: child.emit(_phase(phase, detail)), child.trainer_idle
        )

    Worker(child, generator, lambda weights: with_local_folder(weights, profile.model)).serve()


def with_local_folder(weights: WeightRef, model: Model) -> WeightRef:
    """Return `weights` with a local folder in place of a hub name.

    The hub name is that of the profile's model.
    """
    if weights.location != model.source:
        return weights
    from engine.generators.checkpoint import model_folder

    return replace(weights, location=str(model_folder(model.source, model.revision)))


def _phase(phase: str, detail: str) -> Event:
    return PhaseChange(phase, detail).event(f"worker: {phase}")


@dataclass(slots=True)
class JobTotals:
    """Time (seconds) and tokens that a job has taken so far."""

    idle: float
    loading: float = 0.0
    generating: float = 0.0
    generated_tokens: int = 0
    prompt_tokens: int = 0


@dataclass(order=True, slots=True)
class _Waiting:
    """A job in the queue: lower priority first, then the older one."""

    priority: int
    job_id: int
    job: Work = field(compare=False)


def _unless_damaged(build: Callable[[], Generator | None]) -> Generator | None:
    """Return the first generator; None if the model is damaged.

    The trainer finds that too, and trains the model again. The first job then builds the generator.
    """
    try:
        return build()
    except WeightsRefused:
        return None


class Worker:
    """Serves one job after another.

    `build` returns the generator, or None before the first model exists. `locate` returns weights with their
    place on this machine.
    """

    def __init__(
        self,
        child: WorkerInterface,
        build: Callable[[], Generator | None],
        locate: Callable[[WeightRef], WeightRef] = lambda weights: weights,
    ) -> None:
        self._child = child
        self._build = build
        self._locate = locate
        self._generator = _unless_damaged(build)
        self._waiting: list[_Waiting] = []
        # Arm, version and location of the weights in the generator.
        self._serving: tuple[str, int, str] | None = None

    def serve(self) -> None:
        """Serve jobs until Stop arrives or the process must stop; then close.

        If the trainer exits, its jobs are dropped, and the worker waits for the next trainer.
        """
        try:
            while True:
                try:
                    self._serve_next()
                except ChannelClosed:
                    self._waiting.clear()
                    if not self._child.await_trainer():
                        return
        except StopReceived:
            return
        finally:
            if self._generator is not None:
                self._generator.close()

    def _serve_next(self) -> None:
        started = time.perf_counter()
        while not self._waiting:
            self._accept(self._child.jobs.get())
        self._accept_arrived()
        job = heapq.heappop(self._waiting).job
        totals = JobTotals(idle=time.perf_counter() - started)
        try:
            if isinstance(job, SuiteJob):
                self._evaluate(job)
            else:
                self._run_job(job, totals)
        except JobRefused as error:
            self._child.results.put(JobFailed(job.job_id, job.kind, str(error)))

    def _accept_arrived(self) -> None:
        """Queue the jobs that have arrived, without waiting.

        Ended and ChannelClosed end the current job.
        """
        while (request := self._child.jobs.get(0.0)) is not None:
            self._accept(request)

    def _accept(self, request: WorkerRequest | None) -> None:
        if isinstance(request, Stop):
            raise StopReceived
        if request is not None:
            heapq.heappush(self._waiting, _Waiting(request.priority, request.job_id, request))

    def _run_job(self, job: Job, totals: JobTotals) -> None:
        clock = time.perf_counter()
        generator = self._with_weights(job.weights)
        check(job, generator)
        totals.loading = time.perf_counter() - clock
        clock = time.perf_counter()
        kept = self._generate(job, generator, totals)
        totals.generating = time.perf_counter() - clock
        self._child.results.put(
            JobDone(
                job.job_id,
                job.kind,
                job.weights.version,
                kept,
                totals.generated_tokens,
                totals.prompt_tokens,
                totals.generating,
                totals.loading,
                totals.idle,
            )
        )
        self._report(job, totals)

    def _evaluate(self, job: SuiteJob) -> None:
        """Evaluate a suite job and return the rows of its task."""
        # Import late: this loads lm-eval.
        from engine.lm_eval_suite.evaluate import evaluate
        from engine.lm_eval_suite.model import GeneratorModel
        from engine.lm_eval_suite.window import effective

        def report(done: int, total: int) -> None:
            self._child.results.put(SuiteProgress(job.job_id, job.kind, done, total))

        generator = self._with_weights(job.weights)
        window = effective(job.task.window, generator.positions) if job.task.window else 0
        if window > generator.longest:
            raise JobRefused(
                f"eval.window: {window} tokens exceed hardware.max_model_len = {generator.longest}; lower it"
            )
        model = GeneratorModel(generator, self._accept_arrived, job.task.seed, window, report)
        rows = tuple(evaluate(model, job.task, job.weights.arm, job.weights.version))
        self._child.results.put(SuiteDone(job.job_id, job.kind, rows))

    def _with_weights(self, weights: WeightRef) -> Generator:
        """Return the generator with `weights` loaded; build it first if needed."""
        if self._generator is None:
            self._generator = self._build()
        if self._generator is None:
            raise JobRefused("there is no model yet to load: the base arm has no checkpoint; train it first")
        wanted = (weights.arm, weights.version, weights.location)
        if wanted != self._serving:
            # Rejected weights may have partly replaced the old ones, so nothing counts as loaded until `load`
            # succeeds.
            self._serving = None
            self._generator.load(self._locate(weights))
            self._serving = wanted
        return self._generator

    def _generate(self, job: Job, generator: Generator, totals: JobTotals) -> tuple[int, ...]:
        """Send the job's completions as they finish.

        Return the prompt indices of the groups to use.
        """
        groups = Groups(job)
        golds = {prompt.index: prompt.gold for prompt in job.prompts}
        waiting: deque[GenerationRequest] = deque()

        def ask(prompt: Prompt) -> None:
            waiting.extend(requests(job, prompt))
            totals.prompt_tokens += len(prompt.token_ids)

        for prompt in groups.first():
            ask(prompt)
        for batch in generator.generate(waiting, job.sampling):
            for generated in batch:
                completion = graded(job, generated, golds[generated.prompt], generator)
                self._child.results.put(completion)
                totals.generated_tokens += len(generated.token_ids)
                spare = groups.finished(generated.prompt, completion.outcome == "correct")
                if spare is not None:
                    ask(spare)
            self._accept_arrived()
        return groups.kept()

    def _report(self, job: Job, totals: JobTotals) -> None:
        """Emit the worker's metrics under the step that its rollouts are for.

        Step N is the N-th update.
        """
        if job.kind != "rollout":
            return
        arm, step = job.weights.arm, job.step
        speed = totals.generated_tokens / max(totals.generating, 1e-9)
        self._child.emit(Scalar(f"{arm}/worker/tokens_per_second", step, speed))
        self._child.emit(Scalar(f"{arm}/worker/idle_seconds", step, totals.idle))
        self._child.emit(Scalar(f"{arm}/worker/loading_seconds", step, totals.loading))


def requests(job: Job, prompt: Prompt) -> Iterable[GenerationRequest]:
    """Yield the generation requests of one prompt, each with its own seed."""
    for sample in range(job.samples):
        seed = completion_seed(job.seed, job.step, prompt.index, sample)
        yield GenerationRequest(prompt.index, sample, prompt.token_ids, seed)


def graded(job: Job, generated: Generated, gold: str, generator: Generator) -> Completion:
    """Return a finished completion with its text and the grader's verdict."""
    text = text_of(generator.tokenizer, generated.token_ids, job.sampling.stop)
    verdict = grade(text, gold, truncated=generated.finish == "length")
    return Completion(
        job.job_id,
        job.kind,
        job.weights.version,
        generated.prompt,
        generated.sample,
        generated.token_ids,
        generated.logprobs,
        generated.finish,
        text,
        verdict.outcome,
        verdict.answer,
    )


def check(job: Job, generator: Generator) -> None:
    """Check that the job is valid for this model.

    Raises: JobRefused with the first fault.
    """
    room = generator.longest - job.sampling.max_new_tokens
    if job.samples < 1 or job.sampling.max_new_tokens < 1 or not job.prompts:
        raise JobRefused("a job needs at least one prompt, one sample and one new token")
    if not 0 <= job.wanted <= len(job.prompts):
        raise JobRefused(f"the job wants {job.wanted} prompts but has {len(job.prompts)}")
    if job.sampling.temperature < 0.0 or not 0.0 < job.sampling.top_p <= 1.0:
        raise JobRefused("sampling needs a temperature of 0 or more and a top_p in (0, 1]")
    if len({prompt.index for prompt in job.prompts}) != len(job.prompts):
        raise JobRefused("two prompts of the job have the same index")
    for prompt in job.prompts:
        ids = prompt.token_ids
        if len(ids) == 0 or int(ids.min()) < 0 or int(ids.max()) >= generator.vocabulary:
            raise JobRefused(
                f"prompt {prompt.ex_id}: its token ids must exist and be below {generator.vocabulary}"
            )
        if len(ids) > room:
            raise JobRefused(
                f"prompt {prompt.ex_id} has {len(ids)} tokens, but {job.sampling.max_new_tokens} new ones "
                f"leave room for {room}; raise hardware.max_model_len"
            )
        try:
            read_gold(prompt.gold)
        except ValueError as error:
            raise JobRefused(f"prompt {prompt.ex_id}: {error}") from error
