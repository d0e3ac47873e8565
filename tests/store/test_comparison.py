"""Comparisons: from files and from the store, their verdicts, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store.comparison import Comparison, compare_arms, compare_files, parse_address, run_comparisons
from store.home import RunFolder
from store.journal import JournalWriter
from store.pooling import compare_pooled
from store.query import Store
from store.records import Example, Record, RunRow
from store.score_files import InputError
from store.statistics.seeds import pool_seeds
from store.verdict import regression_watch, verdict, verdicts

QUESTIONS = 1319


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def outcomes(seed: int, rate: float, rows: int = QUESTIONS) -> list[bool]:
    return (np.random.default_rng(seed).random(rows) < rate).tolist()


def score_file(path: Path, correct: list[bool], **more: object) -> Path:
    return write(path, [{"id": f"q{n}", "correct": value, **more} for n, value in enumerate(correct)])


def row(
    difference: float, low: float, high: float, task: str = "gsm8k", a: str = "sft", b: str = "grpo"
) -> Comparison:
    return Comparison(
        task, 1319, a, b, 0.7, 0.7 + difference, difference, low, high, 0.95, 0.01, 0.02, 0.024, 90, 118
    )


def test_two_files_by_hand(tmp_path: Path) -> None:
    a = score_file(tmp_path / "a.jsonl", [True, True, False, False, True])
    b = write(tmp_path / "b.jsonl", [{"id": f"q{n}", "correct": n in (0, 2, 3, 4)} for n in (4, 3, 2, 1, 0)])
    (found,) = compare_files(a, b)
    assert (found.n, found.a_rate, found.b_rate) == (5, 0.6, 0.8)
    assert found.difference == pytest.approx(0.2)
    assert (found.a_only, found.b_only) == (1, 2)
    assert found.p_value == pytest.approx(2 * (1 / 8 + 3 / 8 / 2))  # one of three discordant, mid-p
    assert found.p_value_holm == found.p_value
    assert found.ci_low < 0.2 < found.ci_high
    assert list(found.to_json()) == [
        "task",
        "n",
        "a",
        "b",
        "a_rate",
        "b_rate",
        "difference",
        "ci_low",
        "ci_high",
        "confidence",
        "p_value",
        "p_value_holm",
        "minimum_detectable_effect",
        "a_only",
        "b_only",
        "measure",
    ]


def test_scores_as_lm_eval_and_windows_write_them(tmp_path: Path) -> None:
    rows = [{"id": n, "correct": score} for n, score in enumerate((1.0000000000000002, 0.25))]
    a = write(tmp_path / "a.jsonl", rows)  # TruthfulQA's sum of probabilities
    b = tmp_path / "b.jsonl"
    b.write_text(a.read_text(), encoding="utf-8-sig")
    (found,) = compare_files(a, b)
    assert (found.a_rate, found.b_rate, found.difference) == (0.625, 0.625, 0.0)
    c = write(tmp_path / "c.jsonl", [{"id": 0, "correct": 1.01}])
    with pytest.raises(InputError, match="from 0 to 1"):
        compare_files(c, c)


def test_tasks_and_samples_of_files(tmp_path: Path) -> None:
    def rows(bonus: float) -> list[object]:
        return [
            {"task": task, "id": question, "sample": sample, "correct": min(1.0, sample * 0.5 + bonus)}
            for task in ("math", "arc")
            for question in range(40)
            for sample in (0, 1)
        ]

    found = compare_files(write(tmp_path / "a.jsonl", rows(0.0)), write(tmp_path / "b.jsonl", rows(0.2)))
    assert [(part.task, part.n) for part in found] == [("math", 40), ("arc", 40)]
    assert found[0].a_rate == pytest.approx(0.25)
    assert found[0].difference == pytest.approx(0.2)
    assert found[0].p_value_holm == pytest.approx(2 * found[0].p_value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{"id": 1, "correct": true}\n{"id": 2, "corr', 2, "not JSON"),
        ('{"id": 1, "correct": true}\n\n[1, 2]\n', 3, "not an object"),
        ('{"correct": true}\n', 1, "no `id`"),
        ('{"id": 1}\n', 1, "no `correct`"),
        ('{"id": 1, "correct": "yes"}\n', 1, "no `correct`"),
        ('{"id": 1, "correct": 3}\n', 1, "no `correct`"),
        ('{"id": 1, "correct": true}\n{"id": 1, "correct": true}\n', 2, "first on line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, line: int, words: str) -> None:
    good = score_file(tmp_path / "good.jsonl", [True])
    bad = tmp_path / "bad.jsonl"
    bad.write_text(text)
    with pytest.raises(InputError) as error:
        compare_files(good, bad)
    assert str(error.value).startswith(f"{bad}:{line}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_unpaired_files_are_refused_by_the_ids_that_differ(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [{"id": name, "correct": True} for name in ("x", "y", "z")])
    b = write(tmp_path / "b.jsonl", [{"id": name, "correct": True} for name in ("x", "w")])
    with pytest.raises(InputError, match=r"only in .*a\.jsonl: y, z; only in .*b\.jsonl: w;"):
        compare_files(a, b)
    many = write(tmp_path / "many.jsonl", [{"id": n, "correct": True} for n in range(20)])
    with pytest.raises(InputError, match=r"0, 1, 2, 3, 4 and 15 more"):
        compare_files(a, many)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    good = score_file(tmp_path / "good.jsonl", [True])
    with pytest.raises(InputError, match=r"gone\.jsonl: cannot be read: No such file"):
        compare_files(tmp_path / "gone.jsonl", good)
    with pytest.raises(InputError, match=r"empty\.jsonl: holds no rows"):
        compare_files(write(tmp_path / "empty.jsonl", []), good)


def test_addresses() -> None:
    address = parse_address("demo-s0-20260101-000000/sft+grpo@50")
    assert (address.run, address.arm, address.step) == ("demo-s0-20260101-000000", "sft+grpo", 50)
    assert parse_address("demo/base").step is None
    for text in ("base", "/base", "demo/", "demo/base@", "demo/base@last"):
        with pytest.raises(InputError, match="write RUN/ARM"):
            parse_address(text)


def examples(arm: str, task: str, correct: list[bool], step: int = 0, prompt: str = "p") -> list[Record]:
    return [
        Example(
            arm, step, task, f"q{n}", 0, value, float(value), "correct" if value else "wrong", prompt, "o", 3
        )
        for n, value in enumerate(correct)
    ]


def write_run(home: Path, seed: int, rows: list[Record], resamples: int = 2000) -> None:
    config = {
        "profile": {
            "name": "demo",
            "eval": {"confidence": 0.9, "resamples": resamples},
            "arms": [{"name": name} for name in ("base", "sft", "grpo")],
        },
        "seed": seed,
        "plan": [],
        "created": float(seed),
    }
    folder = RunFolder(home, f"demo-s{seed}")
    folder.path.mkdir(parents=True)
    folder.config.write_text(json.dumps(config))
    writer = JournalWriter(folder.journal)
    writer.append([RunRow("demo", "demo", seed, config), *rows])
    writer.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    write_run(
        tmp_path,
        5,
        [
            *examples("grpo", "word-problems", outcomes(3, 0.7, 300), step=50),
            *examples("sft", "word-problems", outcomes(2, 0.1, 300), step=50),
            *examples("sft", "word-problems", outcomes(2, 0.6, 300), step=100),
            *examples("base", "word-problems", outcomes(1, 0.2, 300)),
            *examples("base", "arc", outcomes(4, 0.5, 40)),
            *examples("sft", "arc", outcomes(5, 0.5, 40), step=100),
            *examples("grpo", "arc", outcomes(5, 0.5, 30), step=50),  # on its way: ten are missing
            *examples("sft", "validation", outcomes(6, 0.5, 10), step=25),
        ],
    )
    found = Store(tmp_path)
    found.catch_up()
    return found


def test_all_pairs_of_a_run_are_one_family(store: Store) -> None:
    found = run_comparisons(store, "demo-s5")
    assert [(part.a, part.b, part.task) for part in found] == [
        ("base", "sft", "word-problems"),
        ("base", "sft", "arc"),
        ("base", "grpo", "word-problems"),
        ("sft", "grpo", "word-problems"),
    ]
    base, sft = (np.array(outcomes(seed, rate, 300), float) for seed, rate in ((1, 0.2), (2, 0.6)))
    assert found[0].difference == pytest.approx(float((sft - base).mean()))  # the last step of sft
    assert found[0].confidence == 0.9
    smallest = min(part.p_value for part in found)
    assert min(part.p_value_holm for part in found) == pytest.approx(4 * smallest)
    assert len(verdicts(found)) == 3


def test_arms_by_address(store: Store) -> None:
    late = compare_arms(store, "demo-s5/base", "demo/sft")
    early = compare_arms(store, "demo/base", "demo-s5/sft@50")
    assert [part.task for part in late] == ["word-problems", "arc"]
    assert [part.task for part in early] == ["word-problems"]
    assert early[0].b == "demo-s5/sft@50"
    assert early[0].difference < 0.0 < late[0].difference


def test_an_arm_without_evaluation_is_named(store: Store) -> None:
    with pytest.raises(
        InputError, match="no evaluation of arm sft at step 7; evaluated arms: base, grpo, sft"
    ):
        compare_arms(store, "demo/base", "demo/sft@7")


def test_verdict_words() -> None:
    others = [row(0.0, -0.012, 0.01, task=f"task{n}") for n in range(8)]
    assert verdict([row(0.021, 0.004, 0.038), *others]) == (
        "GRPO above SFT on gsm8k by 2.1 points, 95 % interval 0.4 to 3.8; no difference shown on 8 other tasks: "
        "no loss of GRPO was observed; losses up to 1.2 points on task0 are compatible with the data; "
        "a true difference of 2.4 points would have been found 4 times in 5 on task0"
    )
    assert verdict([row(-0.021, -0.038, -0.004)]) == "SFT above GRPO by 2.1 points, 95 % interval 0.4 to 3.8"
    assert verdict([row(-0.003, -0.02, 0.014, a="r/base", b="r/sft+grpo")]) == (
        "no difference shown between SFT+GRPO and base: −0.3 points, 95 % interval −2.0 to 1.4; "
        "a true difference of 2.4 points would have been found 4 times in 5"
    )
    assert verdict([row(0.021, 0.004, 0.038, a="one/sft", b="two/sft")]).startswith("two/SFT above one/SFT")


def test_a_verdict_gives_what_was_observed_before_what_is_open() -> None:
    won = row(0.021, 0.004, 0.038)
    lossy = row(-0.167, -0.448, 0.114, task="mmlu")
    assert verdict([won, lossy]).endswith(
        "; no difference shown on mmlu: the observed loss of GRPO is 16.7 points (95 % interval −44.8 to 11.4); "
        "losses up to 44.8 points are compatible with the data; "
        "a true difference of 2.4 points would have been found 4 times in 5"
    )
    several = verdict([won, row(-0.05, -0.08, -0.02, "arc"), row(0.03, 0.01, 0.05, "wino"), lossy, won])
    assert (
        "; GRPO loses 5.0 points on arc (95 % interval 2.0 to 8.0); GRPO gains 3.0 points on wino ("
        in several
    )
    assert "no loss larger" not in several and "-" not in several


def test_what_the_data_cannot_show_is_said() -> None:
    """p after Holm's correction, and a detectable effect of 1: no difference would be found at all."""
    chance = replace(row(-0.021, -0.038, -0.004), p_value_holm=0.3)
    assert verdict([chance]).endswith("0.4 to 3.8; not significant after Holm's correction, p 0.3")
    few = replace(row(-0.2, -0.6, 0.3), minimum_detectable_effect=1.0)
    assert verdict([few]).endswith(
        "with so little data no difference, however large, would have been found 4 times in 5"
    )


def test_regression_watch_tells_kept_lost_and_unclear() -> None:
    rows = [
        row(-0.005, -0.015, 0.005, "kept"),
        row(-0.05, -0.07, -0.03, "lost"),
        row(-0.01, -0.03, 0.01, "unclear"),
    ]
    watched = regression_watch(rows, margin=0.02)
    assert [part.standing for part in watched] == ["kept", "lost", "unclear"]
    assert watched[1].loss == pytest.approx(0.05)
    assert watched[1].largest_loss == pytest.approx(0.07)


def test_runs_of_several_seeds_are_pooled(tmp_path: Path) -> None:
    for seed, rate in ((0, 0.5), (1, 0.56), (2, 0.6)):
        sft, grpo = outcomes(100, 0.5, 400), outcomes(seed, rate, 400)
        write_run(tmp_path, seed, [*examples("sft", "math", sft), *examples("grpo", "math", grpo)])
    store = Store(tmp_path)
    store.catch_up()
    (found,) = compare_pooled(store, "demo-s0/sft", "demo-s0/grpo", ["demo-s1", "demo-s2"])
    rows = np.array([outcomes(seed, rate, 400) for seed, rate in ((0, 0.5), (1, 0.56), (2, 0.6))], float)
    expected = pool_seeds(rows - np.array(outcomes(100, 0.5, 400), float)).interval
    assert (found.n, found.difference) == (400, pytest.approx(expected.estimate))
    assert (found.ci_low, found.ci_high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    (alone,) = compare_arms(store, "demo-s0/sft", "demo-s0/grpo")
    assert alone.difference != found.difference
    assert found.b_rate == pytest.approx(rows.mean())


def test_pooling_says_that_it_leaves_perplexities_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (0, 1):
        rows: list[Record] = []
        for arm in ("sft", "grpo"):
            rows += examples(arm, "math", outcomes(seed, 0.5, 40))
            rows += [Example(arm, 0, "wikitext", "d0", 0, False, -30.0, "loglikelihood", "", "", 9)]
        write_run(tmp_path, seed, rows)
    store = Store(tmp_path)
    store.catch_up()
    (found,) = compare_pooled(store, "demo-s0/sft", "demo-s0/grpo", ["demo-s1"])
    assert found.task == "math"
    assert caplog.messages == [
        "wikitext: perplexities are not pooled; `compare` without --pool has each run's own"
    ]


def test_runs_over_other_questions_are_not_pooled(tmp_path: Path) -> None:
    for seed in (0, 1):
        rows = [*examples("sft", "math", [True, False] * 9, prompt=f"of seed {seed}")]
        write_run(
            tmp_path, seed, [*rows, *examples("grpo", "math", [False, True] * 9, prompt=f"of seed {seed}")]
        )
    store = Store(tmp_path)
    store.catch_up()
    with pytest.raises(
        InputError, match="runs demo-s0 and demo-s1: id q0 of task math is a different question"
    ):
        compare_pooled(store, "demo-s0/sft", "demo-s0/grpo", ["demo-s1"])
    with pytest.raises(InputError, match="needs at least one other run"):
        compare_pooled(store, "demo-s0/sft", "demo-s0/grpo", ["demo-s0"])
