"""What the packed attention takes from a model, and what it refuses by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.masking_utils import chunked_causal_mask_function, sliding_window_causal_mask_function

from engine.generators import prefix
from engine.training.attention import packed_attention
from engine.training.attention_call import Call, attend
from engine.training.attention_mask import CAUSAL, MaskRule, rule_mask
from engine.training.packing import lay_out
from engine.training.unsupported import UnsupportedModel
from tests.support.tiny_models import random_sequences

CPU = torch.device("cpu")
PLAIN = MaskRule(CAUSAL)


class Layer(nn.Module):
    layer_idx = 0
    is_causal = True


def states(heads: int = 4, shared: int = 2, tokens: int = 30, dim: int = 6, rows: int = 1) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(rows, count, tokens, dim, generator=random) for count in (heads, shared, shared)]


def call_packed(**arguments: object) -> Tensor:
    packed = lay_out(random_sequences(2, longest=12), range(2))
    query, key, value = states(tokens=len(packed))
    given = {"packed": packed, "scaling": 0.3, "attention_mask": PLAIN, **arguments}
    return packed_attention(Layer(), query, key, value, given.pop("attention_mask"), **given)[0]  # type: ignore


def call_prefix(**arguments: object) -> Tensor:
    given = {"memory": prefix.Nothing(), "scaling": 0.3, "attention_mask": PLAIN, **arguments}
    return prefix.shared_prefix(Layer(), *states(), given.pop("attention_mask"), **given)[0]  # type: ignore


@pytest.mark.parametrize("call", [call_packed, call_prefix])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dropout": 0.1}, "'dropout'"),
        ({"position_bias": torch.zeros(1)}, "'position_bias'"),
        ({"indices": torch.zeros(1)}, "'indices'"),
        ({"never_heard_of": 3}, "'never_heard_of'"),
        ({"is_causal": False}, "not causal"),
        ({"attention_mask": torch.zeros(1, 1, 30, 30)}, "an attention mask of its own"),
    ],
)
def test_what_it_does_not_take_is_refused_by_name(call, arguments, reason) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnsupportedModel, match=f"^Layer: .*{reason}"):
        call(**arguments)


@pytest.mark.parametrize("call", [call_packed, call_prefix])
def test_neutral_arguments_change_nothing(call) -> None:  # type: ignore[no-untyped-def]
    plain = call()
    neutral = {"dropout": 0.0, "softcap": None, "s_aux": None, "is_causal": True, "output_attentions": False,
               "position_ids": torch.zeros(1), "attention_mask": None}  # fmt: skip
    assert torch.equal(call(**neutral), plain)


@pytest.mark.parametrize("window", [1, 5, 30, 100])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sinks", [False, True])
def test_windows_caps_and_sinks_are_plain_arithmetic(window: int, softcap: float | None, sinks: bool) -> None:
    query, key, value = (tensor.requires_grad_() for tensor in states(rows=2))
    sink = torch.linspace(-1, 1, 4).requires_grad_() if sinks else None
    rule = MaskRule(sliding_window_causal_mask_function(window))
    found = attend(query, key, value, Call(rule, 0.5, softcap, sink))

    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    places = torch.arange(30)
    apart = places[:, None] - places[None, :]
    scores = scores.masked_fill((apart < 0) | (apart >= window), float("-inf"))
    mass = scores.exp()
    total = mass.sum(-1, keepdim=True) + (0 if sink is None else sink.exp().view(1, 4, 1, 1))
    expected = mass / total @ value.repeat_interleave(2, 1)
    torch.testing.assert_close(found, expected)
    leaves = [query, key, value] + ([] if sink is None else [sink])
    slopes = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.autograd.grad(made, leaves, slopes) for made in (found, expected))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "longest", "seen"), [(4, 9, 4), (4, 4, 4), (50, 9, 9), (1, 9, 1)])
def test_a_rule_knows_its_window(window: int, longest: int, seen: int) -> None:
    assert MaskRule(sliding_window_causal_mask_function(window)).window(longest, CPU) == seen
    assert PLAIN.window(longest, CPU) == longest


def test_a_rule_that_is_no_window_is_evaluated_whole() -> None:
    rule = MaskRule(chunked_causal_mask_function(4, torch.zeros(1, dtype=torch.long)))
    assert rule.window(10, CPU) is None
    places = torch.arange(10)
    same = places[:, None] // 4 == places[None, :] // 4
    assert torch.equal(rule.square(10, CPU), same & (places[None, :] <= places[:, None]))


def test_masks_that_look_ahead_or_are_the_models_own_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="later tokens"):
        MaskRule(lambda batch, head, query, key: query + key >= 0).window(5, CPU)
    with pytest.raises(UnsupportedModel, match="mask of its own"):
        rule_mask(mask_function=CAUSAL, use_vmap=True)


def test_a_family_that_passes_no_keyword_arguments_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="keyword arguments"):
        call_packed(packed=None)
    with pytest.raises(UnsupportedModel, match="keyword arguments"):
        call_prefix(memory=None)
