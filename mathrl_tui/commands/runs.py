"""`runs` and `status`: list runs, and show their state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.ingested import warn_of_damage
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json, print_notice, table
from mathrl_tui.core.stages import part_words
from mathrl_tui.core.text import clip, duration, harmless, number
from store.run_progress import ENDED

if TYPE_CHECKING:
    from mathrl_tui.commands.quick_status import QuickStatus
    from store.results import RunSummary

# `status` shows the full text.
REASON_WIDTH = 120


def runs(home: Home, as_json: AsJson = False) -> None:
    """List all runs, oldest first."""
    from store.query import Store
    from store.runs import as_json as to_json
    from store.subject import CHANGED_MARK

    store = Store(home)
    found = store.runs()
    if any(one.damage for one in found):
        warn_of_damage(store)
    if as_json:
        print_json({"runs": [to_json(summary) for summary in found]})
    elif not found:
        print(f"no runs in {home} yet; `mathrl-tui demo` starts one")
    else:
        titles = ("run", "state", "stages", "model", "profile", "seed", "started", "took", "reason")
        print(table(titles, [_row(one) for one in found], left=9))
        if any(one.changed for one in found):
            print(f"{CHANGED_MARK} with changed settings; `mathrl-tui status RUN` lists them")


def status(
    home: Home,
    run: Annotated[str, typer.Argument(help="a run [default: the live ones, else the newest]")] = "",
    plot: Annotated[
        str,
        typer.Option(metavar="METRIC", help="also draw a metric: sft/train/loss, or train/loss of all arms"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show stage, step, time left, last metrics, processes and GPUs of runs."""
    if plot and as_json:
        raise WrongInput("--plot draws text: leave --json out, or export the metric with `mathrl-tui export`")
    from mathrl_tui.commands.quick_status import live_or_newest
    from store.naming import names

    chosen = [run] if run else live_or_newest(home, names(home))
    if not chosen:
        chosen = _newest_in_store(home)
    found = [_look(home, each) for each in chosen]
    for one in found:
        if one.damage:
            print_notice(one.damage)
    if as_json:
        answers = [_as_json(one) for one in found]
        print_json(answers[0] if run else {"runs": answers})
    elif not found:
        print(f"no runs in {home} yet; `mathrl-tui demo` starts one")
    else:
        drawn = [f"\n{_plotted(home, one.status.run, plot)}" if plot else "" for one in found]
        print("\n\n".join(_status_text(one) + drawing for one, drawing in zip(found, drawn, strict=True)))


def _look(home: Path, run: str) -> QuickStatus:
    """Return a run's status from its folder.

    If only the store knows the run, the status comes from there.
    """
    from mathrl_tui.commands.quick_status import QuickStatus, quick_status
    from store.naming import UnknownRun, find_run

    try:
        seen = quick_status(home, find_run(home, run))
    except UnknownRun:
        if not (home / "store.duckdb").exists():
            raise
        seen = None
    if seen is not None:
        return seen
    from store.query import Store

    store = Store(home)
    return QuickStatus(store.status(store.resolve(run)))


def _newest_in_store(home: Path) -> list[str]:
    """Return the newest run of a home without run folders."""
    if not (home / "store.duckdb").exists():
        return []
    from store.query import Store

    return [summary.run for summary in Store(home).runs()[-1:]]


def _plotted(home: Path, run_id: str, metric: str) -> str:
    from mathrl_tui.commands.ingested import ingested_store
    from mathrl_tui.commands.plot import plotted

    return plotted(ingested_store(home), run_id, metric)


def _status_text(seen: QuickStatus) -> str:
    run = seen.status
    lines = [
        f"{run.run}: {run.state}" + (f" ({run.reason})" if run.reason else ""),
        *_subject(run),
        f"seed {run.seed}, started {_moment(run.started)}, {_span(run)}",
    ]
    lines += [f"! {words}" for words in seen.alarms]
    if run.step is not None:
        left = "" if run.eta_seconds is None else f", {duration(run.eta_seconds)} left"
        part = f", {part_words(run.part)}" if run.part else ""
        lines.append(f"{run.arm or run.stage}: {run.step} of {run.total_steps} {run.unit}{part}{left}")
    if seen.cost:
        lines.append(seen.cost.words)
    lines.append(table(("stage", "arm", "status"), [(s.stage, s.arm, s.status) for s in run.stages], left=3))
    if run.metrics:
        lines.append(
            table(("metric", "last"), [(name, number(value)) for name, value in run.metrics.items()])
        )
    if run.processes:
        rows = [(one.role, str(one.pid), "alive" if one.alive else "ended") for one in run.processes]
        lines.append(table(("process", "pid", ""), rows))
    return "\n".join(lines)


def _row(run: RunSummary) -> tuple[str, ...]:
    """Return a run's line in the list."""
    from store.subject import model_name, profile_name

    return (
        *(run.run, run.state + " !" * bool(run.damage), _stages(run), harmless(model_name(run.model))),
        *(profile_name(run.profile, run.changed), str(run.seed), _moment(run.started)),
        *(_span(run), _trouble(run)),
    )


def _subject(run: RunSummary) -> list[str]:
    """Return the model in full, the profile, and each changed setting."""
    from store.subject import changes, model_in_full

    changed = changes(run.changed)
    count = f", {len(changed)} changed" if changed else ""
    lines = [f"model {model_in_full(run.model)}", f"profile {run.profile}{count}"]
    return [harmless(line) for line in (*lines, *(f"  {change}" for change in changed))]


def _as_json(seen: QuickStatus) -> dict[str, Any]:
    from store.runs import as_json

    at_risk = seen.cost.as_json() if seen.cost else None
    return {**as_json(seen.status), "alarms": seen.alarms, "at_risk": at_risk}


def _stages(run: RunSummary) -> str:
    """Return how much of the plan is done, and the current stage."""
    done = sum(step.status in ENDED for step in run.stages)
    at = next((step.arm or step.stage for step in run.stages if step.status == "started"), "")
    return f"{done}/{len(run.stages)}" + (f" {at}" if at else "")


def _trouble(run: RunSummary) -> str:
    """Return the problem of a run in few words.

    Returns: "" for a run that is live or done.
    """
    return "" if run.state in ("running", "done") else clip(run.reason, REASON_WIDTH)


def _moment(ts: float | None) -> str:
    return "–" if ts is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ts))


def _span(run: RunSummary) -> str:
    return "–" if run.started is None else duration((run.ended or time.time()) - run.started)
