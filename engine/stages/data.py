"""The stage `data`: check and split the questions, measure contamination.

It also writes a data card to the run folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from engine.context import Context, StageFailed
from engine.data import dataset, inputs, locations
from engine.data.cache import building, is_whole
from engine.data.contamination import Overlap, overlap
from engine.data.dataset import DataError, DataRow, SourceRows, Splits
from engine.data.progress import Progress
from engine.data.rows import write_jsonl
from store.events import InputReport, StageChange
from store.private import close_to_others
from store.run_config import read_config

STAGE = "data"


def run(context: Context) -> None:
    """Create the splits, or reuse them.

    Write `data_card.json` and `data_card.md` to the run folder.
    Raises: StageFailed if the source cannot be read or split, or a planned stage cannot train on its rows.
    """
    folder = inputs.data_folder(context)
    if is_whole(context, folder, STAGE):
        context.emit(StageChange("skipped").event(f"already done for the same inputs: {folder.name}", STAGE))
    else:
        _make(context, folder)
    _check(context)
    for name in ("data_card.json", "data_card.md"):
        shutil.copyfile(folder / name, context.folder.path / name)
        close_to_others(context.folder.path / name)
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    context.emit(InputReport(card).event(summary(card), STAGE))


def _check(context: Context) -> None:
    """Reject rows that a planned stage cannot train on.

    The rows of a hub set are known only now.
    """
    try:
        plan = read_config(context.folder.config).plan
    except FileNotFoundError:
        return
    planned = {step.stage for step in plan}
    try:
        dataset.check_rows(
            context.profile, inputs.rows(context, "train"), inputs.rows(context, "test"), planned
        )
    except DataError as error:
        raise StageFailed(str(error)) from None


def _make(context: Context, folder: Path) -> None:
    frozen = locations.stored_keys(context.folder).get("data")
    if frozen is not None and frozen != locations.data_key(context.profile):
        raise StageFailed(
            f"data: {context.profile.data.source} has changed since the run was started; "
            f"restore its rows, or start a new run with `mathrl-tui run --profile …`"
        )
    progress = Progress(context.emit, STAGE, 4, "steps")
    try:
        source = dataset.load(context.profile)
        progress.advance()
        splits = dataset.split(source, context.profile)
    except DataError as error:
        raise StageFailed(str(error)) from None
    progress.advance()
    overlaps = [
        overlap("test", splits.test, "train", splits.train + splits.shots),
        overlap("validation", splits.validation, "train", splits.train + splits.shots),
    ]
    progress.advance()
    with building(folder) as made:
        for name, rows in by_name(splits).items():
            write_jsonl(made / f"{name}.jsonl", rows)
        card = data_card(context, source, splits, overlaps)
        (made / "data_card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False), encoding="utf-8")
        (made / "data_card.md").write_text(markdown(card), encoding="utf-8")
    progress.advance()


def by_name(splits: Splits) -> dict[str, list[DataRow]]:
    """Map the names of the split files to their rows."""
    return {
        "train": splits.train,
        "validation": splits.validation,
        "test": splits.test,
        "shots": splits.shots,
        "platinum": splits.platinum,
    }


def data_card(
    context: Context, source: SourceRows, splits: Splits, overlaps: list[Overlap]
) -> dict[str, Any]:
    """Return the data card as JSON-ready values.

    It covers origin, splits, shots and contamination.
    """
    return {
        "source": context.profile.data.source,
        "origin": source.origin,
        "licence": source.licence,
        "revision": context.profile.data.revision,
        "files": source.files,
        "seed": context.profile.data.seed,
        "config": list(context.profile.data.config),
        "source_rows": {"train": len(source.train), "test": len(source.test)},
        "splits": {name: _split_facts(rows) for name, rows in by_name(splits).items() if rows},
        "few_shot_examples": [row.ex_id for row in splits.shots],
        "contamination": [
            {
                "checked": found.checked,
                "against": found.against,
                "exact": len(found.exact),
                "shared_13_words": len(found.shared_run),
                "examples": found.pairs,
            }
            for found in overlaps
        ],
    }


def _split_facts(rows: list[DataRow]) -> dict[str, Any]:
    text = "".join(f"{row.ex_id}\0{row.question}\0{row.solution}\0{row.answer}\0" for row in rows)
    return {
        "rows": len(rows),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "question_characters": dataset.lengths([row.question for row in rows]),
        "solution_characters": dataset.lengths([row.solution for row in rows]),
    }


def summary(card: dict[str, Any]) -> str:
    """Return the data card as one line."""
    counts = ", ".join(f"{name} {facts['rows']:,}" for name, facts in card["splits"].items())
    found = "; ".join(
        f"{check['checked']} against {check['against']}: {check['exact']} the same, "
        f"{check['shared_13_words']} share 13 words"
        for check in card["contamination"]
    )
    return f"{counts} rows of {card['source']}; {found}"


def markdown(card: dict[str, Any]) -> str:
    """Return the data card as Markdown."""
    lines = [
        f"# Data of this run: {card['source']}",
        "",
        f"- origin: {card['origin']}",
        f"- licence: {card['licence']}",
        f"- revision: {card['revision']} · data.seed: {card['seed']}",
        *(f"- {name}: `{digest}`" for name, digest in card["files"].items()),
        f"- few-shot examples, kept out of training: {', '.join(card['few_shot_examples']) or 'none'}",
        "",
        "| split | rows | question, characters (mean / 95 % / max) | solution, characters | sha256 |",
        "|---|---|---|---|---|",
    ]
    for name, facts in card["splits"].items():
        question, solution = (
            f"{size['mean']} / {size['p95']:.0f} / {size['max']:.0f}"
            for size in (facts["question_characters"], facts["solution_characters"])
        )
        lines.append(f"| {name} | {facts['rows']} | {question} | {solution} | `{facts['sha256'][:16]}` |")
    lines += ["", "Contamination, reported but not removed (13 words in a row; GPT-3's measure):", ""]
    for check in card["contamination"]:
        pairs = ", ".join(" and ".join(pair) for pair in check["examples"]) or "none"
        lines.append(
            f"- {check['checked']} against {check['against']}: {check['exact']} questions the same, "
            f"{check['shared_13_words']} sharing 13 words (first: {pairs})"
        )
    return "\n".join(lines) + "\n"
