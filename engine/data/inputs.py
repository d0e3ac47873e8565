"""Inputs of the later stages: rows, traces, sequences and prompts.

Their paths come from engine/data/locations.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine.artifacts import digests
from engine.artifacts.arms import tokenizer_source
from engine.context import Context, StageFailed
from engine.data import dataset, locations
from engine.data.dataset import DataRow
from engine.data.sequence import TokenSequence
from engine.data.token_rows import TokenRows, read_lines
from engine.data.trace import Trace
from engine.protocol.messages import Prompt

SplitName = Literal["train", "validation", "test", "shots", "platinum"]


class Sequences:
    """Training sequences, memory-mapped: `len()`, `[row]` and iteration."""

    def __init__(self, folder: Path) -> None:
        self._rows = TokenRows(folder, "sequences")
        self._prompt_lengths = np.load(folder / "sequences.prompt_lengths.npy")
        self._finished = np.load(folder / "sequences.finished.npy")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> TokenSequence:
        return TokenSequence(self._rows[row], int(self._prompt_lengths[row]), bool(self._finished[row]))

    def __iter__(self) -> Iterator[TokenSequence]:
        return (self[row] for row in range(len(self)))


def rows(context: Context, split: SplitName) -> list[DataRow]:
    """Return the rows of a split, in the source's order.

    `shots` are the worked examples of few-shot prompts.
    Raises: StageFailed if the stage data has not run.
    """
    return dataset.read_rows(_made(data_folder(context), "data") / f"{split}.jsonl")


def traces(context: Context) -> list[Trace]:
    """Return the cleaned traces, in the order of the training rows.

    Raises: StageFailed if the stage traces has not run.
    """
    lines = read_lines(_made(traces_folder(context), "traces") / "traces.jsonl")
    return [Trace(**line) for line in lines]


def sequences(context: Context) -> Sequences:
    """Open the training sequences of SFT that the stage preprocess wrote.

    Raises: StageFailed if preprocess has not run.
    """
    return Sequences(_made(preprocess_folder(context), "preprocess"))


def prompts(
    context: Context, split: SplitName, *, template: str | None = None, shots: int = 0
) -> list[Prompt]:
    """Return the questions of a split as prompts, indexed from 0.

    Args:
        template: None means that of preprocess.
    Raises: StageFailed if preprocess has not made them.
    """
    form = template or context.profile.preprocess.template
    name = prompts_name(split, form, shots)
    folder = _made(preprocess_folder(context), "preprocess")
    if not (folder / f"{name}.jsonl").is_file():
        raise StageFailed(
            f"preprocess made no prompts {name}; eval.templates, eval.shots and data.platinum decide which it makes"
        )
    token_rows, facts = TokenRows(folder, name), read_lines(folder / f"{name}.jsonl")
    return [
        Prompt(ex_id, index, token_rows[index], gold, text, special=form == "plain")
        for index, (ex_id, gold, text) in enumerate(facts)
    ]


def prompts_name(split: str, template: str, shots: int) -> str:
    """Return the stem of the files that hold these prompts."""
    return f"prompts-{split}-{template}-{shots}"


def tokenizer(context: Context) -> Any:
    """Return the experiment's tokenizer, that of its base model.

    Raises: StageFailed if it cannot be loaded.
    """
    return _tokenizer(tokenizer_source(context.folder, context.profile), context.profile.model.revision)


@lru_cache(4)
def _tokenizer(source: str, revision: str) -> Any:
    from engine.data.tokenizer import load_tokenizer

    try:
        if Path(source).is_dir():
            digests.check(Path(source), digests.of_tokenizer)
        return load_tokenizer(source, revision)
    except digests.DamagedFile as error:
        remedy = "resume the run if it trained this model, else put a whole copy in its place"
        raise StageFailed(f"{error}; {remedy}") from None
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise StageFailed(
            f"tokenizer of {source}: {first}; set model.source to a model that has one"
        ) from None


def data_folder(context: Context) -> Path:
    """Return the output folder of stage `data` for this run's profile."""
    return locations.data_folder(context.folder.home, context.profile, locations.stored_keys(context.folder))


def traces_folder(context: Context) -> Path:
    """Return the output folder of stage `traces` for this run's profile."""
    return locations.traces_folder(
        context.folder.home, context.profile, locations.stored_keys(context.folder)
    )


def preprocess_folder(context: Context) -> Path:
    """Return the output folder of stage `preprocess` for this run.

    It depends on the profile and the tokenizer.
    """
    return locations.preprocess_folder(context.folder, context.profile, locations.stored_keys(context.folder))


# Stages with outputs in the cache, and the folders.
CACHED: dict[str, Callable[[Context], Path]] = {
    "data": data_folder,
    "traces": traces_folder,
    "preprocess": preprocess_folder,
}


def _made(folder: Path, stage: str) -> Path:
    if not folder.is_dir():
        raise StageFailed(
            f"no output of stage {stage} for this profile in {folder.parent}; run {stage} first"
        )
    return folder
