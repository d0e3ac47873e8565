"""Families of transformers: equal to plain transformers in training and sampling, or refused when loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.generators import transformers as generator
from engine.training import head_form, policy
from engine.training.head import Form, Head
from tests.bench import architectures
from tests.support import families

REFUSED = {
    "Qwen3-Next", "GraniteMoE-hybrid", "GPT-J", "GPT-Neo", "CodeGen", "StableLM", "Falcon", "BLOOM", "MPT", "XGLM",
    "Mamba", "Mamba-2", "Jamba", "Bamba", "Falcon-H1", "RecurrentGemma", "LFM2", "Nemotron", "DiffLlama",
    "Llama-4 (text), chunks", "xLSTM",
}  # fmt: skip


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_family_is_plain_transformers_or_refused(family: str, tmp_path: Path) -> None:
    row = architectures.compare(family, tmp_path)
    assert row.verdict == ("refused" if family in REFUSED else "equal"), row
    for refusal in row.refusals:
        assert "\n" not in refusal and row.model_type in refusal


FAULTS = {
    "Gemma-2": lambda form: replace(form, cap=None),
    "Granite": lambda form: replace(form, scale=None),
    "Cohere": lambda form: replace(form, scale=None),
    "MiniCPM3": lambda form: replace(form, hidden_scale=None),
}


@pytest.mark.parametrize("family", FAULTS)
def test_a_head_without_its_cap_or_scale_is_seen(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(model: object) -> Form:
        form = head_form.observed_form(model)  # type: ignore[arg-type]
        broken: Form = FAULTS[family](form)
        assert broken != form
        return broken

    monkeypatch.setattr(policy, "observed_form", faulty)
    monkeypatch.setattr("engine.generators.body.observed_form", faulty)
    row = architectures.compare(family, tmp_path)
    assert row.trained > 0.1 and row.sampled > 0.1 and row.gradient > 0.1
    assert abs(row.loss - row.reference) > 0.1


@pytest.mark.parametrize("family", ["Phi", "PhiMoE"])
def test_a_head_without_its_bias_is_seen(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(model: object, form: Form) -> Head:
        head = head_form.head_of(model, form)  # type: ignore[arg-type]
        assert head.bias is not None
        return replace(head, bias=None)

    monkeypatch.setattr(policy, "head_of", faulty)
    monkeypatch.setattr(generator, "head_of", faulty)
    row = architectures.compare(family, tmp_path)
    assert row.trained > 0.1 and row.sampled > 0.1
    assert abs(row.loss - row.reference) > 0.1


def test_the_table_gives_each_row_and_its_reason(tmp_path: Path) -> None:
    rows = [architectures.compare(family, tmp_path / family) for family in ("Llama", "Mamba")]
    lines = architectures.table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].endswith("| equal |")
    assert lines[3].startswith("| Mamba | `mamba` | – |") and "refused: " in lines[3]
