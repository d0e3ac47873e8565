"""`samples`: completions of an arm with question, gold answer and verdict.

They come from evaluations, validation or training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.ingested import ingested_store
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json
from mathrl_tui.core.answers import labelled, prompt_note, size, verdict
from mathrl_tui.core.text import harmless

if TYPE_CHECKING:
    from store.comparison import Address
    from store.query import Store
    from store.records import Example

# An arm's completion, and the other arm's on the same question.
SamplePair = tuple["Example", "Example | None"]
STEPS_NAMED = 20


class SampleSplit(str, Enum):  # noqa: UP042 (Typer reads the values of a str enum)
    """Origin of completions."""

    test = "test"
    validation = "validation"
    train = "train"


def samples(
    home: Home,
    arm: Annotated[str, typer.Argument(metavar="RUN/ARM", help="arm to read; also RUN/ARM@STEP")],
    wrong: Annotated[bool, typer.Option("--wrong", help="only those that are not correct")] = False,
    flips: Annotated[
        str,
        typer.Option(
            metavar="OTHER", help="only questions on which this arm (ARM or RUN/ARM) has a different verdict"
        ),
    ] = "",
    split: Annotated[
        SampleSplit,
        typer.Option(
            help="test: evaluations; validation: asked during training; train: the rollouts recorded at each step "
            "(grpo.examples_per_step)"
        ),
    ] = SampleSplit.test,
    step: Annotated[
        int | None, typer.Option(min=0, help="step N, after the N-th update [default: the last recorded]")
    ] = None,
    task: Annotated[str, typer.Option(help="one task of the evaluation [default: all]")] = "",
    limit: Annotated[int, typer.Option(min=1, help="maximum number of completions")] = 10,
    as_json: AsJson = False,
) -> None:
    """Read completions with question, gold answer and verdict."""
    from store.comparison import parse_address

    if task and split is not SampleSplit.test:
        raise WrongInput(
            f"--task {task}: only evaluations have tasks; leave it out with --split {split.value}"
        )
    if flips and split is SampleSplit.train:
        raise WrongInput("--flips: two arms train on different questions; use --split test or validation")
    store = ingested_store(home)
    address = parse_address(arm)
    address = replace(address, step=address.step if step is None else step)
    own = _completions(store, address, split, task)
    other_run = ""
    if flips:
        other = parse_address(flips if "/" in flips else f"{address.run}/{flips}")
        other_run = "" if other.run == address.run else f"{other.run}/"
        found = list(_flipped(own, _completions(store, other, split, task)))
    else:
        found = [(row, None) for row in own]
    fitting = [pair for pair in found if not wrong or _is_wrong(pair[0])]
    shown = fitting[:limit]
    if as_json:
        rows = [asdict(row) | ({"other": asdict(other)} if other else {}) for row, other in shown]
        print_json({"samples": rows, "found": len(fitting)})
    else:
        parts = [_completion_text(row, other, other_run) for row, other in shown]
        print("\n\n".join([*parts, _summary(fitting, len(shown))]) if shown else "no completion matches")


def _completions(store: Store, address: Address, split: SampleSplit, task: str) -> list[Example]:
    """Return the completions of the newest matching step, task by task."""
    if split is SampleSplit.test:
        return _evaluated(store, address, task)
    run_id = store.resolve(address.run)
    rows = store.examples(run_id, address.arm, split.value, limit=None)
    if not rows:
        arms = store.config(run_id).arms
        recorded = [arm for arm in arms if store.examples(run_id, arm, split.value, limit=1)]
        raise WrongInput(
            f"run {run_id}: no {split.value} completions of arm {address.arm} are recorded; "
            f"arms that have some: {', '.join(recorded) or 'none'}"
        )
    steps = sorted({row.step for row in rows})
    wanted = steps[-1] if address.step is None else address.step
    if wanted not in steps:
        raise WrongInput(
            f"run {run_id}: arm {address.arm} has no {split.value} completions at step {wanted}; "
            f"recorded: {_listed(steps)}"
        )
    return [row for row in rows if row.step == wanted]


def _evaluated(store: Store, address: Address, task: str) -> list[Example]:
    from store.comparison import evaluated, newest
    from store.score_files import InputError

    try:
        rows = newest(evaluated(store, address))
    except InputError as error:
        recorded = store.examples(store.resolve(address.run), address.arm, limit=1)
        hint = "; completions of its training: --split train or --split validation" if recorded else ""
        raise WrongInput(f"{error}{hint}") from None
    tasks = [row.task for row in rows]
    if task and task not in tasks:
        raise WrongInput(f"--task {task}: {address.run}/{address.arm} was evaluated on {', '.join(tasks)}")
    return [
        example
        for row in rows
        if task in ("", row.task)
        for example in store.examples(row.run, row.arm, row.task, row.step, limit=None)
    ]


def _flipped(own: Sequence[Example], others: Sequence[Example]) -> Iterator[SamplePair]:
    """Yield pairs on the same question and sample with other verdicts."""
    by_question = {(row.task, row.ex_id, row.sample): row for row in others}
    for row in own:
        pair = by_question.get((row.task, row.ex_id, row.sample))
        if pair and pair.is_judged and row.is_judged and pair.correct != row.correct:
            yield row, pair


def _is_wrong(row: Example) -> bool:
    """Return True if a completion was judged and is not correct.

    Scores and log-likelihoods are not judged.
    """
    return row.is_judged and not row.correct


def _listed(steps: Sequence[int]) -> str:
    if len(steps) <= STEPS_NAMED:
        return ", ".join(map(str, steps))
    return f"{len(steps)} steps from {steps[0]} to {steps[-1]}"


def _summary(found: Sequence[SamplePair], shown: int) -> str:
    """Return the number of completions by task, and how to see the others."""
    counts = Counter(row.task for row, _ in found)
    by_task = (
        f" ({', '.join(f'{task}: {count}' for task, count in counts.items())})" if len(counts) > 1 else ""
    )
    more = "" if shown == len(found) else "; --limit N shows more"
    return harmless(f"{shown} of {len(found)}{by_task}{more}")


def _completion_text(row: Example, other: Example | None, other_run: str) -> str:
    """Return a completion, and the other arm's with its run if that differs."""
    about = (row.task, row.ex_id, f"sample {row.sample}", _became(row), size(row), prompt_note(row))
    lines = [
        "── " + " · ".join(filter(None, about)),
        row.prompt.strip(),
        "   ".join(f"{label}: {words}" for label, words in labelled(row)),
        _written(row),
    ]
    if other is not None:
        lines += [
            f"{other_run}{_became(other)} · {': '.join(labelled(other)[-1])}",
            _written(other),
        ]
    return harmless("\n".join(lines))


def _became(row: Example) -> str:
    return f"{row.arm}@{row.step} · {verdict(row)}"


def _written(row: Example) -> str:
    return "\n".join(f"  {line}" for line in row.output.strip().splitlines()) or "  (nothing)"
