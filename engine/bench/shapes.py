"""Models and data of the benchmarks.

A shape has random weights. Sequences are as long as R1's traces on GSM8K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from engine.data.sequence import TokenSequence
from engine.training.precision import cast_parameters

# Dense bf16 of an H100 SXM, per second.
PEAK_FLOPS = 989e12


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2 and the data that it processes.

    Attributes:
        prompt: tokens.
        response: tokens, the median of a log-normal.
        longest: tokens of prompt and response together.
    """

    width: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    prompt: int
    response: int
    longest: int

    def config(self) -> Qwen2Config:
        """Return the configuration for transformers; embeddings are tied."""
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
        """Make a model with random weights on the device.

        The last norm is widened so that distributions are as uneven as real ones.
        """
        torch.manual_seed(0)
        with torch.device(device):
            model: Qwen2ForCausalLM = Qwen2ForCausalLM(self.config())  # type: ignore[no-untyped-call]
        cast_parameters(model, dtype)
        with torch.no_grad():
            model.model.norm.weight.mul_(4.0)
        return model

    def sequences(self, count: int, seed: int = 0, longest: int | None = None) -> list[TokenSequence]:
        """Return random ids with lengths of real traces.

        A sequence is a fixed prompt and a log-normal response (sigma 0.5), up to a cap.
        """
        rng = np.random.default_rng(seed)
        responses = rng.lognormal(np.log(self.response), 0.5, count).astype(int)
        lengths = np.clip(self.prompt + responses, self.prompt + 2, longest or self.longest)
        return [
            TokenSequence(rng.integers(1, self.vocabulary, length).astype(np.int32), self.prompt, True)
            for length in lengths.tolist()
        ]


QWEN_1_5B = Shape(1536, 28, 12, 2, 8960, 151_936, prompt=110, response=450, longest=2048)
# SmolLM2-135M's width, depth and vocabulary.
QWEN_135M = Shape(576, 30, 9, 3, 1536, 49_152, prompt=110, response=450, longest=2048)
SHAPES = {"1.5b": QWEN_1_5B, "135m": QWEN_135M}
TINY = Shape(64, 2, 4, 2, 128, 512, prompt=11, response=45, longest=205)


def flops(shape: Shape, parameters: int, sequences: list[TokenSequence]) -> float:
    """Return the floating-point operations of forward and backward.

    Recomputation is not counted. There are 6 per parameter and token (the tied embedding counts once, as the
    head), and 6 × layers × width × length² for causal attention.
    Source: PaLM, arXiv 2204.02311, appendix B, halved for the causal mask.
    """
    lengths = np.array([len(item.token_ids) for item in sequences], dtype=np.float64)
    return float(6 * parameters * lengths.sum() + 6 * shape.layers * shape.width * np.square(lengths).sum())
