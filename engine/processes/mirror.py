"""One stage on several ranks: rank 0 alone deals with supervisor, worker and journal, and tells the others what came.

Every rank runs the same stage code on the same words, so all take the same steps: a job that only rank 0 sends is on
every rank's books, and its results come to each. What stops rank 0 stops them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.context import Context, Control, Generation, StopRequested
from engine.messages import Result, Work
from engine.ranks import told
from store.records import Record

Heard = list[Result] | None  # None: nobody will answer any more


def leading(context: Context) -> Context:
    """`context` for rank 0."""
    generation = LeadingGeneration(context.generation) if context.generation is not None else None
    return replace(context, control=LeadingControl(context.control), generation=generation)


def silent(record: Record) -> None:
    """What a further rank emits: rank 0 has said it."""


class LeadingControl:
    """Rank 0's: obeys `own` and passes on what that asks for: to save, to stop, to go on."""

    def __init__(self, own: Control) -> None:
        self._own = own

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        saving = False

        def save_everywhere() -> None:
            nonlocal saving
            told("save")
            saving = True
            if save is not None:
                save()
            saving = False

        try:
            self._own.boundary(save_everywhere if save is not None else None)
        except StopRequested:
            if not saving:  # a stop within `save` comes to every rank as it came to this one
                told("stop")
            raise
        told("go")

    def save_soon(self) -> None:
        self._own.save_soon()

    def settled(self) -> None:
        self._own.settled()

    def trained(self) -> None:
        self._own.trained()


class FollowingControl:
    """A further rank's: does at each boundary what rank 0 does there."""

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        while (word := told("")) == "save":
            if save is not None:
                save()
        if word == "stop":
            raise StopRequested

    def save_soon(self) -> None:
        return None

    def settled(self) -> None:
        return None

    def trained(self) -> None:
        return None


class LeadingGeneration:
    """Rank 0's way to the worker: what comes is passed on."""

    def __init__(self, own: Generation) -> None:
        self._own = own

    def submit(self, job: Work) -> None:
        self._own.submit(job)

    def next_job_id(self) -> int:
        return told(self._own.next_job_id())

    def poll(self, timeout: float) -> list[Result]:
        nobody: Heard = None
        try:
            results = list(self._own.poll(timeout))
        except StopRequested:
            told(nobody)
            raise
        return told(results)


class FollowingGeneration:
    """A further rank's: hears what rank 0 is answered."""

    def submit(self, job: Work) -> None:
        return None

    def next_job_id(self) -> int:
        return told(0)

    def poll(self, timeout: float) -> list[Result]:
        heard: Heard = None
        heard = told(heard)
        if heard is None:
            raise StopRequested
        return heard
