"""`demo`: a miniature of the whole experiment on this machine's CPU."""

from __future__ import annotations

from typing import Annotated

import typer

from mathrl_tui.commands.options import Home, Overrides

WHAT_IT_IS = """\
The whole experiment in miniature, on this machine's CPU: data, traces, a base model trained from scratch, SFT, GRPO
from the base, GRPO from the SFT checkpoint, and the evaluation of all four on held-out problems.
The model is a toy with fewer than a million parameters on generated arithmetic word problems. The software is the same
as for real models. The figures show that it works; they do not predict results of real models.
"""
AFTERWARDS = """
These are the figures of a toy model on generated problems; they do not predict results of real models.
The runs are kept: `mathrl-tui` shows curves and completions, `mathrl-tui export {run_ids}` writes the tables.\
"""


def demo(
    home: Home,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seed", min=0, help="seed of model and sampling; repeatable, pooled at the end [default: 0]"
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Run the whole experiment in miniature on this machine's CPU.

    It ends with the comparison table.
    """
    from engine.plan import parse_stages
    from mathrl_tui.commands.seeds import Experiment, run_seeds
    from profiles.changes import changed_settings
    from profiles.load import load as load_profile

    settings = overrides or []
    profile, changed = load_profile("demo", settings), changed_settings("demo", settings)
    print(WHAT_IT_IS)
    runs = run_seeds(home, Experiment(profile, parse_stages(["all"]), "", changed), seeds or [0])
    print(AFTERWARDS.format(run_ids=" ".join(runs)))
