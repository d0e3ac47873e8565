"""The stage `preprocess`: template and tokenise traces and questions once.

    traces, questions ─▶ template ─▶ tokenizer ─▶ memory-mapped arrays

A training sequence is the prompt's ids, the answer's ids and, if the solution is complete, the
end-of-sequence id. A sequence that is too long is cut: it then has no end-of-sequence id and is
`finished=False`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.context import Context, StageFailed
from engine.data import encoding, inputs, locations, prompts
from engine.data.cache import building, is_whole
from engine.data.inputs import SplitName
from engine.data.progress import Progress
from engine.data.rows import DataRow
from engine.data.token_rows import write_lines, write_rows
from engine.data.trace import Trace
from store.events import InputReport, LogLine, StageChange

Item = TypeVar("Item")
STAGE = "preprocess"
# Texts tokenised at a time: enough for the tokenizer's threads, small enough for frequent progress.
BATCH = 1000


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts to create: a split under one template.

    Each question follows `shots` worked examples.
    """

    split: SplitName
    template: str
    shots: int


@dataclass(frozen=True, slots=True)
class _MadeSequence:
    """The ids of a trace behind its prompt.

    They are `finished` if they end with the end-of-sequence id.
    """

    trace: Trace
    ids: list[int]
    prompt_length: int
    finished: bool


def run(context: Context) -> None:
    """Create sequences and prompts, or reuse them.

    Raises: StageFailed if the template or the tokenizer does not fit the data.
    """
    folder = inputs.preprocess_folder(context)
    if is_whole(context, folder, STAGE):
        message = f"already done for the same inputs: {folder.name}"
        context.emit(StageChange("skipped").event(message, STAGE))
    else:
        _make(context, folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    context.emit(InputReport(report).event(report["summary"], STAGE))


def prompt_sets(context: Context) -> list[PromptSet]:
    """Return the prompt sets of later stages.

    They are 0-shot for training, and those of the eval settings.
    """
    form = context.profile.preprocess.template
    sets = [PromptSet("train", form, 0), PromptSet("validation", form, 0)]
    held_out: list[SplitName] = ["test", "platinum"] if context.profile.data.platinum else ["test"]
    for template in context.profile.eval.templates or (form,):
        sets += [
            PromptSet(split, template, shots) for split in held_out for shots in context.profile.eval.shots
        ]
    return sets


def _make(context: Context, folder: Path) -> None:
    tokenizer = inputs.tokenizer(context)
    sets = prompt_sets(context)
    rows = {chosen.split: inputs.rows(context, chosen.split) for chosen in sets}
    examples = inputs.rows(context, "shots") if max(context.profile.eval.shots, default=0) else []
    traces, marked = _to_train_on(context)
    progress = Progress(
        context.emit, STAGE, len(traces) + sum(len(rows[chosen.split]) for chosen in sets), "texts"
    )
    work = _Work(context, tokenizer, progress)
    with building(folder) as made:
        made_prompts = {
            chosen: work.prompts(made, chosen, rows[chosen.split], examples[: chosen.shots])
            for chosen in sets
        }
        by_id = dict(zip((row.ex_id for row in rows["train"]), made_prompts[sets[0]], strict=True))
        report = work.report | work.sequences(made, traces, by_id) | {"marked_wrong": marked}
        report["summary"] = summary(report)
        work.warn_of_cuts()
        (made / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")


def _to_train_on(context: Context) -> tuple[list[Trace], int]:
    """Return the traces for SFT, and how many were left out as wrong."""
    traces = inputs.traces(context)
    if context.profile.traces.wrong_answers != "mark":
        return traces, 0
    right = [trace for trace in traces if trace.correct]
    return right, len(traces) - len(right)


class _Work:
    """Tokenises the texts of one output folder, and counts long ones."""

    def __init__(self, context: Context, tokenizer: Any, progress: Progress) -> None:
        self.context, self.tokenizer, self.progress = context, tokenizer, progress
        self.settings = context.profile.preprocess
        self.longest_prompt = context.profile.hardware.max_model_len - locations.completion_limit(
            context.profile
        )
        self.report: dict[str, Any] = {"template": self.settings.template, "prompts": {}}

    def prompts(
        self, folder: Path, chosen: PromptSet, rows: Sequence[DataRow], examples: Sequence[DataRow]
    ) -> list[list[int]]:
        """Write the prompts of a set.

        Cut the start of prompts without room for a completion; count them.
        """
        instruction = self.settings.system_prompt
        found: list[list[int]] = []
        texts: list[str] = []
        for batch in _batches(rows):
            try:
                new = [
                    prompts.prompt_text(self.tokenizer, row.question, chosen.template, instruction, examples)
                    for row in batch
                ]
                found += encoding.encode_prompts(self.tokenizer, new, chosen.template)
            except ValueError as error:
                raise StageFailed(f"preprocess: {error}") from None
            texts += new
            self._advance(len(batch))
        name = inputs.prompts_name(chosen.split, chosen.template, chosen.shots)
        cut = sum(len(ids) > self.longest_prompt for ids in found)
        self.report["prompts"][name] = {**_lengths([len(ids) for ids in found]), "cut": cut}
        found = [self._shortened(ids) for ids in found]
        write_rows(folder, name, found)
        facts = zip((row.ex_id for row in rows), (row.answer for row in rows), texts, strict=True)
        write_lines(folder / f"{name}.jsonl", facts)
        return found

    def sequences(
        self, folder: Path, traces: Sequence[Trace], prompt_ids: dict[str, list[int]]
    ) -> dict[str, Any]:
        """Write the training sequences of `traces`. Return the report's counts."""
        end = self.tokenizer.eos_token_id
        if end is None:
            raise StageFailed(
                "preprocess: the tokenizer has no end-of-sequence token; set eos_token in its configuration"
            )
        made = list(self._made(traces, prompt_ids, end))
        if traces and not made:
            raise StageFailed(
                "preprocess: no prompt leaves room for an answer in preprocess.max_tokens = "
                f"{self.settings.max_tokens}; raise it"
            )
        _write_sequences(folder, made)
        lengths = [len(each.ids) for each in made]
        cut = sum(each.trace.finished and not each.finished for each in made)
        return {
            "sequences": {**_lengths(lengths), "cut": cut, "no_room": len(traces) - len(made)},
            "tokens": sum(lengths),
            "unfinished_traces": sum(not each.trace.finished for each in made),
        }

    def _made(
        self, traces: Sequence[Trace], prompt_ids: dict[str, list[int]], end: int
    ) -> Iterator[_MadeSequence]:
        """Yield the sequence of each trace whose prompt leaves room for an answer."""
        most = self.settings.max_tokens
        for trace, answer in self._answers(traces):
            prompt = prompt_ids[trace.ex_id]
            whole = [*prompt, *answer, end] if trace.finished else [*prompt, *answer]
            if len(prompt) < min(most, len(whole)):
                finished = trace.finished and len(whole) <= most
                yield _MadeSequence(trace, whole[:most], len(prompt), finished)

    def warn_of_cuts(self) -> None:
        """Log how many prompts lost their start.

        Their results do not compare with other programs.
        """
        cut = {name: found["cut"] for name, found in self.report["prompts"].items() if found["cut"]}
        if cut:
            counts = ", ".join(f"{count:,} of {name}" for name, count in cut.items())
            message = (
                f"prompts longer than {self.longest_prompt:,} tokens lost their beginning: {counts}; raise "
                "hardware.max_model_len, or lower eval.max_new_tokens and grpo.max_new_tokens"
            )
            self.context.emit(LogLine("warning").event(message, STAGE))

    def _shortened(self, ids: list[int]) -> list[int]:
        """Return the last `longest_prompt` ids.

        Keep a beginning-of-sequence id in first place.
        """
        if len(ids) <= self.longest_prompt:
            return ids
        kept = [] if ids[0] != self.tokenizer.bos_token_id else ids[:1]
        return kept + ids[len(ids) - self.longest_prompt + len(kept) :]

    def _answers(self, traces: Sequence[Trace]) -> Iterator[tuple[Trace, list[int]]]:
        after = prompts.prompt_end(self.tokenizer, self.settings.template, self.settings.system_prompt)
        for batch in _batches(traces):
            texts = [prompts.answer_text(self.settings.template, trace.text) for trace in batch]
            yield from zip(batch, encoding.encode_answers(self.tokenizer, texts, after), strict=True)
            self._advance(len(batch))

    def _advance(self, count: int) -> None:
        self.progress.advance(count)
        self.context.control.boundary()


def _write_sequences(folder: Path, made: Sequence[_MadeSequence]) -> None:
    write_rows(folder, "sequences", [each.ids for each in made])
    lengths = np.array([each.prompt_length for each in made], np.int32)
    np.save(folder / "sequences.prompt_lengths.npy", lengths)
    np.save(folder / "sequences.finished.npy", np.array([each.finished for each in made], np.bool_))
    write_lines(folder / "sequences.jsonl", ([each.trace.ex_id, each.trace.sample] for each in made))


def summary(report: dict[str, Any]) -> str:
    """Return the report of preprocess as one line."""
    sequences = report["sequences"]
    cut = sum(found["cut"] for found in report["prompts"].values())
    return (
        f"{sequences['count']:,} sequences, {report['tokens']:,} tokens (mean {sequences['mean']}, "
        f"longest {sequences['max']}); {sequences['cut']} cut, {sequences['no_room']} without room for an answer; "
        f"{cut} prompts cut"
    )


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _lengths(sizes: Sequence[int]) -> dict[str, Any]:
    if not sizes:
        return {"count": 0, "mean": 0.0, "p95": 0, "max": 0}
    mean, high = float(np.mean(sizes)), int(np.percentile(sizes, 95))
    return {"count": len(sizes), "mean": round(mean, 1), "p95": high, "max": max(sizes)}
