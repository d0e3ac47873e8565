"""The state of a run as the console shows it, folded from its records.

store's history ─▶ live tail ─▶ `RunModel` ─▶ `snapshot` ─▶ screens

One thread feeds `RunModel`, first with history, then with the live tail. `snapshot` returns an immutable picture that
any thread may read. Records that arrive twice, in history and tail, change nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mathrl_tui.core import stall as silence
from mathrl_tui.core.curve import EMPTY, Curve
from mathrl_tui.core.palette import shown_state
from mathrl_tui.core.stall import Pulse
from store import at_risk, run_progress
from store.events import ProcessChange
from store.records import LIVE_STATES, Event, Example, Record, Scalar
from store.run_config import RunConfig
from store.run_progress import RunProgress, StepProgress, Steps, settled
from store.subject import Changes

LOG_LINES = 5000


@dataclass(frozen=True, slots=True)
class Value:
    """The newest value of a metric; `ts` in Unix seconds."""

    step: int
    value: float
    ts: float


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The state of one run at one moment.

    `model` is `model.source`; `changed` lists the settings that differ from the profile.
    `template` is the prompt form of tasks without one of their own. `mark` gives what a kill would cost.
    `examples` counts evaluation rows seen live; a change means that screens should read again.
    """

    run_id: str
    name: str
    profile: str
    model: str
    changed: Changes
    seed: int
    template: str
    arms: tuple[str, ...]
    state: str
    reason: str
    created: float
    ended: float
    board: Steps
    current: StepProgress | None
    pulse: Pulse
    mark: at_risk.RiskState
    processes: tuple[ProcessChange, ...]
    latest: Mapping[str, Value]
    curves: Mapping[str, Curve]
    log: tuple[Event, ...]
    examples: int

    @property
    def live_arm(self) -> str:
        """Return the arm that is being computed; "" without one."""
        return self.current.arm if self.current is not None and self.state in LIVE_STATES else ""


class RunModel:
    """The state of a run, updated by its records.

    `config` is the content of its run.json. `snapshot` returns an immutable picture.
    """

    def __init__(self, run_id: str, config: RunConfig) -> None:
        self.run_id = run_id
        self._config = config
        self._progress = RunProgress.of_plan((step.stage, step.arm) for step in config.plan)
        self._pulse = Pulse()
        self._mark = at_risk.RiskState()
        self._latest: dict[str, Value] = {}
        self._curves: dict[str, Curve] = {}
        self._log: deque[Event] = deque(maxlen=LOG_LINES)
        # Events up to this time are in the fold.
        self._seen_to = 0.0
        self._examples = 0
        # Time of the newest point.
        self._newest = 0.0

    def apply(self, records: Iterable[Record]) -> bool:
        """Fold `records` in, in order; return True if the state changed."""
        points: dict[str, list[Scalar]] = {}
        changed = False
        for record in records:
            changed = True
            self._pulse = silence.after(self._pulse, record)
            self._mark = at_risk.after(self._mark, record)
            if isinstance(record, Scalar):
                points.setdefault(record.metric, []).append(record)
            elif isinstance(record, Event):
                self._take_event(record)
            elif isinstance(record, Example):
                self._examples += record.task not in ("train", "validation")
        for metric, scalars in points.items():
            self._take_points(metric, scalars)
        return changed

    def set_curve(self, metric: str, curve: Curve) -> None:
        """Set the stored history of `metric`, and append the tail's points."""
        known = self._curves.get(metric, EMPTY)
        self._curves[metric] = curve.followed(known)

    def has_curve(self, metric: str, *, timed: bool = False) -> bool:
        """Return True if the metric's history is set.

        With `timed`, only if it has times.
        """
        return metric in self._curves and (not timed or self._curves[metric].is_timed)

    def set_latest(self, latest: Mapping[str, Value]) -> None:
        """Set the newest values of these metrics; the others keep theirs."""
        self._latest.update(latest)

    def _take_points(self, metric: str, scalars: Sequence[Scalar]) -> None:
        newest = scalars[-1]
        self._newest = max(self._newest, newest.ts)
        known = self._latest.get(metric)
        if known is None or newest.step > known.step:
            self._latest[metric] = Value(newest.step, newest.value, newest.ts)
        if metric in self._curves:
            self._curves[metric] = self._curves[metric].extended(
                [one.step for one in scalars], [one.value for one in scalars], [one.ts for one in scalars]
            )

    def _take_event(self, event: Event) -> None:
        if event.ts <= self._seen_to and event in self._log:
            return
        self._seen_to = max(self._seen_to, event.ts)
        self._progress = run_progress.after(self._progress, event)
        if event.kind != "progress":
            self._log.append(event)

    def snapshot(self, alive: bool) -> RunSnapshot:
        """Return the current state.

        Without a supervisor (`alive`) a live state becomes 'interrupted'.
        """
        progress = self._progress
        state, reason = progress.state or "queued", progress.reason
        if state in LIVE_STATES and not alive:
            state, reason = (
                "interrupted",
                reason or "its supervisor has exited; press R to resume from the last checkpoint",
            )
        ended = progress.ended or max(progress.last, self._newest)
        steps = settled(progress.steps, shown_state(state, reason), ended)
        return RunSnapshot(
            run_id=self.run_id,
            name=self._config.name or self.run_id,
            profile=self._config.profile_name,
            model=self._config.model_source,
            changed=self._config.changed,
            seed=self._config.seed,
            template=self._config.template,
            arms=self._config.arms,
            state=state,
            reason=reason,
            created=self._config.created,
            ended=progress.ended,
            board=steps,
            current=next((step for step in steps if step.name == progress.at), None),
            pulse=self._pulse,
            mark=self._mark,
            processes=tuple(replace(each, alive=each.alive and alive) for each in progress.processes),
            latest=dict(self._latest),
            curves=dict(self._curves),
            log=tuple(self._log),
            examples=self._examples,
        )

    def curve(self, metric: str) -> Curve:
        """Return the history of `metric`; empty if it is not loaded."""
        return self._curves.get(metric, EMPTY)
