"""The trainer's side of pause, resume, checkpoint and stop: they are seen between steps and nowhere else.

Orders come on the listener's thread; `boundary` runs on the trainer's. The supervisor's death counts as a stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.context import StopRequested
from engine.processes.orders import Leaving, Notice, Paused, Resumed, Trained


class StepControl:
    """Implements engine.context.Control. `say` tells the supervisor; `settle` makes what was emitted safe."""

    def __init__(self, say: Callable[[Notice], None], settle: Callable[[], None]) -> None:
        self._say = say
        self._settle = settle
        self._changed = threading.Condition()
        self._stop = False
        self._pause = False
        self._told = False  # that this pause is kept
        self._checkpoint = False
        self._saves = True

    def stop(self) -> None:
        """Ends the run at the next boundary."""
        self._set(stop=True)

    def leave(self) -> None:
        """Ends the run at the next boundary, and begins no checkpoint any more: the newest one stands."""
        with self._changed:
            self._saves = False
            self._set(stop=True)

    def pause(self) -> None:
        """Waits at the next boundary."""
        self._set(pause=True)

    def resume(self) -> None:
        """Goes on."""
        with self._changed:
            self._told = False  # and a pause that comes before this one is left is told again
            self._set(pause=False)

    def checkpoint(self) -> None:
        """Writes a checkpoint at the next boundary that can, also while paused."""
        self._set(checkpoint=True)

    def save_soon(self) -> None:
        """See engine.context.Control."""
        self.checkpoint()

    def settled(self) -> None:
        """Returns once everything emitted so far is in the journal. Before a checkpoint or marker becomes visible."""
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
