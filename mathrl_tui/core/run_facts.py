"""Fields, settings and results that runs are filtered by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mathrl_tui.core import palette
from mathrl_tui.core.rates import stem
from mathrl_tui.core.run_filter import Facts
from mathrl_tui.core.workspace import Workspace
from store.records import LIVE_STATES

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import RunLine

# State as shown → what `is:` calls it.
_LIVE, _ENDED = "live", "ended"


def facts(
    line: RunLine, settings: Iterable[tuple[str, str]], workspace: Workspace, task: str, now: float
) -> Facts:
    """Return the facts of a run; `now` is in Unix seconds.

    A result is named TASK (any arm) and ARM/TASK; the task's form, as in `gsm8k/8-shot`, may be left out. `best` is
    the best rate on `task`, the one of the list.
    """
    run, results = line.summary, line.results
    tags, note = workspace.tags.get(run.run, ()), workspace.notes.get(run.run, "")
    state = palette.word(run.state)
    texts: dict[str, tuple[str, ...]] = {
        "run": (run.run,),
        "state": tuple(dict.fromkeys((run.state, state))),
        "is": _kinds(line, workspace),
        "profile": (run.profile,),
        "model": (run.model,),
        "stage": (line.at.stage, line.at.label) if line.at else (),
        "arm": tuple(results.rates),
        "tag": tags,
        "note": (note,) if note else (),
        "reason": (run.reason,) if run.reason else (),
    }
    words = " ".join((run.run, state, run.profile, run.model, *tags, note, run.reason))
    named = {name: value for name, value in settings if name not in texts}
    numbers = {name: (number,) for name, value in named.items() if (number := _number(value)) is not None}
    texts |= {name: (value,) for name, value in named.items() if name not in numbers}
    return Facts(words, texts, {**numbers, **_figures(line, task, now), **_rates(results.tasks)})


def _kinds(line: RunLine, workspace: Workspace) -> tuple[str, ...]:
    run = line.summary.run
    kinds = {
        "marked": run in workspace.marked,
        "pinned": run in workspace.pinned,
        "hidden": run in workspace.hidden,
        "alarmed": bool(line.alarms),
        "changed": bool(line.summary.changed),
    }
    live = _LIVE if line.summary.state in LIVE_STATES else _ENDED
    return (live, *(kind for kind, holds in kinds.items() if holds))


def _figures(line: RunLine, task: str, now: float) -> dict[str, tuple[float, ...]]:
    run, results = line.summary, line.results
    best = results.best if results.task == task else None
    gain = results.gain
    ended = now if run.ended is None else run.ended
    figures = {
        "seed": float(run.seed),
        "progress": line.fraction,
        "left": line.at.remaining(now) if line.at else None,
        "took": None if run.started is None else ended - run.started,
        "reward": results.figures.reward,
        "loss": results.figures.loss,
        "best": None if best is None else best.rate,
        "gain": None if gain is None else gain[1].estimate,
    }
    return {name: () if value is None else (value,) for name, value in figures.items()}


def _rates(tasks: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    found: dict[str, tuple[float, ...]] = {}
    for task, rates in tasks.items():
        for name in dict.fromkeys((task, stem(task))):
            found[name] = (*found.get(name, ()), *rates.values())
            for arm, rate in rates.items():
                found[f"{arm}/{name}"] = (*found.get(f"{arm}/{name}", ()), rate)
    return found


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
