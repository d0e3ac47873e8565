"""`run`: start stages, or continue a run, and follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import Home, Overrides
from mathrl_tui.commands.printing import print_notice
from mathrl_tui.commands.seeds import (
    Experiment,
    follow_and_report,
    run_seeds,
    start_detached,
    warn_of_access,
)
from profiles.stages import REQUESTED

DEFAULT_PROFILE = "qwen2.5-math-1.5b"


def run(
    home: Home,
    stages: Annotated[
        list[str] | None,
        typer.Argument(metavar="STAGE...", help=f"{' '.join(REQUESTED)}, or all"),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help=f"the experiment [default: {DEFAULT_PROFILE}]")
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seed", min=0, help="one run for each seed, pooled at the end; repeatable [default: 0]"
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="name of the run [default: the profile's name]")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="print the run's id and do not follow it")] = False,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="use this server instead of the worker (eval.server)")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="resume this run; given stages are added to its plan"),
    ] = None,
) -> None:
    """Start stages of an experiment and follow them.

    Ctrl-C asks whether to stop the run or leave it.
    """
    if resume is not None:
        if profile or seeds or name or server:
            raise WrongInput("--resume: a run keeps its own profile, seed and name; leave those options out")
        _go_on(home, resume, stages or [], detach, overrides or [])
        return
    if server == "":
        raise WrongInput("--server: needs a URL, http://HOST:PORT/v1")
    settings = [*(overrides or []), *([f"eval.server={server}"] if server else [])]
    experiment = _experiment(stages or [], DEFAULT_PROFILE if profile is None else profile, settings, name)
    start = start_detached if detach else run_seeds
    start(home, experiment, seeds or [0])


def _experiment(stages: list[str], profile: str, overrides: list[str], name: str) -> Experiment:
    from engine.plan import parse_stages
    from profiles.changes import changed_settings
    from profiles.load import load as load_profile
    from store.home import RUN_NAME

    wanted, loaded = parse_stages(stages), load_profile(profile, overrides)
    if name and not RUN_NAME.match(name):
        raise WrongInput(f"--name {name}: use letters, digits and . _ + - only")
    return Experiment(loaded, wanted, name, changed_settings(profile, overrides))


def _go_on(home: Path, resume: str, stages: list[str], detach: bool, settings: list[str]) -> None:
    from engine.plan import parse_stages
    from engine.startup.launch import resume_run
    from store.home import RunFolder
    from store.live import end_of
    from store.naming import find_run

    run_id = find_run(home, resume)
    past = end_of(RunFolder(home, run_id).journal)
    resume_run(home, run_id, parse_stages(stages) if stages else (), print_notice, settings)
    warn_of_access(home)
    print(run_id, flush=True)
    if not detach:
        follow_and_report(home, run_id, past)
