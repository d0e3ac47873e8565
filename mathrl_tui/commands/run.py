"""`run`: starts stages, or goes on with a run, and follows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import Home, Overrides
from mathrl_tui.commands.settled import settled_store

if TYPE_CHECKING:
    from store.journal import Position

DEFAULT_PROFILE = "qwen2.5-math-1.5b"


def run(
    home: Home,
    stages: Annotated[
        list[str] | None,
        typer.Argument(metavar="STAGE...", help="data traces preprocess sft grpo eval, or all"),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help=f"the experiment [default: {DEFAULT_PROFILE}]")
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="one run for each seed; repeatable [default: 0]")
    ] = None,
    name: Annotated[str, typer.Option(help="how the run is called [default: the profile's name]")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="print the run's id and do not follow it")] = False,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="ask this server instead of the worker: eval.server")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="go on with this run, in further stages where some are given"),
    ] = None,
) -> None:
    """Start stages of an experiment and follow them; Ctrl-C asks whether to stop the run or leave it."""
    if resume is not None:
        if profile or overrides or seeds or name or server:
            raise WrongInput("--resume: a run keeps its own profile, seed and name; leave those options out")
        _go_on(home, resume, stages or [], detach)
        return
    if server == "":
        raise WrongInput("--server: needs a URL, http://HOST:PORT/v1")
    changed = [*(overrides or []), *([f"eval.server={server}"] if server else [])]
    chosen = DEFAULT_PROFILE if profile is None else profile
    _start(home, stages or [], chosen, changed, seeds or [0], name, detach)


def _start(
    home: Path,
    stages: list[str],
    profile: str,
    overrides: list[str],
    seeds: list[int],
    name: str,
    detach: bool,
) -> None:
    """Several seeds run one after the other in the foreground; detached, they queue for the GPUs."""
    import profiles
    from engine.launch import start_run
    from engine.plan import parse_stages
    from store.home import RUN_NAME

    wanted, settings = parse_stages(stages), profiles.load(profile, overrides)
    if name and not RUN_NAME.match(name):
        raise WrongInput(f"--name {name}: use letters, digits and . _ + - only")
    for seed in seeds:
        run_id = start_run(home, settings, wanted, seed, name)
        print(run_id, flush=True)
        if not detach:
            follow_and_report(home, run_id)


def _go_on(home: Path, resume: str, stages: list[str], detach: bool) -> None:
    from engine.launch import resume_run
    from engine.plan import parse_stages
    from store.home import RunFolder
    from store.live import end_of
    from store.query import Store

    run_id = Store(home).resolve(resume)
    past = end_of(RunFolder(home, run_id).journal)
    resume_run(home, run_id, parse_stages(stages) if stages else ())
    print(run_id, flush=True)
    if not detach:
        follow_and_report(home, run_id, past)


def follow_and_report(home: Path, run_id: str, start: Position | None = None) -> None:
    """Follows a run from `start` (None: its beginning) to its end, then prints what its evaluations say."""
    from mathrl_tui.commands.follow import follow
    from mathrl_tui.commands.report import results
    from store.journal import START

    follow(home, run_id, start or START)
    found = results(settled_store(home), run_id)
    if found:
        print(f"\n{found}")
