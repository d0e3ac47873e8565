"""The suite's window does not follow the hardware: refused where the hardware cannot hold it, else the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from engine.errors import LaunchError
from engine.generators.transformers import TransformersGenerator
from engine.lm_eval_suite import window
from engine.lm_eval_suite.model import GeneratorModel
from engine.lm_eval_suite.progress import DocumentCounter
from engine.plan import Step
from engine.protocol.messages import WeightRef
from engine.startup.preflight import check_suite
from profiles.load import load
from profiles.schema import Profile
from tests.support import tiny_qwen2

EVAL = [Step("eval")]
POSITIONS = 256  # of the tiny model


def words(count: int, seed: int) -> str:
    return " ".join(f"w{number}" for number in np.random.default_rng(seed).integers(2, 10, size=count))


def instance(kind: str, arguments: tuple[Any, ...], document: int) -> Instance:
    return Instance(kind, {}, arguments, 0, metadata=("task", document, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_qwen2.make(path, seed=3)
    return path


def model(folder: Path, longest: int, size: int, **options: Any) -> GeneratorModel:
    torch.set_num_threads(1)
    generator = TransformersGenerator(folder, "cpu", torch.float32, 32, longest)
    generator.load(WeightRef("base", 0, str(folder)))
    return GeneratorModel(generator, window=window.effective(size, generator.positions), **options)


def profile(folder: Path, longest: int, size: int, *more: str) -> Profile:
    settings = (f"model.source={folder}", f"hardware.max_model_len={longest}", f"eval.window={size}",
                "eval.max_new_tokens=8", "grpo.max_new_tokens=8", 'eval.suite=["wikitext"]', *more)  # fmt: skip
    return load("qwen2.5-math-1.5b", settings)


def test_hardware_that_cannot_hold_the_window_is_refused_by_both_names(folder: Path) -> None:
    for longest, size, needed in ((100, 200, 200), (200, 4096, POSITIONS)):
        with pytest.raises(LaunchError) as refusal:
            check_suite(profile(folder, longest, size), EVAL)
        message = str(refusal.value)
        assert "eval.window" in message and f"hardware.max_model_len is {longest}" in message
        assert f"--set hardware.max_model_len={needed} or --set eval.window={longest}" in message


def test_hardware_that_holds_the_window_and_runs_without_a_suite_pass(folder: Path) -> None:
    check_suite(profile(folder, 200, 200), EVAL)
    check_suite(profile(folder, POSITIONS, 4096), EVAL)  # as much as the model has
    check_suite(profile(folder, 100, 200, "eval.suite=[]"), EVAL)
    check_suite(profile(folder, 100, 200), [Step("sft", "sft")])


def test_perplexity_and_choices_are_the_same_whatever_the_hardware_holds(folder: Path) -> None:
    page = [instance("loglikelihood_rolling", (words(600, 1),), 0)]
    choices = [instance("loglikelihood", (words(300, 2), f" w{n}"), 0) for n in (3, 4)]
    found = [model(folder, longest, 100) for longest in (100, 180, 256)]
    pages = [each.loglikelihood_rolling(page)[0] for each in found]
    scores = [[value for value, _ in each.loglikelihood(choices)] for each in found]
    assert pages == [pages[0]] * 3 and scores == [scores[0]] * 3
    assert model(folder, 256, 200).loglikelihood_rolling(page)[0] != pytest.approx(pages[0], rel=1e-4)


def test_a_model_that_ends_sooner_shortens_the_window_by_what_vllm_needs() -> None:
    assert [window.effective(4096, positions) for positions in (2048, 4096, 4098, 8192)] == [
        2046,
        4094,
        4096,
        4096,
    ]


def test_a_prompt_that_does_not_fit_is_asked_without_its_start_and_counted(folder: Path) -> None:
    long, short = words(300, 5), words(20, 6)
    asked = model(folder, 256, 100)
    asked.loglikelihood(
        [instance("loglikelihood", (text, " w3 w4"), n) for n, text in enumerate((long, short))]
    )
    # A window of 100 reads 100 tokens and predicts the 101st: 101 less the choice's 2 are left of 300.
    assert asked.asked(long, " w3 w4") == (" ".join(long.split()[-99:]), 201)
    assert asked.asked(short, " w3 w4") == (short, 0)
    settings = {"until": ["never"], "max_gen_toks": 10}
    asked.generate_until(
        [instance("generate_until", (text, settings), n) for n, text in enumerate((long, short))]
    )
    assert asked.asked(long) == (" ".join(long.split()[-90:]), 210)
    assert asked.asked(short) == (short, 0)


def test_a_choice_longer_than_the_window_is_refused_and_not_scored_in_part(folder: Path) -> None:
    with pytest.raises(
        ValueError, match="a choice of 101 tokens is longer than the window of 100; raise eval.window"
    ):
        model(folder, 256, 100).loglikelihood([instance("loglikelihood", ("w2", " " + words(101, 7)), 0)])


def test_every_kind_of_task_reports_its_documents_from_none_to_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, arguments in (
        ("loglikelihood", [(words(9, n), f" w{c}") for n in range(3) for c in (2, 3)]),
        ("loglikelihood_rolling", [(words(250, n),) for n in range(3)]),
        ("generate_until", [(words(9, n), {"until": ["never"], "max_gen_toks": 3}) for n in range(3)]),
    ):
        told: list[tuple[int, int]] = []
        monkeypatch.setattr("engine.lm_eval_suite.progress.REPORT_SECONDS", 0.0)
        asked = model(folder, 256, 100, report=lambda done, total: told.append((done, total)))  # noqa: B023
        each = len(arguments) // 3
        getattr(asked, kind)([instance(kind, a, place // each) for place, a in enumerate(arguments)])
        assert told[0] == (0, 3) and told[-1] == (3, 3), kind


def test_documents_are_counted_once_all_their_requests_are_answered_and_reported_once_a_second() -> None:
    told: list[tuple[int, int]] = []
    now = [10.0]
    documents = DocumentCounter(lambda done, total: told.append((done, total)), lambda: now[0])
    documents.expect([("a", 0), ("a", 0), ("a", 1), ("b", 0)])
    documents.answered(("a", 0))
    documents.answered(("a", 1))
    documents.report()  # too soon after the first report
    assert told == [(0, 3)]
    now[0] = 11.0
    documents.report()
    documents.report()  # nothing moved
    assert told == [(0, 3), (1, 3)]
    documents.answered(("a", 0))
    documents.answered(("b", 0))
    now[0] = 11.9
    documents.report()
    now[0] = 12.0
    documents.report()
    assert told == [(0, 3), (1, 3), (3, 3)]
