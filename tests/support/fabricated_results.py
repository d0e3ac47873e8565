"""Fabricated results of every kind that the screens tell apart: samples, prompt forms, perplexities, watched tasks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from store.records import LOGLIKELIHOOD, Example
from tests.support.fabricated import TASK, FabricatedRun

RUN = "demo-s0-results"
SAMPLES = 4
WATCHED = 200  # questions of each watched task
# of the watched questions, how many base alone, and how many the arm alone answers rightly: the flips of the watch
MMLU = {"sft": (2, 2), "grpo": (30, 2)}  # kept, lost
ARC = {"sft": (5, 4), "grpo": (6, 6)}  # not settled
WORDS = 500  # a document
NATS = {"base": 2.50, "sft": 2.55, "grpo": 2.48}  # a word: perplexities 12.18, 12.81, 11.94
DOCUMENTS = 24
WINDOW = 2048  # tokens that suite tasks read at once


def results_run(home: Path, run_id: str = RUN) -> FabricatedRun:
    """A finished run whose arms answered with several samples, under two prompt forms, and on a suite."""
    run = FabricatedRun(home, run_id)
    run.write(run.event("state", state="running", reason=""))
    run.train("pretrain", "base", 3)
    run.write(run.event("stage", "", "eval", status="started"))
    for place, arm in enumerate(("base", "sft", "grpo")):
        run.write(*_sampled(run, arm, 8 + 6 * place), *_asked_otherwise(run, arm, 10 + 5 * place))
        run.write(*_watched(run, arm), *_documents(run, arm))
    run.write(run.event("stage", "", "eval", status="finished"), run.event("state", state="done", reason=""))
    return run


def _sampled(run: FabricatedRun, arm: str, right: int) -> list[Example]:
    """Of 40 questions, the first `right` have all SAMPLES right; of the next ten, one sample is."""
    return [
        _row(run, arm, TASK, index, sample, index < right or (index < right + 10 and sample == 0))
        for index in range(40)
        for sample in range(SAMPLES)
    ]


def _asked_otherwise(run: FabricatedRun, arm: str, right: int) -> list[Example]:
    return [_row(run, arm, f"{TASK}/chat/8-shot", index, 0, index < right) for index in range(40)]


def _watched(run: FabricatedRun, arm: str) -> list[Example]:
    rows = []
    for task, flips in (("mmlu", MMLU), ("arc", ARC)):
        lost, gained = flips.get(arm, (0, 0))
        for index in range(WATCHED):
            right = (
                index < WATCHED // 2
            )  # of base; the first of these are lost, the first of the others gained
            flipped = index < lost if right else index < WATCHED // 2 + gained
            rows.append(_chosen(_row(run, arm, task, index, 0, right != flipped), index))
    return rows


def _chosen(row: Example, index: int) -> Example:
    """The row of a choice: nothing was generated. Three prompts did not fit into the window."""
    choice = "B" if row.correct else "A"
    return replace(
        row,
        output=choice,
        answer=choice,
        gold="B",
        tokens=0,
        finish="",
        window_tokens=WINDOW,
        prompt_cut=9 * (index < 3),
    )


def _documents(run: FabricatedRun, arm: str) -> list[Example]:
    """Documents of which every arm predicts some better than others, but all of them by the same share."""
    return [
        Example(
            arm=arm,
            step=50,
            task="wikitext",
            ex_id=f"wikitext:{index}",
            sample=0,
            correct=False,
            score=-WORDS * NATS[arm] * (1 + 0.1 * math.sin(index)),
            outcome=LOGLIKELIHOOD,
            prompt="A document of some length.",
            output="",
            tokens=WORDS,
            ts=run.now,
            window_tokens=WINDOW,
        )
        for index in range(DOCUMENTS)
    ]


def _row(run: FabricatedRun, arm: str, task: str, index: int, sample: int, correct: bool) -> Example:
    answer = str(index + 1 if correct else sample)
    return Example(
        arm=arm,
        step=50,
        task=task,
        ex_id=f"{task}-{index}",
        sample=sample,
        correct=correct,
        score=float(correct),
        outcome="correct" if correct else "no_answer" if sample == SAMPLES - 1 else "wrong",
        prompt=f"Question {index}",
        output=f"#### {answer}",
        tokens=9,
        gold=str(index + 1),
        answer="" if not correct and sample == SAMPLES - 1 else answer,
        ts=run.now,
        finish="stop",
    )
