"""A trainer rank that runs out of memory ends all ranks; the next start goes on with half the budget from that pass on.

The real stage on two real ranks over gloo, as the trainer runs it; what is not here is the supervisor, which starts a
trainer again that died. No CPU runs out of a GPU's memory, so the error itself is thrown in. Processes are forked, from
one that has loaded the libraries.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.multiprocessing.spawn import start_processes

from engine.context import Context, StageFailed
from engine.ipc import rank_processes
from engine.ipc.rank_processes import RankArguments, run_follower, run_on_ranks
from engine.machine import ranks
from engine.training.memory import TokenBudget
from engine.training.packing import Packed
from engine.training.policy import Policy
from store.records import Event, Record, Scalar, from_json, to_json
from tests.support.stages_alone import prepared

T = TypeVar("T")
Fault = Callable[[], None]  # what is done to the trainer before its ranks are forked from it

WHOLE, HALF = 96, 48  # packed tokens; a row has some 8, a batch 32
SETTINGS = (
    "hardware.trainer_processes=2",
    f"sft.tokens_per_microbatch={WHOLE}",
    "sft.steps=6",
    "sft.checkpoint_every=2",
    "sft.validate_every=0",
)
REMEDY = "lower sft.tokens_per_microbatch or set sft.gradient_checkpointing = true"
FIRST = "rank 1 (cpu) ran out of memory in step 4 with 96 packed tokens per microbatch"
AGAIN = "rank 0 (cpu) ran out of memory in step 6 with 48 packed tokens per microbatch"


def test_the_next_start_goes_on_with_half_the_budget_from_there_on(tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload(["engine.stages.sft", "transformers.models.qwen2.modeling_qwen2"])
    context, _ = prepared(tmp_path, *SETTINGS)
    context = replace(context, stage="sft", arm=context.profile.arm("sft"))

    status, undisturbed = start(context, "straight", partial(halves_by_itself, 3))
    expected = losses(undisturbed)
    assert (status, list(expected), warnings(undisturbed)) == (0, [1, 2, 3, 4, 5, 6], [])

    status, told = start(context, "run", partial(runs_short, 1, (3, WHOLE)))
    assert (status, warnings(told)) == (1, [])
    assert losses(told) == {step: expected[step] for step in (1, 2, 3)}
    log = log_of(context, "run", 1)
    assert "torch.OutOfMemoryError: " in log
    assert f"OutOfMemory: {FIRST}; the trainer stops on all ranks" in log

    halved = [f"{FIRST}; the budget is 48 from there on. To avoid this, {REMEDY}"]
    status, told = start(context, "run", partial(runs_short, 0, (5, HALF)))  # from the checkpoint of step 2
    assert (status, warnings(told)) == (1, halved)
    assert losses(told) == {step: expected[step] for step in (3, 4, 5)}

    status, told = start(context, "run")
    assert (status, losses(told)) == (0, {})
    assert failures(told) == [f"{AGAIN}, already half of the budget; in a new run, {REMEDY}"]

    status, told = start(context, "run")  # a person has resumed it all the same
    assert (status, warnings(told), failures(told)) == (0, halved, [])
    assert losses(told) == {step: expected[step] for step in (5, 6)}


def start(context: Context, run: str, fault: Fault | None = None) -> tuple[int | None, list[Record]]:
    """A start of the trainer: its exit status, and what it told."""
    folder = replace(context.folder, run_id=run)
    folder.path.mkdir(exist_ok=True)
    told = folder.path / "told.jsonl"
    told.unlink(missing_ok=True)
    context = replace(context, folder=folder, emit=partial(write, told))
    trainer = multiprocessing.get_context("forkserver").Process(target=lead, args=(context, fault))
    trainer.start()
    trainer.join()
    return trainer.exitcode, [from_json(json.loads(line)) for line in told.read_text().splitlines()]


def write(path: Path, record: Record) -> None:
    with path.open("a") as file:
        file.write(json.dumps(to_json(record)) + "\n")


def log_of(context: Context, run: str, rank: int) -> str:
    return (replace(context.folder, run_id=run).path / f"{rank}.log").read_text()


def lead(context: Context, fault: Fault | None) -> None:
    """The life of the trainer's own process."""
    torch.set_num_threads(1)
    write_errors_to(context.folder.path, 0)
    rank_processes.start_processes = fork  # type: ignore[attr-defined]
    if fault is not None:
        fault()
    try:
        run_on_ranks(context)
    except StageFailed as error:
        context.emit(Event("stage", str(error), payload={"status": "failed"}))


def fork(function: object, args: tuple[RankArguments], nprocs: int, join: bool) -> Any:
    assert function is run_follower
    return start_processes(further, args, nprocs, join, start_method="fork")  # type: ignore[no-untyped-call]


def further(place: int, part: RankArguments) -> None:
    write_errors_to(part.folder.path, place + 1)
    run_follower(place, part)


def write_errors_to(folder: Path, rank: int) -> None:
    os.dup2(os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)


def runs_short(rank: int, where: tuple[int, int]) -> None:
    """On `rank` the second microbatch of the pass `where`, a step and its budget, does not fit."""
    run, cross_entropy = TokenBudget.run, Policy.cross_entropy
    fed: list[tuple[int, int]] = []

    def watched(budget: TokenBudget, step: int, work: Callable[[int], T], clear: Callable[[], None]) -> T:
        def noted(tokens: int) -> T:
            fed[:] = [(step, tokens)]
            return work(tokens)

        return run(budget, step, noted, clear)

    def limited(policy: Policy, packed: Packed) -> tuple[torch.Tensor, int]:
        if ranks.rank() == rank and fed == [where, where]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        fed.append(fed[0])
        return cross_entropy(policy, packed)

    TokenBudget.run = watched  # type: ignore[method-assign]
    Policy.cross_entropy = limited  # type: ignore[method-assign]


def halves_by_itself(first: int) -> None:
    """Steps before `first` have the whole budget, `first` and later ones half: what a shortage comes to."""

    def scheduled(budget: TokenBudget, step: int, work: Callable[[int], T], clear: Callable[[], None]) -> T:
        return work(HALF if step >= first else WHOLE)

    TokenBudget.run = scheduled  # type: ignore[method-assign]


def losses(told: list[Record]) -> dict[int, float]:
    return {row.step: row.value for row in told if isinstance(row, Scalar) and row.metric == "sft/train/loss"}


def warnings(told: list[Record]) -> list[str]:
    return [row.message for row in told if isinstance(row, Event) and row.payload.get("level") == "warning"]


def failures(told: list[Record]) -> list[str]:
    return [row.message for row in told if isinstance(row, Event) and row.payload.get("status") == "failed"]
