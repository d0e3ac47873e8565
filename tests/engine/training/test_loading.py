"""Every parameter of a model comes from its checkpoint, or loading stops with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from engine.generators.interface import WeightsRefused
from engine.generators.transformers import TransformersGenerator
from engine.training.loading import as_in_files, empty_model, load_model
from engine.training.policy import Policy
from engine.training.unsupported import UnsupportedModel
from tests.support import families

FILE = "model.safetensors"


def change(folder: Path, config: dict[str, object] | None = None, **tensors: Tensor | None) -> None:
    """Replace, add or (None) remove tensors of the checkpoint in `folder`, and settings of its config."""
    found = load_file(folder / FILE)
    for name, tensor in tensors.items():
        if tensor is None:
            del found[name]
        else:
            found[name] = tensor
    save_file(found, folder / FILE, metadata={"format": "pt"})
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | (config or {})))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    families.make("Llama", tmp_path)
    return tmp_path


LAYER = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lm_head.weight": None}, "lack lm_head.weight, and a random .*; give"),
        ({f"{LAYER}.weight": None, "model.norm.weight": None}, f"lack {LAYER}.weight and 1 other parameters"),
        ({"model.norm.weight": torch.ones(7)}, r"model.norm.weight is \(7,\) in the weights, and \(48,\)"),
        ({f"{LAYER}.bias": torch.ones(48)}, f"hold {LAYER}.bias"),
        ({f"{LAYER}.lora_A.weight": torch.ones(2, 48)}, f"hold {LAYER}.lora_A.weight"),
        (
            {"model.layers.2.input_layernorm.weight": torch.ones(48)},
            "hold model.layers.2.input_layernorm.weight",
        ),
    ],
)
def test_a_parameter_too_few_or_too_many_is_named(
    llama: Path, changes: dict[str, Tensor | None], reason: str
) -> None:
    change(llama, **changes)
    with pytest.raises(UnsupportedModel, match=reason):
        Policy.load(llama)
    with pytest.raises(WeightsRefused, match=reason):
        TransformersGenerator(llama, "cpu", torch.float32, 4, 64)


@pytest.mark.parametrize(
    ("value", "kind"), [(torch.nan, "NaN"), (torch.inf, "infinity"), (-torch.inf, "infinity")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_single_number_that_is_not_finite_is_named(
    llama: Path, dtype: torch.dtype, value: float, kind: str
) -> None:
    name = "model.embed_tokens.weight"
    rows = load_file(llama / FILE)[name].to(dtype)
    rows[-1, 7] = value
    change(llama, **{name: rows})
    with pytest.raises(UnsupportedModel, match=f"{name} holds {kind} in the weights; give"):
        load_model(llama, "auto")


def test_a_part_of_its_own_changes_nothing(llama: Path) -> None:
    change(llama, **{"v_head.summary.weight": torch.ones(1, 48)})
    assert not any("v_head" in name for name, _ in load_model(llama, torch.float32).named_parameters())


def test_a_tied_head_need_not_be_there_and_must_not_differ(llama: Path) -> None:
    tied = {"tie_word_embeddings": True}
    change(llama, tied, **{"lm_head.weight": None})
    model = load_model(llama, torch.float32)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    change(llama, tied, **{"lm_head.weight": torch.ones(families.VOCABULARY, 48)})
    with pytest.raises(
        UnsupportedModel, match="config.json ties lm_head.weight to model.embed_tokens.weight"
    ):
        load_model(llama, torch.float32)


def renamed(folder: Path, family: str) -> list[str]:
    """Save `family` under names that transformers converts when it loads; return the names."""
    families.make(family, folder)
    tensors = load_file(folder / FILE)
    if family == "GPT-2":  # as in OpenAI's own files
        tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        save_file(tensors, folder / FILE, metadata={"format": "pt"})
    return sorted(tensors)


@pytest.mark.parametrize("family", ["GPT-2", "OLMoE", "Qwen2-MoE", "Mixtral", "Phi-3"])
def test_names_that_transformers_converts_load_as_it_loads_them(family: str, tmp_path: Path) -> None:
    names = renamed(tmp_path, family)
    expected = dict(AutoModelForCausalLM.from_pretrained(tmp_path).named_parameters())
    if family != "Phi-3":
        assert set(names) != set(expected), "the test needs names that differ"
    for name, parameter in Policy.load(tmp_path).model.named_parameters():
        assert torch.equal(parameter, expected[name]), name


@pytest.mark.parametrize("family", ["OLMoE", "Mixtral"])
def test_saved_weights_have_the_names_of_the_folder_they_came_from(family: str, tmp_path: Path) -> None:
    renamed(tmp_path, family)
    stored = load_file(tmp_path / FILE)
    saved = Policy.load(tmp_path).file_weights()
    assert saved.keys() == stored.keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, stored[name]), name
    # A process that never loaded the weights knows the same names from the config alone.
    in_memory = dict(load_model(tmp_path, "auto").named_parameters())
    assert as_in_files(empty_model(AutoConfig.from_pretrained(tmp_path)), in_memory).keys() == stored.keys()


@pytest.mark.parametrize(
    "said",
    [
        {"return_dict": False},
        {"output_attentions": True, "output_hidden_states": True},
        {"_attn_implementation": "flash_attention_2"},
    ],
)
def test_what_a_checkpoint_says_of_calls_changes_no_training_and_no_checkpoint(
    said: dict[str, object], llama: Path, tmp_path: Path
) -> None:
    expected = AutoModelForCausalLM.from_pretrained(llama)
    change(llama, said)
    # transformers' own validation refuses to save this pair; many checkpoints have it.
    generation = {"do_sample": False, "temperature": 0.6, "eos_token_id": [0, 5]}
    (llama / "generation_config.json").write_text(json.dumps(generation))
    policy = Policy.load(llama)
    assert torch.equal(policy.model.lm_head.weight, expected.lm_head.weight)
    kept = tmp_path / "kept"
    kept.mkdir()
    policy.save_config(kept)
    written = json.loads((kept / "generation_config.json").read_text())
    assert {name: written[name] for name in ("temperature", "eos_token_id")} == {
        "temperature": 0.6,
        "eos_token_id": [0, 5],
    }
    assert AutoConfig.from_pretrained(kept).hidden_size == 48
