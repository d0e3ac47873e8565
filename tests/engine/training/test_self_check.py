"""The self-check: it passes models that are computed right, and shows every planted fault with its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.generators import transformers as generator
from engine.startup import self_check
from engine.startup.self_check import CheckRequest
from engine.training import attention, head, policy
from engine.training.own_forward import own_logprobs, packed_logprobs
from engine.training.policy import Policy
from engine.training.self_check import PRECISIONS, LogprobComparison, Tolerance, compare, probes, reference
from engine.training.stage_check import checked_policy
from engine.training.unsupported import UnsupportedModel
from tests.bench import agreement
from tests.support import families

FAULTS = {"Gemma-2": "cap", "Granite": "scale", "Cohere": "scale", "Phi": "bias"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the folder of a family's tiny model, once."""
    root = tmp_path_factory.mktemp("families")

    def folder(family: str) -> Path:
        made = root / family
        if not made.is_dir():
            families.make(family, made)
        return made

    return folder


def request(folder: Path, **changes: Any) -> CheckRequest:
    asked = CheckRequest(
        str(folder), "main", True, True, gradient_checkpointing=True, max_model_len=64, threads=1
    )
    return replace(asked, **changes)


def without(part: str) -> Callable[[PreTrainedModel, head.Form], head.Head]:
    """The head of a model, computed without its soft cap, scale or bias."""

    def head_of(model: PreTrainedModel, form: head.Form) -> head.Head:
        layer: Any = model.get_output_embeddings()
        bias = None if part == "bias" else getattr(layer, "bias", None)
        return head.Head(layer.weight, bias, form if part == "bias" else replace(form, **{part: None}))

    return head_of


@pytest.mark.parametrize("family", FAULTS)
def test_a_family_that_is_computed_right_passes(family: str, folders: Callable[[str], Path]) -> None:
    assert self_check.fault(request(folders(family))) == ""


@pytest.mark.parametrize(("family", "part"), FAULTS.items())
def test_each_fault_of_a_head_is_found_in_training_and_in_sampling(
    family: str, part: str, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders(family)
    monkeypatch.setattr(policy, "head_of", without(part))
    line = self_check.fault(request(folder, generates=False))
    assert line.startswith(
        f"model.source {folder}: the packed path does not compute this model: max |Δ log-prob| "
    )
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    own = -np.concatenate(own_logprobs(model, probes(model))).mean()
    assert f"the model's own {own:.4g})" in line and "allowed max 0.0001, mean 0.0001; choose" in line
    monkeypatch.undo()
    monkeypatch.setattr(generator, "head_of", without(part))
    line = self_check.fault(request(folder, trains=False))
    assert line.startswith(
        f"model.source {folder}: hardware.generator 'transformers' does not compute this model"
    )
    with monkeypatch.context() as planted:
        planted.setattr(policy, "head_of", without(part))
        with pytest.raises(UnsupportedModel, match="on cpu in bfloat16 does not compute this model: max"):
            checked_policy(folder, torch.device("cpu"), "bfloat16", False)


def test_live_dropout_is_found(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = Policy.__init__

    def awake(self: Policy, *arguments: Any) -> None:
        prepare(self, *arguments)
        for module in self.model.modules():
            module.training = isinstance(module, nn.Dropout)

    assert self_check.fault(request(folders("GPT-2"), generates=False)) == ""
    monkeypatch.setattr(Policy, "__init__", awake)
    assert "the packed path does not compute this model" in self_check.fault(request(folders("GPT-2")))


def test_sequences_that_see_their_neighbours_are_found(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a model that takes the packed row for one sequence."""

    def mixing(*states: torch.Tensor, **_: Any) -> torch.Tensor:
        query, key, value = (each[None].transpose(1, 2) for each in states[:3])
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )
        return attended.transpose(1, 2)[0]

    monkeypatch.setattr(policy, "check_packing", lambda network, device: None)
    monkeypatch.setattr(attention, "padded_attention", mixing)
    assert "the packed path does not compute this model" in self_check.fault(request(folders("Llama")))


def test_a_model_that_magnifies_rounding_passes_and_a_fault_of_it_does_not() -> None:
    """Its attention is nearly one-hot, so that float32's last bit reaches the log-probs 5,000 times larger."""
    model = agreement.random_model("granite")
    floor = PRECISIONS[torch.float32].floor
    trained = Policy(model)
    expected = reference(model, probes(model), torch.float32)
    found = packed_logprobs(trained, expected.sequences)
    assert compare(found, expected.logprobs).fault(floor).startswith("max |Δ log-prob| ")
    assert expected.fault(found) == ""
    faulty = [part * 1.01 for part in found]
    assert "allowed" in expected.fault(faulty)


def test_a_comparison_by_hand() -> None:
    allowed = Tolerance(mean=0.25, largest=0.5)
    own = [np.array([-1.0, -2.0], np.float32), np.array([-3.0], np.float32)]
    near = [np.array([-1.5, -2.0], np.float32), np.array([-3.25], np.float32)]
    found = compare(near, own)
    assert found == LogprobComparison(largest=0.5, mean=0.25, loss=2.25, own_loss=2.0)
    assert found.fault(allowed) == ""
    figures = "max |Δ log-prob| 0.5, mean 0.25 (loss 2.25, the model's own 2); allowed "
    assert found.fault(Tolerance(0.25, 0.4)) == f"{figures}max 0.4, mean 0.25"
    assert found.fault(Tolerance(0.2)) == f"{figures}mean 0.2"
    endless = [np.array([-1.0, -np.inf], np.float32), np.array([-3.0], np.float32)]
    assert compare(endless, endless).fault(allowed) == ""
    for broken in (np.nan, -np.inf):
        other = [np.array([-1.0, broken], np.float32), np.array([-3.0], np.float32)]
        assert compare(other, own).fault(allowed).startswith("max |Δ log-prob| ")
    with pytest.raises(ValueError, match="different tokens"):
        compare(near[:1], own)


def test_the_benchmark_prints_what_the_tolerances_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agreement, "FAMILIES", ("llama",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["agreement", "--out", str(tmp_path / "rows.json")])
    agreement.main()
    exact, rounded = json.loads((tmp_path / "rows.json").read_text())
    assert (exact["dtype"], rounded["dtype"]) == ("float32", "bfloat16")
    for row, most in ((exact, 1e-4), (rounded, 0.3)):
        assert 0.0 < row["random ids"]["mean"] < row["random ids"]["allowed_mean"] <= most
    assert capsys.readouterr().out.count("random ids") == 2
