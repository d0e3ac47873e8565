"""`samples`: what an arm wrote, beside question, gold answer and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json
from mathrl_tui.commands.settled import settled_store
from mathrl_tui.core.text import harmless

if TYPE_CHECKING:
    from store.comparison import Address
    from store.query import Store
    from store.records import Example
    from store.results import EvalSummary

Sample = tuple["Example", "Example | None"]  # an arm's completion, and the other arm's of the same question


def samples(
    home: Home,
    arm: Annotated[str, typer.Argument(metavar="RUN/ARM", help="whose completions; also RUN/ARM@STEP")],
    wrong: Annotated[bool, typer.Option("--wrong", help="only those that are not correct")] = False,
    flips: Annotated[
        str, typer.Option(metavar="OTHER", help="only where this arm (ARM or RUN/ARM) has the other verdict")
    ] = "",
    step: Annotated[
        int | None, typer.Option(min=0, help="checkpoint step [default: the last evaluated]")
    ] = None,
    task: Annotated[str, typer.Option(help="task [default: the first evaluated]")] = "",
    limit: Annotated[int, typer.Option(min=1, help="how many")] = 10,
    as_json: AsJson = False,
) -> None:
    """Read completions with question, gold answer, extracted answer and verdict."""
    from dataclasses import replace

    from store.comparison import parse_address

    store = settled_store(home)
    address = parse_address(arm)
    own = _evaluation(store, replace(address, step=address.step if step is None else step), task)
    if flips:
        other = parse_address(flips if "/" in flips else f"{own.run}/{flips}")
        found = _flipped(store, own, _evaluation(store, other, own.task))
    else:
        found = ((row, None) for row in _examples(store, own))
    chosen = [pair for pair in found if not (wrong and pair[0].correct)][:limit]
    if as_json:
        print_json(
            {"samples": [asdict(row) | ({"other": asdict(other)} if other else {}) for row, other in chosen]}
        )
    else:
        print("\n\n".join(_told(row, other) for row, other in chosen) or "no completion fits")


def _evaluation(store: Store, address: Address, task: str) -> EvalSummary:
    """The newest evaluation that fits; on its first task where none is named."""
    from store.comparison import evaluated

    rows = evaluated(store, address)
    tasks = list(dict.fromkeys(row.task for row in rows))
    if task and task not in tasks:
        raise WrongInput(f"--task {task}: {address.run}/{address.arm} was evaluated on {', '.join(tasks)}")
    return max((row for row in rows if row.task == (task or tasks[0])), key=lambda row: row.step)


def _examples(store: Store, evaluation: EvalSummary) -> list[Example]:
    return store.examples(evaluation.run, evaluation.arm, evaluation.task, evaluation.step, limit=None)


def _flipped(store: Store, own: EvalSummary, other: EvalSummary) -> Iterator[Sample]:
    """Pairs of completions of one question and sample number on which the verdicts differ."""
    others = {(row.ex_id, row.sample): row for row in _examples(store, other)}
    for row in _examples(store, own):
        pair = others.get((row.ex_id, row.sample))
        if pair is not None and pair.correct != row.correct:
            yield row, pair


def _told(row: Example, other: Example | None) -> str:
    lines = [
        f"── {row.ex_id} · sample {row.sample} · {row.arm}@{row.step} · {row.outcome} · {row.tokens} tokens",
        row.prompt.strip(),
        f"gold: {row.gold}   extracted: {row.answer or 'none'}",
        _written(row),
    ]
    if other is not None:
        lines += [
            f"{other.arm}@{other.step} · {other.outcome} · extracted: {other.answer or 'none'}",
            _written(other),
        ]
    return harmless("\n".join(lines))


def _written(row: Example) -> str:
    return "\n".join(f"  {line}" for line in row.output.strip().splitlines()) or "  (nothing)"
