"""`runs` and `status`: what there is and what is live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json, table
from mathrl_tui.commands.settled import warn_of_damage
from mathrl_tui.core.stages import ENDED, part_words
from mathrl_tui.core.text import clip, duration, harmless, number

if TYPE_CHECKING:
    from store.query import Store
    from store.results import RunStatus, RunSummary

REASON_WIDTH = 120  # `status` shows all of it


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
        print(f"no runs in {home} yet; `mathrl-tui demo` makes one")
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
    """Show where runs are: stage, step, time left, last metrics, processes and GPUs."""
    if plot and as_json:
        raise WrongInput("--plot draws text: leave --json out, or export the metric with `mathrl-tui export`")
    from store.query import Store
    from store.records import LIVE_STATES

    store = Store(home)
    store.ingest()
    warn_of_damage(store, [store.resolve(run)] if run else None)
    if run:
        found = store.status(store.resolve(run))
        print_json(_as_json(found, store)) if as_json else print(_told(found, store, plot))
        return
    summaries = store.runs()
    chosen = [one for one in summaries if one.state in LIVE_STATES] or summaries[-1:]
    details = [store.status(one.run) for one in chosen]
    if as_json:
        print_json({"runs": [_as_json(one, store) for one in details]})
    else:
        told = [_told(one, store, plot) for one in details]
        print("\n\n".join(told) or f"no runs in {home} yet; `mathrl-tui demo` makes one")


def _told(run: RunStatus, store: Store, plot: str) -> str:
    lines = [
        f"{run.run}: {run.state}" + (f" ({run.reason})" if run.reason else ""),
        *_subject(run),
        f"seed {run.seed}, started {_moment(run.started)}, {_span(run)}",
    ]
    lines += [f"! {words}" for words in _alarms(store, run)]
    if run.step is not None:
        left = "" if run.eta_seconds is None else f", {duration(run.eta_seconds)} left"
        part = f", {part_words(run.part)}" if run.part else ""
        lines.append(f"{run.arm or run.stage}: {run.step} of {run.total_steps} {run.unit}{part}{left}")
    lines.append(table(("stage", "arm", "status"), [(s.stage, s.arm, s.status) for s in run.stages], left=3))
    if run.metrics:
        lines.append(
            table(("metric", "last"), [(name, number(value)) for name, value in run.metrics.items()])
        )
    if run.processes:
        rows = [(one.role, str(one.pid), "alive" if one.alive else "ended") for one in run.processes]
        lines.append(table(("process", "pid", ""), rows))
    if plot:
        from mathrl_tui.commands.plot import plotted

        lines.append(plotted(store, run.run, plot))
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
    """Return the model in full, the profile, and every setting that differs from the profile's."""
    from store.subject import changes, model_in_full

    changed = changes(run.changed)
    count = f", {len(changed)} changed" if changed else ""
    lines = [f"model {model_in_full(run.model)}", f"profile {run.profile}{count}"]
    return [harmless(line) for line in (*lines, *(f"  {change}" for change in changed))]


def _as_json(run: RunStatus, store: Store) -> dict[str, Any]:
    from store.runs import as_json

    return {**as_json(run), "alarms": _alarms(store, run)}


def _alarms(store: Store, run: RunStatus) -> list[str]:
    """What should not be overlooked in a live run, the gravest first."""
    from mathrl_tui.core.feed import alarms_of
    from store.records import LIVE_STATES

    if run.state not in LIVE_STATES:
        return []
    return [alarm.words for alarm in alarms_of(store, run, time.time())]


def _stages(run: RunSummary) -> str:
    """How much of the plan is done, and where it is."""
    done = sum(step.status in ENDED for step in run.stages)
    at = next((step.arm or step.stage for step in run.stages if step.status == "started"), "")
    return f"{done}/{len(run.stages)}" + (f" {at}" if at else "")


def _trouble(run: RunSummary) -> str:
    """Return why a run is not well, in few words; empty for one that runs or is done."""
    return "" if run.state in ("running", "done") else clip(run.reason, REASON_WIDTH)


def _moment(ts: float | None) -> str:
    return "–" if ts is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ts))


def _span(run: RunSummary) -> str:
    return "–" if run.started is None else duration((run.ended or time.time()) - run.started)
