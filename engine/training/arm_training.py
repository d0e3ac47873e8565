"""What SFT and GRPO share: policy, optimizer, checkpoints and metrics.

`Training.step` is the number of updates done. The loops themselves are in engine/stages/sft.py and
engine/stages/grpo.py, and read top to bottom.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from engine.artifacts.arms import parent_model
from engine.artifacts.digests import DamagedFile
from engine.context import Context, StageFailed, StopRequested, fault_of
from engine.data import inputs
from engine.machine.gpus import left_to_trainer
from engine.machine.ranks import own_device, world
from engine.protocol.messages import WeightRef
from engine.training import checkpoint
from engine.training.checkpoint_writer import CheckpointWriter
from engine.training.fallback import newest_whole, whole_model
from engine.training.memory import TokenBudget, measure_budget
from engine.training.oom import fail_if_half_was_too_much
from engine.training.optimizer import MasterAdamW, Update
from engine.training.pickled_state import UnsafePickle
from engine.training.policy import Policy
from engine.training.self_check import Tolerance
from engine.training.stage_check import checked_policy
from engine.training.unsupported import UnsupportedModel
from engine.weight_sync.pages import release_gpu
from engine.weight_sync.publisher import Publisher
from engine.weight_sync.slots import TornWeights
from engine.weight_sync.weights import BorrowedSlot, read_weights
from profiles.schema import Arm
from profiles.training import OptimizerSettings as Settings
from store.events import CheckpointSaved, LogLine, ProgressReport
from store.records import Scalar
from store.run_progress import seconds_left

# Raised if a checkpoint file is cut short, empty or missing.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    UnpicklingError,
    SafetensorError,
    TornWeights,
)


class Training:
    """The state of one arm in training, shared by SFT and GRPO.

    The constructor loads the policy, or resumes it from the arm's newest whole checkpoint. It also makes the
    optimizer and measures the token budget. Use it as a context manager; leaving the block ends the
    checkpoint writer.
    Raises: StageFailed if the model or a checkpoint cannot be used.
    """

    def __init__(
        self, context: Context, settings: Settings, total_steps: int, updates_per_step: int = 1
    ) -> None:
        if context.arm is None:
            raise StageFailed(f"stage {context.stage}: it trains an arm, but no arm was given")
        self._began = time.monotonic()
        self.context = context
        self.arm: Arm = context.arm
        self.settings = settings
        self.total_steps = total_steps
        self.root = context.folder.checkpoints(self.arm.name)
        fail_if_half_was_too_much(self.root, context.stage)
        self.device = own_device(context.profile.hardware.trainer)
        resumed = newest_whole(context, self.root)
        self.origin = WeightRef(self.arm.name, 0, self._parent(checked=resumed is None))
        # How far log-probs that are computed in another way may differ from the policy's own.
        self.allowed: Tolerance
        self.policy = self.load_policy(resumed)
        # The model that a KL penalty is measured against, if there is a penalty.
        self.reference: Policy | None = None
        assert self.policy.precision is not None
        self.optimizer = MasterAdamW(self.policy.precision, settings, total_steps * updates_per_step)
        share = left_to_trainer(context.profile.hardware)
        # Measure now, while the optimizer has no moments yet.
        tokens = settings.tokens_per_microbatch or measure_budget(self.policy, share)
        self.step = self._saved_step = 0
        # Time at which the newest checkpoint's content was copied, on the monotonic clock.
        self._saved_at = time.monotonic()
        # Time of the first progress report, on the monotonic clock, and its step.
        self._first: tuple[float, int] | None = None
        self._checkpoints = CheckpointWriter(self.root, settings.keep_checkpoints, self._emit_checkpoint)
        # True once host memory is allocated, so that a save need not wait for it.
        self._can_save = False
        self.resumed: dict[str, Any] = {}
        # Older weights in the checkpoint.
        self._extra_weights: list[WeightRef] = []
        if resumed is not None:
            with fail_if_unreadable(resumed):
                self.resumed = checkpoint.load(resumed, self.optimizer)
            self.step = int(self.resumed["step"])
            self._extra_weights = [
                WeightRef(self.arm.name, version, str(path))
                for version, path in checkpoint.extra_weights(resumed).items()
            ]
            self._saved_step = self.step
            if self.step:
                text = f"continues from step {self.step}"
                context.emit(LogLine("info").event(text, context.stage, self.arm.name, self.step))
        self.budget = TokenBudget(tokens, self.root, context.stage, self.device, self.warn)

    def _parent(self, checked: bool) -> str:
        """Return the model folder or hub name that the arm starts from.

        If `checked`, verify its files first.
        """
        context = self.context
        if checked and self.arm.parent:
            return whole_model(context, context.profile.arm(self.arm.parent))[0]
        return parent_model(context.folder, context.profile, self.arm)

    def load_policy(self, resumed: Path | None) -> Policy:
        """Load the arm's policy from a checkpoint or its parent.

        It is compared with the model's own forward.
        Raises: StageFailed if a file is damaged, or if this project cannot compute the model exactly.
        """
        wanted = self.context.profile.model
        with fail_if_unreadable(resumed), fail_if_unsupported():
            policy, self.allowed = checked_policy(
                resumed or self.origin.location,
                self.device,
                wanted.compute_dtype,
                self.settings.gradient_checkpointing,
                wanted.revision,
            )
        return policy

    def load_reference(self) -> None:
        """Load the arm's starting model, frozen, as the reference of a KL penalty.

        It is stored in `self.reference`.
        Raises: StageFailed if the model is damaged or cannot be computed exactly.
        """
        wanted = self.context.profile.model
        with fail_if_unsupported():
            self.reference = Policy.load(
                self._parent(checked=True),
                str(self.device),
                wanted.compute_dtype,
                revision=wanted.revision,
                frozen=True,
            )

    def optimizer_step(self) -> Update:
        """Run one optimizer step on the accumulated gradients.

        If their norm is not finite, emit a warning, because the weights did not change.
        """
        moved = self.optimizer.step()
        # From the first update on, all tensors to save exist.
        if self.device.type == "cuda" and not self._can_save:
            self._checkpoints.prepare(self.policy, self.optimizer, self.device)
            self._can_save = True
        if not math.isfinite(moved.grad_norm):
            self.warn(f"gradient norm is {moved.grad_norm}: the step's update was skipped")
        return moved

    def warn(self, message: str) -> None:
        """Emit a warning about the next step to be trained."""
        place = self.context.stage, self.arm.name, self.step + 1
        self.context.emit(LogLine("warning").event(message, *place))

    def save(self, borrowed: Sequence[BorrowedSlot] = (), **state: Any) -> None:
        """Begin to write a checkpoint of this step.

        It only waits for the previous checkpoint.
        Args:
            borrowed: older weights that the checkpoint includes.
            state: what the training loop needs to resume.
        Raises: StageFailed if the disk does not accept a checkpoint.
        """
        self.context.control.flush_records()
        tokenizer = inputs.tokenizer(self.context)
        with self._writing():
            # After this the previous checkpoint is visible, so the time below belongs to the new one.
            self._checkpoints.wait()
            self._saved_step, self._saved_at = self.step, time.monotonic()
            self._checkpoints.save(
                self.step,
                self.policy,
                tokenizer,
                self.optimizer,
                {"step": self.step, **state},
                borrowed,
            )

    def boundary(self, save: Callable[[], None]) -> None:
        """Handle commands between two steps; `save` writes a checkpoint.

        A checkpoint that is due by time is written as if it were requested. Rank 0 decides for all ranks,
        because their clocks differ.
        Raises: StopRequested if the run must stop.
        """
        limit = 60.0 * self.settings.checkpoint_minutes
        if limit and self.step > self._saved_step and time.monotonic() - self._saved_at >= limit:
            self.context.control.save_soon()
        self.context.control.boundary(save)

    def publish_extra_weights(self, publisher: Publisher) -> Iterator[WeightRef]:
        """Publish the older weights stored in the checkpoint, oldest first.

        Each is returned with one reference held.
        """
        for weights in self._extra_weights:
            with fail_if_unreadable(Path(weights.location).parent):
                tensors = read_weights(weights)
            yield publisher.publish(weights.arm, weights.version, tensors.items())

    def record_score(self, step: int, score: float) -> None:
        """Record the validation score of a step, to keep the best checkpoint.

        Only checkpoints of `checkpoint_every`, and the last, can be the best. Other checkpoints depend on
        commands and on the clock, and the best must not.
        """
        every = self.settings.checkpoint_every
        if step == self.total_steps or (every and step % every == 0):
            self._checkpoints.record_score(step, score)

    def finish(self) -> None:
        """Wait for the last checkpoint, then remove the older weights from it.

        Call it when every requested result has arrived.
        """
        self.context.control.flush_records()
        with self._writing():
            self._checkpoints.wait()
        checkpoint.drop_extra_weights(self.root)

    def __enter__(self) -> Training:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Free the GPU's memory, then wait until the last checkpoint is written.

        The data still to write is then a copy in host memory. A stopped process computes nothing afterwards,
        so it releases the GPU completely. Several ranks end together, when everything is written.
        """
        del self.policy, self.optimizer, self.reference
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            if kind is StopRequested and world() == 1:
                self._checkpoints.stop_allocating()
                release_gpu(self.device)
        with self._writing():
            self._checkpoints.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise StageFailed if the disk does not accept a checkpoint.

        A restarted trainer would fail in the same way.
        """
        try:
            yield
        except OSError as error:
            raise StageFailed(
                f"{self.root}: a checkpoint cannot be written: {error.strerror}; make room, then resume the run"
            ) from error

    def _emit_checkpoint(self, step: int, path: Path) -> None:
        saved = CheckpointSaved(
            path=str(path.relative_to(self.context.folder.home)),
            seconds=round(time.monotonic() - self._saved_at, 2),
            start_seconds=0.0 if self._first is None else round(self._first[0] - self._began, 2),
        )
        self.context.emit(saved.event(path.name, self.context.stage, self.arm.name, step))

    def is_due(self, every: int) -> bool:
        """Return True if an action with period `every` is due after this step.

        0 means never.
        """
        return every > 0 and self.step > 0 and self.step % every == 0

    def scalars(self, values: dict[str, float]) -> None:
        """Emit `values` under the arm's name at this step."""
        for name, value in values.items():
            self.context.emit(Scalar(f"{self.arm.name}/{name}", self.step, float(value)))

    def progress(self) -> None:
        """Emit the arm's progress and the time left.

        The pace is that since the first report.
        """
        now = time.monotonic()
        self._first = self._first or (now, self.step)
        left = seconds_left(self._first, now, self.step, self.total_steps)
        report = ProgressReport(
            self.step, self.total_steps, "steps", eta_seconds=None if left is None else round(left, 1)
        )
        self.context.emit(report.event("", self.context.stage, self.arm.name, self.step))


@contextmanager
def fail_if_unreadable(folder: Path | None) -> Iterator[None]:
    """Raise StageFailed if a block cannot read a file of a checkpoint.

    The error names `folder`, the checkpoint; None means that the block does not read one. With several ranks
    the original error is raised instead, because the failing rank must exit so that all do.
    """
    try:
        yield
    except DAMAGE as error:
        if (
            folder is None
            or world() > 1
            or isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError))
        ):
            raise
        if isinstance(error, (checkpoint.CheckpointError, UnsafePickle)):
            raise StageFailed(str(error)) from error
        raise StageFailed(
            f"{folder}: this checkpoint cannot be read ({fault_of(error)}); move it away, "
            "then resume the run: it continues from the one before it"
        ) from error


@contextmanager
def fail_if_unsupported() -> Iterator[None]:
    """Turn an UnsupportedModel or DamagedFile of a block into StageFailed.

    A restarted trainer would fail in the same way.
    """
    try:
        yield
    except (UnsupportedModel, DamagedFile) as error:
        raise StageFailed(str(error)) from error


class Clock:
    """Measures how a step spends its time, as metrics `time/NAME` in seconds."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside the context to metric `time/NAME`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.perf_counter() - began

    def lap(self) -> dict[str, float]:
        """Return the times since the last lap, with the total as `time/step`."""
        now = time.perf_counter()
        spent = {f"time/{name}": seconds for name, seconds in self._spent.items()}
        spent["time/step"] = now - self._began
        self._spent, self._began = {}, now
        return spent
