"""Runs of an experiment, one for each seed, and their report.

Several seeds are pooled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mathrl_tui.commands.errors import CommandFailed, EndedWithFailures, WrongInput
from mathrl_tui.commands.ingested import ingested_store
from mathrl_tui.commands.printing import print_notice

if TYPE_CHECKING:
    from profiles.schema import Profile
    from store.journal import Position
    from store.subject import Changes

# States of a run with complete results.
EVALUATED = frozenset({"done", "done_with_failures"})


@dataclass(frozen=True, slots=True)
class Experiment:
    """A validated profile with the stages to run.

    `changed` lists the overridden settings.
    """

    profile: Profile
    stages: tuple[str, ...]
    name: str
    changed: Changes


@dataclass(slots=True)
class _Outcome:
    """Run ids by seed.

    They are split into runs with complete results and runs that failed (empty: not started).
    """

    whole: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


def start_detached(home: Path, experiment: Experiment, seeds: Sequence[int]) -> None:
    """Start one run for each seed and print their ids.

    For several, print the pooling command to stderr.
    """
    runs = [_started(home, experiment, seed) for seed in _each_once(seeds)]
    if len(runs) > 1:
        print(f"pool them when they are done: `{pooling_command(runs)}`", file=sys.stderr)


def run_seeds(home: Path, experiment: Experiment, seeds: Sequence[int]) -> list[str]:
    """Run one seed after the other to its end, and report.

    Several seeds end with one pooled report. A failed seed does not end the others: the rest are pooled, and
    the command fails at the end.

    Returns: ids of the reported runs.
    Raises: CommandFailed if a seed failed.
    """
    chosen = _each_once(seeds)
    if len(chosen) == 1:
        run_id = _started(home, experiment, chosen[0])
        follow_and_report(home, run_id)
        return [run_id]
    outcome = _Outcome()
    for place, seed in enumerate(chosen):
        try:
            _run_one(home, experiment, seed, outcome)
        except typer.Exit:
            if rest := chosen[place + 1 :]:
                print(f"not started: seed {', '.join(map(str, rest))}")
            raise
    _report(home, outcome)
    return list(outcome.whole.values())


def follow_and_report(home: Path, run_id: str, start: Position | None = None) -> None:
    """Follow a run to its end, then print its evaluation results.

    `start` is the journal position to start from (None: the beginning).

    Raises: EndedWithFailures, after the print, if parts of the run failed; CommandFailed if it did not end as
        done.
    """
    from mathrl_tui.commands.follow import follow
    from mathrl_tui.commands.report import results
    from store.journal import START

    failures: EndedWithFailures | None = None
    try:
        follow(home, run_id, start or START)
    except EndedWithFailures as error:
        failures = error
    if found := results(ingested_store(home), run_id):
        print(f"\n{found}", flush=True)
    if failures:
        raise failures


@cache
def warn_of_access(home: Path) -> None:
    """Print a warning, once per home, if other users can enter `home`.

    Call it after all checks, so that a rejected command prints only its error.
    """
    from store.private import too_wide

    if line := too_wide(home):
        print_notice(f"warning: {line}")


def pooling_command(runs: Sequence[str]) -> str:
    """Return the command that pools `runs`."""
    return " ".join(["mathrl-tui compare", *(f"--pool {run}" for run in runs)])


def _each_once(seeds: Sequence[int]) -> list[int]:
    twice = next((seed for place, seed in enumerate(seeds) if seed in seeds[:place]), None)
    if twice is not None:
        raise WrongInput(f"--seed {twice}: given twice; a second run of one seed adds no information")
    return list(seeds)


def _started(home: Path, experiment: Experiment, seed: int) -> str:
    from engine.startup.launch import start_run

    run_id = start_run(
        home, experiment.profile, experiment.stages, seed, experiment.name, experiment.changed, print_notice
    )
    warn_of_access(home)
    print(run_id, flush=True)
    return run_id


def _run_one(home: Path, experiment: Experiment, seed: int, outcome: _Outcome) -> None:
    """Run one of several seeds to its end and print its rates."""
    from engine.startup.launch import LaunchError
    from mathrl_tui.commands.follow import follow
    from mathrl_tui.commands.report import rates_alone

    run_id = ""
    try:
        run_id = _started(home, experiment, seed)
        follow(home, run_id)
    except (CommandFailed, LaunchError) as error:
        if isinstance(error, LaunchError) and not (outcome.whole or outcome.failed):
            # Nothing was started, and the other seeds would be rejected for the same reason.
            raise
        print(error, file=sys.stderr, flush=True)
        outcome.failed[seed] = run_id
    store = ingested_store(home)
    if run_id and store.status(run_id).state in EVALUATED:
        outcome.whole[seed] = run_id
        if found := rates_alone(store, run_id):
            print(f"\n{found}\n", flush=True)


def _report(home: Path, outcome: _Outcome) -> None:
    """Print the pooled report, or each run's own if pooling fails.

    Raises: CommandFailed if a seed failed.
    """
    from mathrl_tui.commands.report import pooled_results, results
    from store.score_files import InputError

    store, runs = ingested_store(home), list(outcome.whole.values())
    evaluated = [run for run in runs if store.evaluations(run)]
    if len(evaluated) > 1:
        try:
            print(f"\n{pooled_results(store, evaluated)}")
        except InputError as error:
            print(f"\nnot pooled: {error}\n")
            print("\n\n".join(f"{run}\n{results(store, run)}" for run in evaluated))
    elif evaluated:
        print(f"\n{results(store, evaluated[0])}")
    if outcome.failed:
        failed = ", ".join(map(str, outcome.failed))
        pooled = ", ".join(str(seed) for seed, run in outcome.whole.items() if run in evaluated) or "none"
        raise CommandFailed(
            f"seed {failed}: failed, see above; the report holds seed {pooled}{_remedy(outcome)}"
        )


def _remedy(outcome: _Outcome) -> str:
    """Return commands that resume the failed runs and pool all runs."""
    started = [run for run in outcome.failed.values() if run]
    runs = sorted({*outcome.whole.values(), *started})
    if not started or len(runs) < 2:
        return ""
    resume = "".join(f"`mathrl-tui run --resume {run}`, then " for run in started)
    return f"; to pool them all: {resume}`{pooling_command(runs)}`"
