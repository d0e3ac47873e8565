"""`demo`: the whole experiment in miniature on this machine's CPU."""

from __future__ import annotations

from typing import Annotated

import typer

from mathrl_tui.commands.options import Home, Overrides

WHAT_IT_IS = """\
The whole experiment in miniature, on this machine's CPU: data, traces, a base model made on the spot, SFT, GRPO from
the base, GRPO from the SFT checkpoint, and the evaluation of all four on held-out problems.
The model is a toy of under a million parameters on generated arithmetic word problems. The machinery is the real one;
the figures show that it works and say nothing about real models.
"""
AFTERWARDS = """
These are the figures of a toy model on generated problems; they say nothing about real models.
The run stays here: `mathrl-tui` shows its curves and completions, `mathrl-tui export {run_id}` writes its tables.\
"""


def demo(
    home: Home,
    seed: Annotated[int, typer.Option(min=0, help="seed of data, model and sampling")] = 0,
    overrides: Overrides = None,
) -> None:
    """Run the whole experiment in miniature on this machine's CPU, ending in the comparison table."""
    import profiles
    from engine.launch import start_run
    from engine.plan import parse_stages
    from mathrl_tui.commands.run import follow_and_report

    print(WHAT_IT_IS)
    run_id = start_run(home, profiles.load("demo", overrides or []), parse_stages(["all"]), seed)
    print(run_id, flush=True)
    follow_and_report(home, run_id)
    print(AFTERWARDS.format(run_id=run_id))
