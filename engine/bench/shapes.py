"""What the benchmarks train: a model's shape with random weights, and sequences as long as R1's traces on GSM8K."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from engine.data.sequence import Sequence
from engine.learning.precision import cast_parameters

PEAK_FLOPS = 989e12  # dense bf16 of an H100 SXM, per second


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2 and the data that goes through it."""

    width: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    prompt: int  # tokens
    response: int  # tokens, the median of a log-normal
    longest: int  # tokens, prompt and response together

    def config(self) -> Qwen2Config:
        """The shape as transformers wants it; embeddings are tied."""
        return Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            intermediate_size=self.intermediate,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=None,
        )

    def model(self, device: str, dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
        """Random weights, made on the device; the last norm is widened so that distributions are as uneven as real."""
        torch.manual_seed(0)
        with torch.device(device):
            model: Qwen2ForCausalLM = Qwen2ForCausalLM(self.config())  # type: ignore[no-untyped-call]
        cast_parameters(model, dtype)
        with torch.no_grad():
            model.model.norm.weight.mul_(4.0)
        return model

    def sequences(self, count: int, seed: int = 0, longest: int | None = None) -> list[Sequence]:
        """Random ids with lengths of real traces: a fixed prompt, a log-normal response (sigma 0.5), a cap."""
        rng = np.random.default_rng(seed)
        responses = rng.lognormal(np.log(self.response), 0.5, count).astype(int)
        lengths = np.clip(self.prompt + responses, self.prompt + 2, longest or self.longest)
        return [
            Sequence(rng.integers(1, self.vocabulary, length).astype(np.int32), self.prompt, True)
            for length in lengths.tolist()
        ]


QWEN_1_5B = Shape(1536, 28, 12, 2, 8960, 151_936, prompt=110, response=450, longest=2048)
# SmolLM2-135M's width, depth and vocabulary.
QWEN_135M = Shape(576, 30, 9, 3, 1536, 49_152, prompt=110, response=450, longest=2048)
SHAPES = {"1.5b": QWEN_1_5B, "135m": QWEN_135M}
TINY = Shape(64, 2, 4, 2, 128, 512, prompt=11, response=45, longest=205)


def flops(shape: Shape, parameters: int, sequences: list[Sequence]) -> float:
    """Floating-point operations of a forward and backward pass over every token of `sequences`, without recomputing.

    6 a parameter and token (the tied embedding counts once, as the head), and 6 × layers × width × length² for causal
    attention (PaLM, arXiv 2204.02311, appendix B, halved for the causal mask).
    """
    lengths = np.array([len(item.token_ids) for item in sequences], dtype=np.float64)
    return float(6 * parameters * lengths.sum() + 6 * shape.layers * shape.width * np.square(lengths).sum())
