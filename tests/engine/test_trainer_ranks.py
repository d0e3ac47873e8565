"""Two trainer ranks in a real run: one rank's numbers, one rank's commands, and nobody outlives the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.context import Context
from engine.errors import LaunchError
from engine.ipc.pidfile import Process, lock_path, pid_path, recorded
from engine.ipc.process_tree import marked
from engine.machine.gpus import Gpu
from engine.plan import Step
from engine.stages import stage
from engine.startup import launch
from engine.startup.preflight import check_devices
from engine.weight_sync.slots import remove_slots
from profiles.load import load
from store.home import RunFolder
from store.journal import read
from store.records import Event, Scalar
from tests.support.small_experiment import PROFILE, make_inputs, scalars, until
from tests.support.stage_context import NoCommands

ARMS = """[[arms]]
name = "base"
stage = "none"
[[arms]]
name = "sft"
stage = "sft"
parent = "base"
[[arms]]
name = "grpo"
stage = "grpo"
parent = "base"
"""
# Small microbatches, so that there are several for each rank; reward by length, as an untrained model answers nothing.
SETTINGS = (
    "sft.steps=80",
    "sft.learning_rate=1e-3",  # at 5e-3 rounding grows to a per cent within 30 steps
    "sft.tokens_per_microbatch=96",
    "grpo.steps=1000",
    "grpo.tokens_per_microbatch=96",
    "grpo.overlong_buffer=8",
    "grpo.minibatches=2",
    "grpo.old_logprobs=trainer",
)
COMPARED = ("train/loss", "train/grad_norm", "train/entropy", "ratio/max", "train/tokens")
NEAR = 1e-3


def test_two_ranks_are_one_trainer(tmp_path: Path) -> None:
    profile = make_inputs(tmp_path / "inputs")
    profile.write_text(PROFILE.format(folder=profile.parent).partition("[[arms]]")[0] + ARMS)
    home = tmp_path / "home"
    two = load(str(profile), [*SETTINGS, "hardware.trainer_processes=2"])
    folder = RunFolder(home, launch.start_run(home, two, ("data", "preprocess", "sft", "grpo"), 0))

    # A rank that is killed, while the run is paused, takes the trainer with it; that goes on from its checkpoint.
    paused_at = pause_after(folder, "sft", 3)
    trainer, other = ranks_of(folder)
    other.kill()
    until(lambda: ranks_of(folder)[:1] not in ([], [trainer]), "the trainer is another")
    launch.command(home, folder.run_id, "resume")
    until(lambda: (folder.path / "finished" / "sft").is_file(), "sft is done")
    assert f"continues from step {paused_at}" in messages(folder)

    # Nobody is left when supervisor and rank 0 are killed together.
    done = pause_after(folder, "grpo", 3)
    supervisor, (trainer, other) = recorded(lock_path(folder)), ranks_of(folder)
    assert supervisor is not None
    for process in (supervisor, trainer):
        process.kill()
    until(lambda: not other.is_alive, "the other rank has ended")
    until(lambda: not list(marked(folder, "worker")), "the worker has ended")
    remove_slots(folder.run_id)  # the next supervisor's work

    for arm, steps, settings in (("sft", 80, ()), ("grpo", done, (f"grpo.replay={folder.run_id}",))):
        expected = one_rank(home, profile, arm, steps, settings)
        found = curves(folder, arm)
        assert {step for _, step in found} >= set(range(1, steps + 1))
        for (metric, step), value in expected.items():
            assert found[metric, step] == pytest.approx(value, rel=NEAR), (metric, step)
        alone = AutoModelForCausalLM.from_pretrained(checkpoint(RunFolder(home, f"alone-{arm}"), arm, steps))
        for name, weight in AutoModelForCausalLM.from_pretrained(
            checkpoint(folder, arm, steps)
        ).named_parameters():
            if not name.endswith("k_proj.bias"):  # almost no gradient but rounding, which Adam blows up
                torch.testing.assert_close(weight, alone.get_parameter(name), rtol=NEAR, atol=NEAR)


def pause_after(folder: RunFolder, arm: str, steps: int) -> int:
    """Pauses the run after so many steps of the arm, with a checkpoint; how many were done."""
    until(lambda: len(losses(folder, arm)) >= steps, f"{arm} trains")
    launch.command(folder.home, folder.run_id, "pause")
    until(lambda: states(folder)[-1] == "paused", "the run is paused")
    launch.command(folder.home, folder.run_id, "checkpoint")
    done = len(losses(folder, arm))
    until(lambda: checkpoint(folder, arm, done).is_dir(), "there is a checkpoint")
    return done


def ranks_of(folder: RunFolder) -> list[Process]:
    """The trainer's processes, rank 0 first."""
    rank_0 = recorded(pid_path(folder, "trainer"))
    if rank_0 is None or not rank_0.is_alive:
        return []
    return [rank_0, *(Process.of(pid) for pid in marked(folder, "trainer") if pid != rank_0.pid)]


def one_rank(
    home: Path, profile: Path, arm: str, steps: int, settings: tuple[str, ...]
) -> dict[tuple[str, int], float]:
    """The curves of the same stage in this process alone; the rollouts are those that the two ranks recorded."""
    folder = RunFolder(home, f"alone-{arm}")
    folder.path.mkdir()
    alone = load(str(profile), [*SETTINGS, *settings, f"{arm}.steps={steps}"])
    told: list[object] = []
    stage(arm)(Context(folder, alone, 0, arm, alone.arm(arm), told.append, NoCommands(), None))
    return compared([row for row in told if isinstance(row, Scalar)])


def curves(folder: RunFolder, arm: str) -> dict[tuple[str, int], float]:
    return compared([row for row in scalars(folder) if row.metric.startswith(f"{arm}/")])


def compared(rows: list[Scalar]) -> dict[tuple[str, int], float]:
    return {(row.metric, row.step): row.value for row in rows if row.metric.endswith(COMPARED)}


def losses(folder: RunFolder, arm: str) -> list[Scalar]:
    return [row for row in scalars(folder) if row.metric == f"{arm}/train/loss"]


def states(folder: RunFolder) -> list[str]:
    return [event.payload["state"] for event in events(folder) if event.kind == "state"]


def messages(folder: RunFolder) -> list[str]:
    return [event.message for event in events(folder) if event.kind == "log"]


def events(folder: RunFolder) -> list[Event]:
    return [record for record in read(folder.journal)[0] if isinstance(record, Event)]


def checkpoint(folder: RunFolder, arm: str, step: int) -> Path:
    return folder.checkpoints(arm) / f"step_{step:06d}"


def test_a_worker_on_a_trainer_ranks_gpu_is_refused() -> None:
    found = [Gpu(index, f"GPU-{index}", "H100", 80.0) for index in range(4)]
    profile = load("qwen2.5-math-1.5b", ["hardware.trainer_processes=2", "hardware.generator=transformers"])
    with pytest.raises(
        LaunchError, match="takes cuda:1, which a trainer rank uses; --set hardware.worker=cuda:2"
    ):
        check_devices(profile, [Step("eval")], found)
    check_devices(profile, [Step("data")], found)
