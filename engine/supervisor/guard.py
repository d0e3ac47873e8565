"""Alarms and limits of a live run, without a console.

    records ─▶ alarm rules ──────┐
    disk, processes ─────────────┼─▶ AlarmRaised in the journal ─▶ order to the supervisor: pause or stop
    hours and cost of this start ┘

Each alarm is raised once in a start of the run. Only the first alarm causes an order.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from engine.artifacts.arms import checkpoint_folders
from engine.supervisor.record_queue import RecordQueue
from profiles.schema import Profile
from store.alarms.finding import AlarmFinding
from store.alarms.watch import Watch
from store.events import AlarmRaised, CheckpointSaved, details_of
from store.home import RunFolder
from store.records import Event, Record

# Seconds between two looks at the disk.
DISK_SECONDS = 30.0
# Below this the next checkpoint of all but the smallest models fails.
FREE_BYTES = 1 << 30


class GuardOrder(NamedTuple):
    """What the supervisor must do, and its origin in words."""

    verb: Literal["pause", "stop"]
    origin: str


class Guard:
    """Watches the records, the disk and the time of one start of a run."""

    def __init__(self, folder: RunFolder, profile: Profile, recorder: RecordQueue) -> None:
        self._settings, self._price = profile.run, profile.hardware.price_per_hour
        self._home, self._recorder = folder.home, recorder
        self._watch = Watch()
        saved = checkpoint_folders(folder)
        newest = max(saved, key=lambda path: path.stat().st_mtime) if saved else None
        self._checkpoint = str(newest.relative_to(folder.home)) if newest else ""
        self._raised: set[str] = set()
        self._order: GuardOrder | None = None
        self._is_limited = False
        self._began = time.monotonic()
        self._next_look = 0.0
        # Why the guard paused the run; "" if a user did.
        self.pause_reason = ""

    def take(self, records: Iterable[Record]) -> None:
        """Check new records of the run's processes and GPUs."""
        for record in records:
            if isinstance(record, Event):
                details = details_of(record)
                if isinstance(details, CheckpointSaved) and details.path:
                    self._checkpoint = details.path
            else:
                for found in self._watch.take([record]):
                    self._raise(found)

    def process_died(self, role: str, how: str) -> None:
        """Raise an alarm for a process that exited and is started again."""
        self._raise(AlarmFinding("process-died", role, -1, how, "it is started again"))

    def next_order(self, now: float) -> GuardOrder | None:
        """Check disk and limits; return a new order, once.

        `now` is in monotonic seconds.
        """
        if now >= self._next_look:
            self._next_look = now + DISK_SECONDS
            self._look_at_disk(self._home)
        reason = self._limit((now - self._began) / 3600)
        if reason and not self._is_limited:
            self._is_limited = True
            self._order = GuardOrder("stop", f"limit: {reason}; {self._kept()}")
        order, self._order = self._order, None
        if order is not None and order.verb == "pause":
            self.pause_reason = f"by {order.origin}"
        return order

    def _look_at_disk(self, home: Path) -> None:
        try:
            free = shutil.disk_usage(home).free
        except OSError:
            return
        if free < FREE_BYTES:
            value = f"{free / 2**30:.2f} GiB free"
            self._raise(AlarmFinding("disk-full", "disk", -1, value, f"below {FREE_BYTES >> 30} GiB"))

    def _limit(self, hours: float) -> str:
        """Return which limit `hours` have reached; "" if none."""
        settings = self._settings
        if settings.max_hours and hours >= settings.max_hours:
            return f"run.max_hours is {settings.max_hours:g}"
        if settings.max_cost and hours * self._price >= settings.max_cost:
            return f"run.max_cost is {settings.max_cost:g} dollars"
        return ""

    def _raise(self, found: AlarmFinding) -> None:
        """Record an alarm, and order what the profile asks for."""
        key = f"{found.alarm} {found.metric}"
        if key in self._raised:
            return
        wanted = self._settings.on_alarm
        action = "" if wanted == "none" or self._raised else wanted
        self._raised.add(key)
        at = f" at step {found.step}" if found.step >= 0 else ""
        words = f"{found.alarm}: {found.metric} is {found.value}{at} ({found.words}); {self._kept()}"
        details = AlarmRaised(found.alarm, found.metric, found.value, action, self._checkpoint)
        arm = found.metric.partition("/")[0] if found.step >= 0 else ""
        self._recorder.take([details.event(words, "", arm, found.step)])
        self._recorder.flush_soon()
        if action:
            self._order = GuardOrder(action, f"alarm {words}")

    def _kept(self) -> str:
        return f"last checkpoint {self._checkpoint}" if self._checkpoint else "no checkpoint yet"
