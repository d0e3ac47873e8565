"""The stage `eval`: every arm answers every held-out question.

Each question is asked in every prompt form of the profile. Decoding is greedy unless the profile sets
otherwise. All questions stay in the denominator: a completion that was cut off or has no answer counts as
wrong. Each finished task is recorded and marked, so that a restart repeats only unfinished tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.arms import standing
from engine.artifacts.finished import mark_task, task_mark
from engine.context import Context, StageFailed
from engine.data import inputs
from engine.data.dataset import PLATINUM
from engine.data.inputs import SplitName
from engine.lm_eval_suite import units as suite
from engine.lm_eval_suite.unmeasured import AttemptedTasks, Failure, judge, refuse_nothing
from engine.pending_jobs import PendingJobs
from engine.protocol.messages import Completion, Job, Prompt, Sampling, WeightRef, derived_seed
from engine.server_client.client import CONCURRENCY, Served
from engine.server_client.errors import ServerError
from engine.server_client.models import only_model
from engine.server_client.tokenizer import ServerTokenizer
from engine.training.fallback import whole_model
from engine.training.validation import example
from profiles.schema import Arm
from store.events import InputReport, LogLine, ProgressReport
from store.records import Record, Scalar

# The arm name of a served model that does not belong to the run.
SERVED = "served"
# Completions. Fewer are generated faster than another copy of the model starts, which takes about a minute.
MANY = 10_000
# A base model with few-shot prompts would otherwise invent the next question.
STOPS = ("\nQuestion:",)


@dataclass(frozen=True, slots=True)
class TestForm:
    """A task: one form of the test questions.

    It is a split under a template, with `shots` worked examples. `name` is the task's name in the results.
    """

    name: str
    split: SplitName
    template: str
    shots: int


def run(context: Context) -> None:
    """Evaluate every arm that has a model; log and skip arms without one.

    Raises:
        StageFailed: if all of the run's own tasks or all suite tasks failed.
        StageIncomplete: if some tasks failed. A resume repeats those.
    """
    url = context.profile.eval.server.rstrip("/")
    if url:
        _ask_server(context, url)
        return
    if context.generation is None:
        raise StageFailed("eval: internal error: the run has no worker to generate with; please report it")
    arms = list(_arms_with_models(context))
    if not arms:
        raise StageFailed("eval: no arm of the run has a model; train one first")
    if is_long(context, arms):
        context.control.announce_training_done()
    pending_jobs = PendingJobs(context.generation)
    own = _ask(context, pending_jobs, arms)
    refuse_nothing(own)
    every = suite.units(context, arms, [task.name for task in tasks(context)])
    failures = suite.run(context, pending_jobs, suite.unfinished(context, every))
    judge(own, AttemptedTasks("suite tasks", len(every), failures))


def _ask_server(context: Context, url: str) -> None:
    """Evaluate the one model of a server.

    It has its arm's name if it belongs to the run, else `served`.
    """
    model = only_model(url)
    known = {weights.location: (arm, weights) for arm, weights in _arms_with_models(context)}
    by_ids = model.root in known
    arm, weights = known.get(model.root, (Arm(name=SERVED, stage="none"), WeightRef(SERVED, 0, model.name)))
    message = f"{url} serves {model.name}, recorded as arm {arm.name}"
    context.emit(LogLine("info").event(message, "eval", arm.name))
    if context.profile.eval.suite:
        left_out = (
            f"eval.suite is skipped: {url} only gets the run's own tasks; use lm-eval itself for the others"
        )
        context.emit(LogLine("warning").event(left_out, "eval", arm.name))
    encode = None if by_ids else _server_encoder(context, url, model.name, arm)
    judge(_ask(context, PendingJobs(Served(url, model, by_ids, encode)), [(arm, weights)]))


def _server_encoder(context: Context, url: str, model: str, arm: Arm) -> Callable[[Prompt], list[int]] | None:
    """Return an encoder that uses the server's own tokenizer.

    Warn and return None if that fails.
    """
    try:
        return ServerTokenizer(url, model, CONCURRENCY).encode
    except (ServerError, ValueError, LookupError, TypeError) as error:
        reason = str(error) if isinstance(error, ServerError) else f"{type(error).__name__}: {error}"
        message = (
            f"{url} cannot tokenise ({reason}), so prompts are sent as text; "
            "the server chooses the special tokens around them"
        )
        context.emit(LogLine("warning").event(message, "eval", arm.name))
        return None


def _ask(
    context: Context, pending_jobs: PendingJobs, arms: Sequence[tuple[Arm, WeightRef]]
) -> AttemptedTasks:
    """Evaluate the run's own tasks on every arm.

    A failed task does not affect the others' results.
    """
    failures: list[Failure] = []
    work = _unfinished(context, arms)
    prompts = {task: tuple(_prompts(context, task)) for task in tasks(context)}
    jobs = [
        (arm, task, _submit(context, pending_jobs, weights, task, prompts[task]))
        for arm, weights, task in work
    ]
    _name_shots(context)
    total = sum(len(job.prompts) * job.samples for _, _, job in jobs)
    done, reported = 0, -1
    for arm, task, job in jobs:
        while not pending_jobs.ready(job.job_id):
            context.control.boundary()
            # Report only changes: repeated progress events would hide a hang.
            if (arrived := done + pending_jobs.arrived(job.job_id)) != reported:
                reported = arrived
                _progress(context, arrived, total)
            pending_jobs.wait()
        answer = pending_jobs.close(job.job_id)
        done += len(job.prompts) * job.samples
        if answer.failed:
            failures.append(Failure(arm.name, f"{task.name}: {answer.failed}"))
            message = f"task failed: {task.name}: {answer.failed}"
            context.emit(LogLine("error").event(message, "eval", arm.name))
        else:
            _record(context, arm, task, job, answer.completions)
    _progress(context, total, total)
    return AttemptedTasks("tasks", len(arms) * len(tasks(context)), failures)


def _unfinished(
    context: Context, arms: Sequence[tuple[Arm, WeightRef]]
) -> list[tuple[Arm, WeightRef, TestForm]]:
    return [
        (arm, weights, task)
        for arm, weights in arms
        for task in tasks(context)
        if not _mark(context, arm, task).is_file()
    ]


def is_long(context: Context, arms: Sequence[tuple[Arm, WeightRef]]) -> bool:
    """Return True if a further copy of the model would save time.

    The remaining work must take longer than the start of the copy.
    """
    samples = context.profile.eval.samples
    asked = sum(len(_prompts(context, task)) * samples for _, _, task in _unfinished(context, arms))
    return bool(context.profile.eval.suite) or asked >= MANY


def tasks(context: Context) -> list[TestForm]:
    """Return the profile's own tasks: set × template × number of shots.

    The task with the template of preprocess and without shots has the name of its set; the others have a
    suffix.
    """
    settings, data, form = context.profile.eval, context.profile.data, context.profile.preprocess.template
    # The source is a hub name (openai/gsm8k), a folder (gsm8k) or a generator (word-problems).
    sets: dict[str, SplitName] = {Path(data.source).name: "test"}
    if data.platinum:
        sets[Path(PLATINUM).name] = "platinum"
    found = []
    for stem, split in sets.items():
        for template in settings.templates or (form,):
            for shots in settings.shots:
                suffix = (f"/{template}" if template != form else "") + (f"/{shots}-shot" if shots else "")
                found.append(TestForm(stem + suffix, split, template, shots))
    return found


def _arms_with_models(context: Context) -> Iterator[tuple[Arm, WeightRef]]:
    for arm in context.profile.arms:
        try:
            standing(context.folder, context.profile, arm)
        except StageFailed as error:
            context.emit(LogLine("warning").event(f"skipped: {error}", "eval", arm.name))
            continue
        location, step = whole_model(context, arm)
        yield arm, WeightRef(arm.name, step, location)


def _name_shots(context: Context) -> None:
    """Record the ids of each task's worked examples."""
    for task in tasks(context):
        if task.shots:
            ids = [row.ex_id for row in inputs.rows(context, "shots")[: task.shots]]
            message = f"{task.name}: worked examples {', '.join(ids)}"
            context.emit(InputReport({"task": task.name, "shots": ids}).event(message, "eval"))


def _prompts(context: Context, task: TestForm) -> list[Prompt]:
    found = inputs.prompts(context, task.split, template=task.template, shots=task.shots)
    return found[: context.profile.eval.limit or None]


def _submit(
    context: Context,
    pending_jobs: PendingJobs,
    weights: WeightRef,
    task: TestForm,
    prompts: tuple[Prompt, ...],
) -> Job:
    settings = context.profile.eval
    sampling = Sampling(
        settings.temperature, settings.max_new_tokens, stop=STOPS if task.template == "plain" else ()
    )
    seed = derived_seed("eval", context.seed, task.name)
    job = Job(
        pending_jobs.next_job_id(),
        "evaluation",
        weights.version,
        weights,
        prompts,
        settings.samples,
        sampling,
        seed,
    )
    pending_jobs.submit(job)
    return job


def _record(context: Context, arm: Arm, task: TestForm, job: Job, completions: Sequence[Completion]) -> None:
    rows = [example(each, job.prompts[each.prompt], arm.name, job.step, task.name) for each in completions]
    rate = sum(each.outcome == "correct" for each in completions) / len(completions)
    records: list[Record] = [*rows, Scalar(f"{arm.name}/eval/{task.name}", job.step, rate)]
    for record in records:
        context.emit(record)
    context.control.flush_records()
    mark_task(_mark(context, arm, task), records)


def _mark(context: Context, arm: Arm, task: TestForm) -> Path:
    return task_mark(context.folder, arm.name, task.name)


def _progress(context: Context, done: int, total: int) -> None:
    context.emit(ProgressReport(done, total, "completions").event("", "eval"))
