"""Handle pause, resume, checkpoint and stop between steps.

Orders arrive on the listener thread; `boundary` runs on the trainer's thread. The supervisor's death counts
as a stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.context import Control, StopRequested
from engine.ipc.orders import Leaving, Notice, Paused, Resumed, Trained


class StepControl:
    """Implements engine.context.Control for the trainer process.

    `notify` sends a notice to the supervisor. `flush` waits until every emitted record is safe.
    """

    def __init__(self, notify: Callable[[Notice], None], flush: Callable[[], None]) -> None:
        self._notify = notify
        self._flush = flush
        self._changed = threading.Condition()
        self._stop = False
        self._pause = False
        # True once the supervisor was notified of the current pause.
        self._pause_announced = False
        self._checkpoint = False
        self._saves = True

    def stop(self) -> None:
        """End the run at the next boundary."""
        self._set(stop=True)

    def leave(self) -> None:
        """End the run at the next boundary and write no further checkpoint.

        The newest one remains.
        """
        with self._changed:
            self._saves = False
            self._set(stop=True)

    def pause(self) -> None:
        """Pause at the next boundary."""
        self._set(pause=True)

    def resume(self) -> None:
        """Resume a paused run."""
        with self._changed:
            # A new pause that arrives before `boundary` wakes up must be announced again.
            self._pause_announced = False
            self._set(pause=False)

    def checkpoint(self) -> None:
        """Write a checkpoint at the next boundary that can save.

        A paused run writes it too.
        """
        self._set(checkpoint=True)

    def save_soon(self) -> None:
        """Request a checkpoint at the next boundary that can save."""
        self.checkpoint()

    def flush_records(self) -> None:
        """Wait until every emitted record is in the journal.

        Call it before a checkpoint or marker becomes visible.
        """
        self._flush()

    def announce_training_done(self) -> None:
        """Report to the supervisor that all training is done."""
        self._notify(Trained())

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        """Execute the commands that arrived since the last boundary.

        It waits while the run is paused, and calls `save` for a requested checkpoint and before a stop.
        See `Control.boundary`.
        Raises: StopRequested if the run must stop.
        """
        paused = False
        while True:
            if save is not None and self._checkpoint_is_due() and self._saves:
                self._flush()
                save()
            if self._stop or not self._pause:
                break
            paused = True
            if not self._pause_announced:
                self._pause_announced = True
                self._notify(Paused())
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._stop
                        or not (self._pause and self._pause_announced)
                        or (self._checkpoint and save)
                    )
                )
        if self._stop:
            self._notify(Leaving())
            if save is not None and self._saves:
                self._flush()
                save()
            raise StopRequested
        if paused:
            self._notify(Resumed())

    def _checkpoint_is_due(self) -> bool:
        with self._changed:
            due, self._checkpoint = self._checkpoint, False
            return due

    def _set(
        self, *, stop: bool | None = None, pause: bool | None = None, checkpoint: bool | None = None
    ) -> None:
        with self._changed:
            self._stop = self._stop if stop is None else stop
            self._pause = self._pause if pause is None else pause
            self._checkpoint = self._checkpoint if checkpoint is None else checkpoint
            self._changed.notify_all()


# mypy checks here that the class has every method of the protocol, with the same types.
_control: type[Control] = StepControl
