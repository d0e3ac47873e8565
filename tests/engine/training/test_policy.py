"""The policy's packed arithmetic against transformers' own, one sequence at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.data.sequence import TokenSequence
from engine.training import head
from engine.training.packing import lay_out
from engine.training.policy import NoWeights, Policy
from engine.training.tensor_image import TensorImage
from tests.support.tiny_models import VOCABULARY, random_sequences, tiny_model, twin


def labelled(item: TokenSequence) -> tuple[Tensor, Tensor]:
    """Ids and transformers' labels (it shifts them itself) of one sequence, `(1, tokens)`."""
    ids = torch.from_numpy(item.token_ids).long()[None]
    labels = ids.clone()
    labels[:, : item.prompt_length] = -100
    return ids, labels


def one_at_a_time(model: PreTrainedModel, item: TokenSequence, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of the response tokens, `(response tokens,)` each."""
    ids, _ = labelled(item)
    distribution = torch.distributions.Categorical(logits=model(input_ids=ids).logits[0, :-1] / temperature)
    return (
        distribution.log_prob(ids[0, 1:])[item.prompt_length - 1 :],
        distribution.entropy()[item.prompt_length - 1 :],
    )


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_cross_entropy_and_its_gradients_are_transformers_own(kind: str, tied: bool) -> None:
    model = tiny_model(kind, tied)
    oracle = twin(model)
    items = random_sequences(7)
    packed = lay_out(items, range(7))

    loss, tokens = Policy(model).cross_entropy(packed)
    loss.backward()
    expected = torch.zeros(())
    for item in items:
        ids, labels = labelled(item)
        expected = expected + oracle(input_ids=ids, labels=labels).loss * item.response_length
    expected.backward()

    assert tokens == sum(item.response_length for item in items)
    torch.testing.assert_close(loss, expected)
    expected_grads = {name: weight.grad for name, weight in oracle.named_parameters()}
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected_grads[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_entropy_and_gradients_at_a_temperature(temperature: float) -> None:
    model = tiny_model()
    oracle = twin(model)
    items = random_sequences(6, seed=2)
    packed = lay_out(items, range(6))
    logprobs, entropy = Policy(model).logprobs(packed, temperature)

    pairs = [one_at_a_time(oracle, item, temperature) for item in items]
    expected = torch.cat([pair[0] for pair in pairs])
    torch.testing.assert_close(logprobs[packed.mask], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        entropy[packed.mask], torch.cat([pair[1] for pair in pairs]), rtol=1e-4, atol=1e-5
    )
    assert not logprobs[~packed.mask].any() and not entropy.requires_grad

    slopes = torch.randn(len(expected), generator=torch.Generator().manual_seed(0))
    (logprobs[packed.mask] * slopes).sum().backward()
    (expected * slopes).sum().backward()
    expected_grads = {name: weight.grad for name, weight in oracle.named_parameters()}
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected_grads[name], rtol=1e-3, atol=1e-4)


def test_results_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = lay_out(random_sequences(9), range(9))
    outcomes = []
    for elements in (2**24, 7 * VOCABULARY):
        monkeypatch.setitem(head._CHUNK_ELEMENTS, "cpu", elements)
        model = tiny_model()
        logprobs, entropy = Policy(model).logprobs(packed)
        loss, _ = Policy(model).cross_entropy(packed)
        (logprobs.square().sum() + loss).backward()
        outcomes.append([logprobs, entropy, loss, *(weight.grad for weight in model.parameters())])
    for whole, chunked in zip(*outcomes, strict=True):
        torch.testing.assert_close(whole, chunked, rtol=1e-4, atol=1e-4)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation gave."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def test_logits_of_a_whole_microbatch_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = 5000
    monkeypatch.setitem(head._CHUNK_ELEMENTS, "cpu", 16 * vocabulary)
    policy = Policy(tiny_model(vocab_size=vocabulary))
    packed = lay_out(random_sequences(20), range(20))
    weight = vocabulary * 48
    with LargestTensor() as seen:
        logprobs, _ = policy.logprobs(packed)
        logprobs.sum().backward()
        loss, _ = policy.cross_entropy(packed)
        loss.backward()
    assert len(packed.trained) * vocabulary > 4 * weight  # else the check below would say nothing
    assert seen.largest <= weight


def test_gradient_checkpointing_changes_nothing() -> None:
    packed = lay_out(random_sequences(5), range(5))
    grads = []
    for checkpointing in (False, True):
        model = tiny_model()
        loss, _ = Policy(model, gradient_checkpointing=checkpointing).cross_entropy(packed)
        loss.backward()
        grads.append([weight.grad for weight in model.parameters()])
    for plain, again in zip(*grads, strict=True):
        torch.testing.assert_close(plain, again)


def test_bf16_compute_stays_near_float32_and_keeps_rotary_frequencies_exact() -> None:
    model = tiny_model()
    packed = lay_out(random_sequences(8, longest=200), range(8))
    exact, _ = Policy(tiny_model()).logprobs(packed)
    policy = Policy(model, compute_dtype="bfloat16")
    rounded, _ = policy.logprobs(packed)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert {master.dtype for master in policy.precision.masters.values()} == {torch.float32}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.1
    assert rounded.dtype == torch.float32


def test_bf16_gradients_gather_in_float32_over_microbatches() -> None:
    items = random_sequences(12)
    policy = Policy(tiny_model(), compute_dtype="bfloat16")
    for part in (range(6), range(6, 12)):
        loss, _ = policy.cross_entropy(lay_out(items, part))
        loss.backward()
    oracle = twin(tiny_model())
    for item in items:
        ids, labels = labelled(item)
        (oracle(input_ids=ids, labels=labels).loss * item.response_length).backward()
    exact = {name: weight.grad for name, weight in oracle.named_parameters()}
    for name, master in policy.precision.masters.items():
        assert master.grad is not None and master.grad.dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(
            master.grad.flatten(), exact[name.removeprefix("model.")].flatten(), dim=0
        )
        assert cosine > 0.99, name
    assert all(weight.grad is None for weight in policy.model.parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_and_handed_over_loads_anywhere(tmp_path: Path, dtype: str, tied: bool) -> None:
    policy = Policy(tiny_model(tied=tied), compute_dtype=dtype)
    policy.save_config(tmp_path)
    image = TensorImage()
    image.take(dict(policy.named_weights()))
    image.write(tmp_path / "model.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == policy.compute_dtype
    handed_over = dict(policy.named_weights())
    assert ("lm_head.weight" in handed_over) is not tied
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, handed_over[name]), name
    assert Policy.load(tmp_path).logprobs(lay_out(random_sequences(2), range(2)))[0].isfinite().all()


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    tiny_model().config.save_pretrained(tmp_path)
    with pytest.raises(NoWeights, match=str(tmp_path)):
        Policy.load(tmp_path)


def test_a_frozen_policy_gives_no_gradients() -> None:
    policy = Policy(tiny_model(), frozen=True)
    logprobs, _ = policy.logprobs(lay_out(random_sequences(2), range(2)))
    assert not logprobs.requires_grad
    with pytest.raises(RuntimeError, match="frozen"):
        _ = policy.precision
