"""The plan of a run: which steps, in which order, and what is left out."""

from __future__ import annotations

import pytest

from engine.plan import PlanError, Step, extended, make_plan, needs_worker, parse_stages
from profiles.load import load
from profiles.schema import Profile


def labels(profile_name: str, words: list[str], trained: tuple[str, ...] = ()) -> list[str]:
    return [step.label for step in make_plan(load(profile_name), parse_stages(words), trained)]


def test_the_whole_demo_walks_every_arm_after_its_parent() -> None:
    assert labels("demo", ["all"]) == [
        "data",
        "traces",
        "base",
        "preprocess",
        "sft",
        "grpo",
        "sft+grpo",
        "eval",
    ]


def test_a_hub_model_needs_no_base_step() -> None:
    expected = ["data", "traces", "preprocess", "sft", "grpo", "sft+grpo", "eval"]
    assert labels("qwen2.5-math-1.5b", ["all"]) == expected


def test_words_may_come_in_any_order() -> None:
    assert labels("qwen2.5-math-1.5b", ["eval", "data"]) == ["data", "eval"]


def test_own_solutions_become_traces_unasked_and_a_teacher_is_never_asked_unasked() -> None:
    profile = load("qwen2.5-math-1.5b", ["traces.source=solutions"])
    assert [step.label for step in make_plan(profile, ("data", "preprocess"))] == [
        "data",
        "traces",
        "preprocess",
    ]
    assert labels("qwen2.5-math-1.5b", ["data", "preprocess"]) == ["data", "preprocess"]


def test_grpo_alone_leaves_out_the_arm_whose_parent_is_missing() -> None:
    assert labels("qwen2.5-math-1.5b", ["grpo"]) == ["grpo"]
    assert labels("qwen2.5-math-1.5b", ["grpo"], trained=("sft",)) == ["grpo", "sft+grpo"]


def test_another_name_of_an_arm_that_is_not_there_starts_nothing() -> None:
    table = load("qwen2.5-math-1.5b").model_dump()
    table["arms"] += (
        {"name": "judged", "stage": "none", "parent": "sft"},
        {"name": "on", "stage": "grpo", "parent": "judged"},
    )
    profile = Profile.model_validate(table)
    assert [step.label for step in make_plan(profile, ("grpo",))] == ["grpo"]
    assert [step.label for step in make_plan(profile, ("grpo",), ("sft",))] == ["grpo", "sft+grpo", "on"]


@pytest.mark.parametrize(("words", "fault"), [([], "no stage given"), (["stf"], "stf: no such stage")])
def test_faulty_words_are_named(words: list[str], fault: str) -> None:
    with pytest.raises(PlanError, match=fault):
        parse_stages(words)


def test_only_generating_plans_need_a_worker() -> None:
    profile = load("demo")
    assert not needs_worker(profile, [Step("data"), Step("preprocess")])
    assert needs_worker(profile, [Step("sft", "sft")])
    assert not needs_worker(load("demo", ["sft.validate_every=0"]), [Step("sft", "sft")])
    assert needs_worker(profile, [Step("eval")])
    assert needs_worker(profile, [Step("grpo", "grpo")])


def test_a_replay_needs_a_worker_only_for_what_else_is_planned() -> None:
    profile = load("demo", ["grpo.replay=some-run"])
    assert not needs_worker(profile, [Step("preprocess"), Step("grpo", "grpo")])
    assert needs_worker(profile, [Step("grpo", "grpo"), Step("eval")])
    assert needs_worker(profile, [Step("sft", "sft"), Step("grpo", "sft+grpo")])


def test_an_evaluation_that_is_asked_for_again_comes_after_what_was_trained_since() -> None:
    first = [Step("preprocess"), Step("sft", "sft"), Step("eval")]
    grpo = Step("grpo", "grpo")
    assert extended(first, [grpo, Step("eval")]) == [*first[:2], grpo, Step("eval")]
    assert extended(first, [grpo]) == [*first, grpo]
    assert extended([*first, grpo], [Step("eval")]) == [*first[:2], grpo, Step("eval")]
    assert extended(first, [Step("eval")]) == first
