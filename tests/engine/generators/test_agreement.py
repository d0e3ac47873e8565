"""The check that a generator computes what transformers does with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.generators.agreement import check_agreement
from engine.generators.interface import WeightsRefused
from engine.generators.transformers import TransformersGenerator
from engine.protocol.messages import WeightRef
from engine.training.loading import load_model
from tests.support import families


@pytest.mark.parametrize(("family", "dtype"), [("Qwen2-MoE", torch.float32), ("Granite", torch.bfloat16)])
def test_equal_weights_agree_and_one_old_tensor_is_refused(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    families.make(family, tmp_path)
    generator = TransformersGenerator(tmp_path, "cpu", dtype, 8, 64)
    generator.load(WeightRef("base", 0, str(tmp_path)))
    check_agreement(generator.score, load_model(tmp_path, "auto"), generator.vocabulary, dtype)

    model = load_model(tmp_path, "auto")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.normal_(0, 0.5)
    with pytest.raises(WeightsRefused, match=f"'{model.config.model_type}': log-probs differ .* per token"):
        check_agreement(generator.score, model, generator.vocabulary, dtype)
