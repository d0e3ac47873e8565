"""The trainer's handling of pause, resume, checkpoint and stop, at step boundaries only.

Orders arrive on the listener thread; `boundary` runs on the trainer's thread. The supervisor's death counts
as a stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.context import StopRequested
from engine.ipc.orders import Leaving, Notice, Paused, Resumed, Trained


class StepControl:
    """Implements engine.context.Control.

    `say` sends a notice to the supervisor. `settle` waits until every emitted record is safe.
    """

    def __init__(self, say: Callable[[Notice], None], settle: Callable[[], None]) -> None:
        self._say = say
        self._settle = settle
        self._changed = threading.Condition()
        self._stop = False
        self._pause = False
        # True once the supervisor was notified of the current pause.
        self._told = False
        self._checkpoint = False
        self._saves = True

    def stop(self) -> None:
        """End the run at the next boundary."""
        self._set(stop=True)

    def leave(self) -> None:
        """End the run at the next boundary and write no further checkpoint; the newest one remains."""
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
            self._told = False
            self._set(pause=False)

    def checkpoint(self) -> None:
        """Write a checkpoint at the next boundary that can save, even while paused."""
        self._set(checkpoint=True)

    def save_soon(self) -> None:
        """See engine.context.Control."""
        self.checkpoint()

    def settled(self) -> None:
        """Wait until every emitted record is in the journal.

        Call it before a checkpoint or marker becomes visible.
        """
        self._settle()

    def trained(self) -> None:
        """See engine.context.Control."""
        self._say(Trained())

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        """See engine.context.Control."""
        paused = False
        while True:
            if save is not None and self._checkpoint_is_due() and self._saves:
                self._settle()
                save()
            if self._stop or not self._pause:
                break
            paused = True
            if not self._told:
                self._told = True
                self._say(Paused())
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stop or not (self._pause and self._told) or (self._checkpoint and save)
                )
        if self._stop:
            self._say(Leaving())
            if save is not None and self._saves:
                self._settle()
                save()
            raise StopRequested
        if paused:
            self._say(Resumed())

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
