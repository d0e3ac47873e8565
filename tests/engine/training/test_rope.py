"""Rotary frequencies that follow the longest sequence of a batch: refused beyond the original length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from engine.data.sequence import TokenSequence
from engine.generators.interface import WeightsRefused
from engine.generators.transformers import TransformersGenerator
from engine.training.packing import lay_out
from engine.training.policy import Policy
from engine.training.rope import rope_limit
from engine.training.unsupported import UnsupportedModel
from tests.support import families

LONG = {"rope_type": "longrope", "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 4096}, None),
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, None),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 64}}, None),
        ({"rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 64}}, None),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 2048),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_parameters": LONG, "max_position_embeddings": 131072}, 4096),
        ({"rope_parameters": {"full_attention": LONG, "sliding_attention": {"rope_type": "default"}}}, 4096),
        ({"text_config": {"rope_scaling": LONG}}, 4096),
    ],
)
def test_the_limit_follows_from_the_config(config: dict[str, object], limit: int | None) -> None:
    assert rope_limit(config) == limit


def test_sequences_beyond_the_limit_are_refused_by_trainer_and_sampler(tmp_path: Path) -> None:
    families.make("Phi-3, longrope", tmp_path)
    limit = rope_limit(AutoConfig.from_pretrained(tmp_path).to_dict())
    assert limit == 64
    policy = Policy.load(tmp_path)
    for length in (limit, limit + 1):
        packed = lay_out([TokenSequence(np.full(length, 2, dtype=np.int32), 3, False)], [0])
        if length == limit:
            policy.cross_entropy(packed)
        else:
            with pytest.raises(UnsupportedModel, match="set hardware.max_model_len to 64"):
                policy.cross_entropy(packed)
    assert TransformersGenerator(tmp_path, "cpu", torch.float32, 4, limit).longest == limit
    with pytest.raises(WeightsRefused, match="set hardware.max_model_len to 64 or less"):
        TransformersGenerator(tmp_path, "cpu", torch.float32, 4, limit + 1)
