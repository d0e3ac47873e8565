"""Record rollouts while training continues, within a size budget.

    record(step N) ─▶ thread: compress, write, sync, rename ─▶ over budget? remove lowest steps, not step N

The trainer only waits if step N is not written when step N + 1 is reported. A killed trainer leaves whole
files and at most one draft, which the next record of that step replaces. A checkpoint begins after `wait`, so
steps that are not trained again are on the disk.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from engine.context import StageFailed
from engine.data.recorded import mark_pruned, recorded_path, recorded_steps
from engine.machine.ranks import rank
from engine.training import replay
from engine.training.replay import Rollouts

BYTES_A_GB = 10**9


class RolloutRecorder:
    """Writes one arm's rollouts to `folder` on a thread, within `budget_gb`.

    If the budget is exceeded, the oldest steps are removed. With several ranks, rank 0 writes.
    """

    def __init__(self, folder: Path, budget_gb: float) -> None:
        """Prepare to write to `folder`.

        Args:
            budget_gb: bounds the record's size in GB; 0 means no bound.
        """
        self._folder = folder
        self._budget_gb = budget_gb
        # Bytes of each recorded step; None until the folder is first read.
        self._sizes: dict[int, int] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollouts")
        self._under_way: Future[None] | None = None

    def record(self, rollouts: Rollouts) -> None:
        """Begin to write one step's rollouts, and return.

        It first waits for the previous step's write.
        Raises: StageFailed if the previous step could not be written.
        """
        self.wait()
        if rank() == 0:
            self._under_way = self._thread.submit(self._write, rollouts)

    def wait(self) -> None:
        """Wait until the last step's rollouts are on the disk.

        Raises: StageFailed if they could not be written.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return
        try:
            under_way.result()
        except OSError as error:
            raise StageFailed(
                f"{self._folder}: rollouts cannot be recorded: {error.strerror}; make room, then resume the run"
            ) from error

    def _write(self, rollouts: Rollouts) -> None:
        replay.record(self._folder, rollouts)
        if self._budget_gb:
            self._prune(rollouts.step)

    def _prune(self, newest: int) -> None:
        if self._sizes is None:
            self._sizes = {step: self._size(step) for step in recorded_steps(self._folder)}
        self._sizes[newest] = self._size(newest)
        total = sum(self._sizes.values())
        for step in sorted(self._sizes):
            if total <= self._budget_gb * BYTES_A_GB or step == newest:
                return
            mark_pruned(self._folder, self._budget_gb)
            recorded_path(self._folder, step).unlink(missing_ok=True)
            total -= self._sizes.pop(step)

    def _size(self, step: int) -> int:
        # The user may have removed the file.
        with contextlib.suppress(FileNotFoundError):
            return recorded_path(self._folder, step).stat().st_size
        return 0
