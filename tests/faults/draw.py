"""The strikes of one run, drawn from (seed, number) alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.faults import clock, commands, contents, copies, disk, processes, strangers
from tests.faults.faultkind import Fault
from tests.faults.journal_view import JournalView, Span

FAMILIES: dict[str, tuple[Fault, ...]] = {
    "processes": processes.FAULTS,
    "commands": commands.FAULTS,
    "disk": disk.FAULTS,
    "contents": contents.FAULTS,
    "clock": clock.FAULTS,
    "strangers": strangers.FAULTS,
    "copies": copies.FAULTS,
}
_SHARES = {"processes": 4, "commands": 2, "disk": 3, "contents": 3, "clock": 1, "strangers": 2, "copies": 2}
_STAGES = {"data": 1, "traces": 0.5, "preprocess": 2, "sft": 3, "grpo": 3, "eval": 2}
_AT_ONCE = 0.15  # share of strikes that follow the last one without waiting for progress
_AT_END = 0.08  # share that comes when the run is done
_OVERLAP = 0.3  # share of holding faults that still hold when the next one strikes


@dataclass(frozen=True, slots=True)
class Instant:
    """When to strike: `stage` has started, `rows` rows are journaled, `delay` seconds have passed since."""

    stage: tuple[str, str]
    rows: int
    delay: float

    def reached(self, journal: JournalView) -> bool:
        return (not self.stage[0] or self.stage in journal.stages) and len(journal.rows) >= self.rows

    def __str__(self) -> str:
        return f"{self.stage[1] or self.stage[0] or 'at once'} row {self.rows} + {self.delay:.2f} s"


END = ("end", "")
NOW = ("", "")


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault at one instant. `choices` in order: the first that is possible then is done."""

    instant: Instant
    choices: tuple[Fault, ...]
    seed: int
    overlaps: bool
    hold: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The strikes of a run in order; `warm`: its home begins with a filled cache."""

    strikes: tuple[Strike, ...]
    warm: bool

    @property
    def needs_mounts(self) -> bool:
        return any(fault.needs_mounts for strike in self.strikes for fault in strike.choices)

    @property
    def needs_clock(self) -> bool:
        return any(fault.needs_clock for strike in self.strikes for fault in strike.choices)


def draw(
    seed: int,
    number: int,
    spans: Mapping[tuple[str, str], Span],
    families: Sequence[str],
    mounts: bool,
) -> Plan:
    """Return the plan of run `number`. `spans` are the stages of the undisturbed run, `mounts`: these are permitted."""
    rng = random.Random(f"faults {seed} {number}")
    ordered = sorted((_instant(rng, spans) for _ in range(rng.randint(3, 7))), key=lambda pair: pair[0])
    strikes = []
    for place, (_, instant) in enumerate(ordered):
        if place and instant.stage != END and rng.random() < _AT_ONCE:
            instant = Instant(NOW, 0, rng.choice((0.0, 0.3, 2.0, 5.0)) * rng.random())
        choices = tuple(_fault(rng, families, instant, mounts) for _ in range(6))
        overlaps, hold = rng.random() < _OVERLAP, rng.random()
        strikes.append(Strike(instant, choices, rng.getrandbits(32), overlaps, hold))
    return Plan(tuple(strikes), rng.random() < 0.5)


def _instant(rng: random.Random, spans: Mapping[tuple[str, str], Span]) -> tuple[tuple[float, int], Instant]:
    """An instant in a random stage, with its place in the order."""
    name = "end" if rng.random() < _AT_END else rng.choices(list(_STAGES), list(_STAGES.values()))[0]
    if name == "end":
        return (len(spans), 0), Instant(END, 0, 0.0)
    place, stage = next((place, stage) for place, stage in enumerate(spans) if stage[0] == name)
    span = spans[stage]
    if span.first == span.last:
        return (place, 0), Instant(stage, 0, rng.random() * (span.ended - span.began))
    # A share, so that the draws that follow do not depend on how many rows the undisturbed run has.
    rows = span.first + int(rng.random() * (span.last - span.first))
    return (place, rows), Instant(stage, rows, rng.choice((0.0, 0.05, 0.3)) * rng.random())


def _fault(rng: random.Random, families: Sequence[str], instant: Instant, mounts: bool) -> Fault:
    family = rng.choices(families, [_SHARES[name] for name in families])[0]
    possible = [
        fault
        for fault in FAMILIES[family]
        if (mounts or not fault.needs_mounts) and (instant.stage != END or fault.at_rest)
    ]
    if not possible:  # signals at the end of a run, say
        possible = [fault for fault in FAMILIES[family] if not fault.needs_mounts]
    return rng.choices(possible, [fault.weight for fault in possible])[0]
