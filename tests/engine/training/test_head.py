"""The head by chunks against plain autograd over whole logits, and what is found out about a model's own head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.training import head
from engine.training.head import Form, Head
from engine.training.head_form import observed_form
from engine.training.unsupported import UnsupportedModel
from tests.support.tiny_models import tiny_model

ROWS, WIDTH, WORDS = 37, 12, 23


def plain_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    logits = (hidden * (form.hidden_scale or 1.0)) @ weight.t()
    if bias is not None:
        logits = logits + bias
    logits = logits * (form.scale or 1.0)
    return logits if form.cap is None else form.cap * torch.tanh(logits / form.cap)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    "form", [Form(), Form(scale=0.3), Form(cap=3.0), Form(hidden_scale=0.5, scale=2.0, cap=5.0)]
)
def test_values_and_gradients_are_those_of_whole_logits(
    form: Form, biased: bool, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(head._CHUNK_ELEMENTS, "cpu", 10 * WORDS)
    random = torch.Generator().manual_seed(0)
    made = [torch.randn(*shape, generator=random) for shape in ((ROWS, WIDTH), (WORDS, WIDTH), (WORDS,))]
    targets = torch.randint(WORDS, (ROWS,), generator=random)
    slopes = torch.randn(ROWS, generator=random)

    def leaves() -> tuple[Tensor, Tensor, Tensor | None]:
        hidden, weight, bias = (tensor.clone().requires_grad_() for tensor in made)
        return hidden, weight, bias if biased else None

    ours, theirs = leaves(), leaves()
    found, entropy = head.logprobs(ours[0], Head(*ours[1:], form), targets, temperature)
    loss = head.cross_entropy(ours[0], Head(*ours[1:], form), targets)
    ((found * slopes).sum() + loss).backward()

    logits = plain_logits(*theirs, form)
    distribution = torch.distributions.Categorical(logits=logits / temperature)
    expected = distribution.log_prob(targets)
    expected_loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
    ((expected * slopes).sum() + expected_loss).backward()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(entropy, distribution.entropy(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(Head(*ours[1:], form).logits(ours[0]), logits)
    for own, other in zip(ours, theirs, strict=True):
        if own is not None and other is not None:
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)


def with_logits(change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A tiny model whose forward pass changes its logits."""
    model = tiny_model(tied=False)
    own = model.forward

    def forward(**inputs: Tensor) -> object:
        output = own(**inputs)
        output.logits = change(output.logits)
        return output

    model.forward = forward
    return model


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda logits: logits, Form()),
        (lambda logits: logits / 13.0, Form(scale=1 / 13.0)),
        (lambda logits: 30.0 * torch.tanh(logits / 30.0), Form(cap=30.0)),
        (lambda logits: 7.5 * torch.tanh(logits.float() * 0.1 / 7.5), Form(scale=0.1, cap=7.5)),
    ],
)
def test_the_form_follows_from_what_the_model_computes(
    change: Callable[[Tensor], Tensor], expected: Form
) -> None:
    form = observed_form(with_logits(change))  # type: ignore[arg-type]
    assert form.hidden_scale is None
    for found, wanted in ((form.scale, expected.scale), (form.cap, expected.cap)):
        assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-6))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda logits: logits + 1.0, "not a scaled or soft-capped linear map"),
        (lambda logits: logits.clamp(-5, 5), "not a scaled or soft-capped linear map"),
        (lambda logits: logits * torch.linspace(1, 2, logits.shape[-1]), "not a scaled"),
        (lambda logits: logits[..., :-1], "60 logits from an output embedding of 61 rows"),
    ],
)
def test_a_form_that_the_head_cannot_express_is_refused(
    change: Callable[[Tensor], Tensor], reason: str
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        observed_form(with_logits(change))  # type: ignore[arg-type]


def test_layers_between_body_and_head_are_refused() -> None:
    model = tiny_model(tied=False)
    model.lm_head.register_forward_pre_hook(lambda _, inputs: (inputs[0].tanh(),))
    with pytest.raises(UnsupportedModel, match="layers between its last hidden states and its head"):
        observed_form(model)
