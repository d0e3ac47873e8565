"""What the store says of measures other than one right or wrong answer a question, against arithmetic done here."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from store.comparison import Comparison, compare_arms, run_comparisons
from store.home import RunFolder
from store.journal import JournalWriter
from store.query import Store
from store.records import LOGLIKELIHOOD, Example, Record, RunRow
from store.statistics.perplexity import detectable_perplexity_ratio, perplexity_ratio_interval
from store.statistics.rates import wilson_of_scores
from store.verdict import regression_watch, run_watch, verdict

SETTINGS = {"confidence": 0.95, "resamples": 2000, "margin": 0.02, "suite": ["wikitext", "arc", "gsm8k"]}
WORDS = [100, 250, 80, 400, 120, 60, 90, 310]


def document(arm: str, number: int, score: float) -> Example:
    return Example(arm, 5, "wikitext", f"d{number}", 0, False, score, LOGLIKELIHOOD, "p", "", WORDS[number])


def answer(arm: str, task: str, number: int, score: float, sample: int = 0, text: str = "") -> Example:
    outcome = "correct" if score == 1.0 else "wrong"
    return Example(arm, 5, task, f"q{number}", sample, score == 1.0, score, outcome, "p", "o", 3, "", text)


def journaled(home: Path, rows: list[Record], *arms: str) -> Store:
    config = {"profile": {"arms": [{"name": arm} for arm in arms], "eval": SETTINGS}, "seed": 1}
    with JournalWriter(RunFolder(home, "r").journal) as writer:
        writer.append([RunRow("r", "demo", 1, config), *rows])
    store = Store(home)
    store.ingest()
    return store


def likelihoods(shift: float) -> list[float]:
    rng = np.random.default_rng(2)
    return [-words * (3.0 + shift + 0.1 * rng.normal()) for words in WORDS]


def test_perplexity_is_told_and_compared_by_document(tmp_path: Path) -> None:
    sides = {"base": likelihoods(0.0), "sft": likelihoods(0.05)}
    rows: list[Record] = [
        document(arm, n, score) for arm, scores in sides.items() for n, score in enumerate(scores)
    ]
    rows += [answer(arm, "arc", n, float(n % 2)) for arm in sides for n in range(6)]
    store = journaled(tmp_path, rows, "base", "sft")
    base = next(row for row in store.evaluations("r") if (row.arm, row.task) == ("base", "wikitext"))
    expected = {arm: math.exp(-sum(scores) / sum(WORDS)) for arm, scores in sides.items()}
    assert base.measure == "perplexity"
    assert base.rate == pytest.approx(expected["base"])
    assert base.low < base.rate < base.high
    arc, perplexity = run_comparisons(store, "r")
    assert (arc.task, arc.measure, perplexity.task, perplexity.measure) == (
        "arc",
        "accuracy",
        "wikitext",
        "perplexity",
    )
    assert (perplexity.a_rate, perplexity.b_rate) == pytest.approx((expected["base"], expected["sft"]))
    assert perplexity.difference == pytest.approx(math.exp(0.05) - 1.0)
    assert perplexity.ci_low <= perplexity.difference <= perplexity.ci_high
    assert (perplexity.n, perplexity.a_only, perplexity.b_only) == (8, 8, 0)
    assert perplexity.p_value == pytest.approx(2 / 2**8, abs=0.01)  # all eight of one sign
    assert compare_arms(store, "r/base", "r/sft", resamples=2000, seed=1)[1].to_json() | {
        "a": "",
        "b": "",
    } == (perplexity.to_json() | {"a": "", "b": ""})
    assert "perplexity of SFT on wikitext above that of base by 5.1 %" in verdict([perplexity])
    assert verdict([arc, perplexity]).endswith(
        f"; perplexity of SFT on wikitext above that of base by 5.1 %, 95 % interval "
        f"{100 * perplexity.ci_low:.1f} to {100 * perplexity.ci_high:.1f}"
    )


def test_a_lower_perplexity_is_no_loss() -> None:
    better = Comparison(
        "wikitext",
        62,
        "base",
        "sft",
        20.0,
        19.0,
        -0.05,
        -0.06,
        -0.04,
        0.95,
        0.01,
        0.01,
        0.01,
        2,
        60,
        "perplexity",
    )
    worse = Comparison(
        "wikitext",
        62,
        "base",
        "sft",
        20.0,
        21.0,
        0.05,
        0.04,
        0.06,
        0.95,
        0.01,
        0.01,
        0.01,
        60,
        2,
        "perplexity",
    )
    kept, lost = regression_watch([better, worse], 0.02)
    assert (kept.standing, kept.loss, kept.largest_loss) == ("kept", -0.05, -0.04)
    assert (lost.standing, lost.loss, lost.largest_loss) == ("lost", 0.05, 0.06)
    assert verdict([better, worse]) == (
        "perplexity of SFT on wikitext below that of base by 5.0 %, 95 % interval 4.0 to 6.0; "
        "perplexity of SFT on wikitext above that of base by 5.0 %, 95 % interval 4.0 to 6.0"
    )
    small = replace(worse, difference=0.0003, ci_low=0.0001, ci_high=0.0004)
    assert verdict([small]).startswith("perplexity of SFT on wikitext above that of base by less than 0.1 %")


def test_detectable_ratio_is_the_error_of_the_log_ratio() -> None:
    a, b = (-np.array(likelihoods(shift)) for shift in (0.0, 0.0))
    b = b * np.exp(np.random.default_rng(8).normal(0.0, 0.02, len(b)))
    rng, words = np.random.default_rng(9), np.array(WORDS)
    drawn = rng.integers(len(words), size=(20_000, len(words)))
    log_ratios = (b - a)[drawn].sum(1) / words[drawn].sum(1)  # its error by the bootstrap
    effect = math.log(detectable_perplexity_ratio(a, b, words))
    assert effect == pytest.approx((1.959964 + 0.841621) * log_ratios.std(), rel=0.15)
    assert detectable_perplexity_ratio(a, b * 1e6, words) == math.inf  # a model that has gone astray
    same = perplexity_ratio_interval(a, a, words)  # one model twice: nothing to resample
    assert (same.low, same.estimate, same.high) == (1.0, 1.0, 1.0)


def test_the_interval_of_fractions_is_wilsons_at_the_effective_size(tmp_path: Path) -> None:
    scores = np.random.default_rng(4).beta(2.0, 3.0, size=300)
    found = wilson_of_scores(scores.mean(), scores.var(), 300)
    size = 300 * scores.mean() * (1 - scores.mean()) / scores.var()
    low, high = proportion_confint(scores.mean() * size, size, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high))
    error = scores.std() / math.sqrt(300)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.02)
    rows: list[Record] = [answer("base", "truthfulqa", n, float(score)) for n, score in enumerate(scores)]
    (shown,) = journaled(tmp_path, rows, "base").evaluations("r")
    assert (shown.rate, shown.low, shown.high) == pytest.approx((scores.mean(), low, high))
    for questions, right in ((1319, 1000), (5, 5), (5, 0)):  # 0/1 scores: Wilson's own, to the last bit
        rate = right / questions
        one = wilson_of_scores(rate, rate * (1 - rate), questions)
        assert (one.low, one.high) == pytest.approx(
            proportion_confint(right, questions, method="wilson"), abs=1e-12
        )


def test_several_samples_give_pass_at_1_pass_at_k_and_majority(tmp_path: Path) -> None:
    chance = random.Random(3)
    drawn = [[chance.choice(["7", "7.0", "8", "9", ""]) for _ in range(6)] for _ in range(40)]
    rows: list[Record] = [
        answer("base", "gsm8k", question, float(text in ("7", "7.0")), sample, text)
        for question, texts in enumerate(drawn)
        for sample, text in enumerate(texts)
    ]
    (shown,) = journaled(tmp_path, rows, "base").evaluations("r")
    verdicts = [[text in ("7", "7.0") for text in texts] for texts in drawn]
    assert (shown.n, shown.samples) == (40, 240)
    assert shown.rate == pytest.approx(np.mean(verdicts))
    assert shown.pass_at_k == pytest.approx(np.mean([any(right) for right in verdicts]))
    assert shown.majority == pytest.approx(np.mean([_majority(texts) for texts in drawn]))


def _majority(texts: Sequence[str]) -> float:
    """Return the probability that the most frequent answer is 7; ties are broken at random."""
    votes = Counter("7" if text == "7.0" else text for text in texts if text)
    most = [answer for answer, count in votes.items() if count == max(votes.values())]
    return most.count("7") / len(most) if most else 0.0


def test_the_watch_takes_the_suite_and_not_a_task_of_ours_with_the_same_name() -> None:
    def row(task: str, a: str, b: str) -> Comparison:
        return Comparison(task, 900, a, b, 0.5, 0.5, 0.0, -0.01, 0.01, 0.95, 1.0, 1.0, 0.1, 0, 0)

    tasks = ("gsm8k", "gsm8k/lm-eval", "gsm8k/lm-eval/math_verify", "arc", "arc/acc_norm", "other")
    pairs = (("base", "sft"), ("base", "grpo"), ("sft", "grpo"))
    watched = run_watch([row(task, a, b) for a, b in pairs for task in tasks], SETTINGS)
    own = ["gsm8k/lm-eval", "gsm8k/lm-eval/math_verify", "arc"]
    assert [(each.arm, each.task) for each in watched] == [
        (arm, task) for arm in ("sft", "grpo") for task in own
    ]
    assert {each.standing for each in watched} == {"kept"}
