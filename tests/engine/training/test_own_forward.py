"""A model's own log-probs against plain transformers, and what a look at them leaves behind."""

from __future__ import annotations

import numpy as np
import torch

from engine.training.own_forward import own_logprobs, packed_logprobs
from engine.training.policy import Policy
from tests.support.tiny_models import random_sequences, tiny_model, twin


def test_own_and_packed_logprobs_are_those_of_plain_transformers() -> None:
    model = tiny_model(tied=False)
    oracle = twin(model).eval()
    items = random_sequences(7)
    policy = Policy(model)
    modes = [module.training for module in model.modules()]
    own = own_logprobs(model, items)
    packed = packed_logprobs(policy, items, budget=64)
    for item, mine, ours in zip(items, own, packed, strict=True):
        ids = torch.from_numpy(item.token_ids).long()
        logits = oracle(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(-1, ids[1:, None])[item.prompt_length - 1 :, 0].detach().numpy()
        np.testing.assert_allclose(mine, expected, atol=1e-6)
        np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "mathrl_packed"
