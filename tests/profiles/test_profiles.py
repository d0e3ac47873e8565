"""Profiles: what is refused, in which words, and that nothing is ignored."""

from __future__ import annotations

from pathlib import Path
from typing import get_origin

import pytest

from profiles.errors import ProfileError
from profiles.load import load as load_profile
from profiles.load import names as profile_names
from profiles.load import validate
from profiles.schema import Profile


def test_every_profile_that_comes_with_the_package_loads() -> None:
    assert {"demo", "qwen2.5-math-1.5b"} <= set(profile_names())
    for name in profile_names():
        assert load_profile(name).name == name


def test_the_default_mends_the_learning_rate_of_the_reference() -> None:
    # fp32 masters make 1e-6 the right size; 1e-5 was chosen for weights that could not move.
    assert load_profile("qwen2.5-math-1.5b").grpo.learning_rate == 1e-6


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "sft.learning_rte=1e-6",
            "profile demo: sft.learning_rte: no such field; did you mean sft.learning_rate?",
        ),
        ("sft.learning_rate=3", "sft.learning_rate: input should be less than or equal to 1 (given: 3)"),
        ("grpo.group_size=1", "grpo.group_size: input should be greater than or equal to 2"),
        ("hardware.trainer=gpu0", "hardware.trainer: string should match pattern"),
        ("grpo.loss=ppo", "grpo.loss: input should be 'grpo', 'dr_grpo'"),
        ("traces.api_key=secret", "traces.api_key: no such field; did you mean traces.api_key_variable?"),
        ("traces.base_url=api.deepseek.com", "traces.base_url: string should match pattern"),
        ("sft.beta2=1", "sft.beta2: input should be less than 1"),
        ("sft.epochs=inf", "sft.epochs: input should be a finite number"),
        ("sft", "--set sft: write KEY=VALUE"),
        ("arms.sft.stage=grpo", "arms is not a table"),
        ("eval.max_new_tokens=4096", "hardware.max_model_len is 1024"),
        ("model.source=Qwen/Qwen2.5-0.5B", "'pretrain' needs model.source = 'made'"),
    ],
)
def test_a_fault_is_one_line_that_names_the_field(override: str, line: str) -> None:
    with pytest.raises(ProfileError) as error:
        load_profile("demo", [override])
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_are_read_as_toml_and_else_as_text() -> None:
    profile = load_profile(
        "demo", ["eval.shots=[0, 8]", "sft.learning_rate=2e-6", "data.source=../some/folder"]
    )
    assert profile.eval.shots == (0, 8)
    assert profile.sft.learning_rate == 2e-6
    assert profile.data.source == "../some/folder"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("eval.suite=mmlu,winogrande", ("mmlu", "winogrande")),
        ("eval.suite=mmlu, winogrande,", ("mmlu", "winogrande")),
        ("eval.suite=[mmlu,winogrande]", ("mmlu", "winogrande")),
        ('eval.suite="mmlu","winogrande"', ("mmlu", "winogrande")),
        ('eval.suite=["mmlu", "winogrande"]', ("mmlu", "winogrande")),
        ("eval.suite=mmlu", ("mmlu",)),
        ("eval.suite=2024", ("2024",)),
        ("eval.suite=", ()),
        ("eval.shots=0,8", (0, 8)),
        ("eval.shots=8", (8,)),
        ("eval.templates=chat,plain", ("chat", "plain")),
    ],
)
def test_a_field_of_several_values_takes_a_comma_list(override: str, expected: tuple[object, ...]) -> None:
    field = override.partition("=")[0].removeprefix("eval.")
    assert getattr(load_profile("demo", [override]).eval, field) == expected


def test_every_field_of_several_values_takes_a_comma_list() -> None:
    """So does one that is added later: the field's type decides, not its name."""
    names = [
        f"{section}.{name}"
        for section, model in Profile.model_fields.items()
        for name, field in getattr(model.annotation, "model_fields", {}).items()
        if get_origin(field.annotation) is tuple
    ]
    assert {"eval.suite", "eval.shots", "eval.templates"} <= set(names)
    for name in names:
        with pytest.raises(ProfileError, match=rf"{name}.*; write {name}=A,B or \[A, B\]"):
            load_profile("demo", [f"{name}=[[1], [2]]"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["eval.shots=0,0"], "profile demo: eval.shots lists a value twice: 0, 0"),
        (["eval.templates=chat,chat"], "profile demo: eval.templates lists a value twice: chat, chat"),
        (["eval.shots="], "eval.shots and eval.suite are both empty, so nothing would be measured; set one"),
        (
            ["pretrain.width=50"],
            "profile demo: pretrain.width is 50 for 4 heads; vLLM on a CPU takes 32, 48 or 64",
        ),
    ],
)
def test_values_that_do_not_go_together_are_one_short_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("demo", overrides)
    assert message in str(caught.value) and "given" not in str(caught.value)


def test_r1s_pupils_are_not_cut_and_eight_examples_fit() -> None:
    profile = load_profile("qwen2.5-math-1.5b")
    assert profile.eval.max_new_tokens >= profile.traces.max_tokens
    # The longest prompt of GSM8K with eight examples takes 1,454 tokens of a tokenizer that splits numbers into digits.
    assert profile.hardware.max_model_len - profile.eval.max_new_tokens > 1454


def test_a_missing_profile_names_the_nearest() -> None:
    with pytest.raises(ProfileError, match="did you mean demo?"):
        load_profile("dmo")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[sft\n")
    with pytest.raises(ProfileError, match="broken.toml: not valid TOML"):
        load_profile(str(path))


def test_arms_must_form_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "arms.toml"
    path.write_text('[[arms]]\nname = "sft"\nstage = "sft"\nparent = "base"\n')
    with pytest.raises(ProfileError, match="starts from 'base', which is not declared before it"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("arms", "line"),
    [
        ([], "arms: the list is empty"),
        (
            [{"name": "other", "stage": "none"}, {"name": "base", "stage": "pretrain"}],
            "first arm 'other' has no model",
        ),
        ([{"name": "eval", "stage": "pretrain"}], "'eval' is the name of a stage"),
        ([{"name": "tasks", "stage": "pretrain"}], "'tasks' is the name of a stage"),
    ],
)
def test_arms_that_a_run_could_not_walk(arms: list[dict[str, str]], line: str) -> None:
    table = load_profile("demo").model_dump(mode="json") | {"arms": arms}
    with pytest.raises(ProfileError, match=line):
        validate(table, "demo")


def test_a_profile_survives_its_own_dump() -> None:
    profile = load_profile("demo")
    assert Profile.model_validate(profile.model_dump(mode="json")) == profile


def test_every_field_is_described() -> None:
    for section in Profile.model_fields.values():
        fields = getattr(section.annotation, "model_fields", {})
        assert all(field.description for field in fields.values())
