"""Stopping a stage that trains: it waits for nobody but the disk, and goes on later as if nothing had been."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.artifacts.digests import Digest
from engine.context import Context, StopRequested
from engine.ipc.step_control import StepControl
from engine.ipc.worker_client import WorkerClient
from engine.protocol.messages import Job
from engine.training import checkpoint, tensor_image
from engine.training.arm_training import Training
from engine.training.direct_io import write_durably
from store.home import RunFolder
from store.records import Record, Scalar
from tests.support.stages_alone import HandWorker, StopsAt, Waits, prepared, train

SETTINGS = (
    "sft.steps=6",
    "sft.validate_every=2",
    "sft.checkpoint_every=0",
    "grpo.steps=5",
    "grpo.staleness=2",
    "grpo.overlong_buffer=8",
    "grpo.validate_every=2",
    "grpo.checkpoint_every=0",
)
LEARNED = ("train/loss", "train/grad_norm", "reward/mean", "val/pass_at_1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Preprocessed rows, and arms in place: those of a run that nothing disturbed."""
    context, _ = prepared(tmp_path_factory.mktemp("run"), *SETTINGS)
    for arm in ("sft", "sft+grpo"):
        train(context, arm, HandWorker())
    return context


def again(run: Context, name: str) -> tuple[Context, list[Record]]:
    """Another run on the same rows, with the SFT arm of the first."""
    told: list[Record] = []
    folder = RunFolder(run.folder.home, name)
    folder.checkpoints("sft").parent.mkdir(parents=True)
    folder.checkpoints("sft").symlink_to(run.folder.checkpoints("sft"))
    return replace(run, folder=folder, emit=told.append), told


def curves(told: list[Record]) -> dict[tuple[str, int], float]:
    rows = [row for row in told if isinstance(row, Scalar)]
    return {(row.metric, row.step): row.value for row in rows if row.metric.endswith(LEARNED)}


def never(job: Job) -> bool:
    return True


def only_validation_waits(job: Job) -> bool:
    return job.kind == "validation"


def late_rollouts_wait(job: Job) -> bool:
    return job.kind == "validation" or job.step >= 3


@pytest.mark.parametrize(
    ("arm", "waits", "boundary"),
    [("sft", never, 5), ("sft+grpo", only_validation_waits, 3), ("sft+grpo", late_rollouts_wait, 12)],
    ids=["sft", "between two steps", "waiting for rollouts"],
)
def test_a_stop_waits_for_no_answer_and_the_resumed_curves_lack_nothing(
    run: Context, arm: str, waits: Waits, boundary: int
) -> None:
    straight, expected = again(run, f"straight-{arm}-{boundary}")
    cut, told = again(run, f"cut-{arm}-{boundary}")
    if arm == "sft":
        straight.folder.checkpoints("sft").unlink()
        cut.folder.checkpoints("sft").unlink()
    train(straight, arm, HandWorker())
    with pytest.raises(StopRequested):
        train(cut, arm, HandWorker(waits), StopsAt(boundary))
    saved = checkpoint.latest(cut.folder.checkpoints(arm))
    assert saved is not None and checkpoint.extra_weights(saved)
    before = set(curves(told))
    train(cut, arm, HandWorker())
    assert curves(told) == curves(expected)
    assert any(key not in before and key[0].endswith("val/pass_at_1") for key in curves(told))
    # No job needs the newest one's any more; an older one may have to stand in for it, and keeps them.
    newest = checkpoint.latest(cut.folder.checkpoints(arm))
    assert newest is not None and not checkpoint.extra_weights(newest)


class Orphaned(StepControl):
    """What a trainer whose supervisor dies before its boundary number `place` has for orders."""

    def __init__(self, place: int, link: WorkerClient) -> None:
        super().__init__(lambda notice: None, lambda: None)
        self._place = place
        self._link = link

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        self._place -= 1
        if self._place == -1:
            self.stop()
            self._link.end()
        super().boundary(save)


def test_an_orphan_saves_what_its_worker_will_never_answer(run: Context) -> None:
    straight, expected = again(run, "straight-orphan")
    cut, told = again(run, "orphan")
    for context in (straight, cut):
        context.folder.checkpoints("sft").unlink()
    train(straight, "sft", HandWorker())
    link = WorkerClient()
    with pytest.raises(StopRequested):
        train(cut, "sft", link, Orphaned(5, link))
    saved = checkpoint.latest(cut.folder.checkpoints("sft"))
    assert saved is not None and saved.name == "step_000005"
    train(cut, "sft", HandWorker())
    assert curves(told) == curves(expected)


def test_the_model_is_let_go_before_the_checkpoint_is_written(
    run: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = again(run, "let-go")
    models: list[weakref.ref[object]] = []
    gone = threading.Event()
    make = Training.__init__

    def noted(training: Training, *arguments: object) -> None:
        make(training, *arguments)  # type: ignore[arg-type]
        models.append(weakref.ref(training.policy.model, lambda _: gone.set()))

    def write_when_it_is_gone(path: Path, parts: Sequence[memoryview]) -> Digest:
        assert gone.wait(60.0), "the model is still there"
        return write_durably(path, parts)

    monkeypatch.setattr(Training, "__init__", noted)
    monkeypatch.setattr(tensor_image, "write_durably", write_when_it_is_gone)
    with pytest.raises(StopRequested):
        train(context, "sft+grpo", HandWorker(), StopsAt(2))
    assert models[0]() is None
    assert checkpoint.latest(context.folder.checkpoints("sft+grpo")) is not None
