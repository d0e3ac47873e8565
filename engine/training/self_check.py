"""Compare what a run computes of a model with the model's own forward.

    probes ─▶ reference(model)            transformers' forward, float32, eager attention
           └▶ packed_logprobs(policy)     what training uses      ─▶ compare ─▶ fault, or ""
              or a generator's log-probs  what sampling uses

It needs no list of architectures: a family that a path cannot compute shows a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from engine.data.sequence import TokenSequence
from engine.training.checkpointing import decoder_layers
from engine.training.head_form import output_embedding
from engine.training.own_forward import own_logprobs

# One (response tokens,) array for each sequence.
LogprobArrays = Sequence[NDArray[np.float32]]

# The sequences of a check share one microbatch, so that an influence of one on its neighbour shows.
LENGTHS = (3, 21, 40, 64)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Allowed differences of log-probs, in nats.

    Attributes:
        mean: over all tokens.
        largest: of one token.
    """

    mean: float
    largest: float = math.inf


@dataclass(frozen=True, slots=True)
class RoundingEffect:
    """The effect that rounding to a dtype may have on log-probs.

    `rounding` is half a unit in the last place, relative. The allowed difference is `slack` times the effect
    of changes of that size in the model's own hidden states, and at least `floor`.
    """

    rounding: float
    slack: float
    floor: Tolerance


# Measured on SmolLM2-135M and on random models of 2 and 8 layers with random token ids, as multiples of the
# response:
#   float32   mean 0.1 to 1.4, largest 0.1 to 1.3
#   bfloat16  mean 1.5 to 3.1, with experts up to 4.7. The largest may be 30 times the response:
#             rounding makes a token choose another expert. So only the mean is bounded.
PRECISIONS = {
    torch.float32: RoundingEffect(2.0**-24, 4.0, Tolerance(mean=1e-4, largest=1e-4)),
    torch.bfloat16: RoundingEffect(2.0**-9, 8.0, Tolerance(mean=0.01)),
}


@dataclass(frozen=True, slots=True)
class LogprobComparison:
    """A run's log-probs against the model's own.

    All response tokens count.
    Attributes:
        largest: max |Δ log-prob|.
        mean: mean |Δ log-prob|.
        loss: mean −log p as the run computes it.
        own_loss: mean −log p by the model's own forward.
    """

    largest: float
    mean: float
    loss: float
    own_loss: float

    def fault(self, allowed: Tolerance) -> str:
        """Return "" if rounding explains the difference, else its figures.

        NaN is a fault.
        """
        if self.largest <= allowed.largest and self.mean <= allowed.mean:
            return ""
        bounds = f"mean {allowed.mean:.2g}"
        if math.isfinite(allowed.largest):
            bounds = f"max {allowed.largest:.2g}, {bounds}"
        return (
            f"max |Δ log-prob| {self.largest:.3g}, mean {self.mean:.2g} (loss {self.loss:.4g}, the model's own "
            f"{self.own_loss:.4g}); allowed {bounds}"
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's own log-probs, and the allowed difference of another path."""

    sequences: list[TokenSequence]
    logprobs: LogprobArrays
    allowed: Tolerance

    def fault(self, found: LogprobArrays) -> str:
        """Return "" if `found` are the model's log-probs, else the figures."""
        return compare(found, self.logprobs).fault(self.allowed)


def reference(model: PreTrainedModel, sequences: list[TokenSequence], dtype: torch.dtype) -> Reference:
    """Compute log-probs of `sequences` by the forward of `model`.

    Its weights are float32.
    The tolerance follows from the model: an ill-conditioned model magnifies rounding, in transformers' own
    attention implementations as well.
    Args:
        dtype: the dtype of the path to compare.
    """
    precision = PRECISIONS[dtype]
    own = own_logprobs(model, sequences)
    with rounded(model, precision.rounding):
        response = compare(own_logprobs(model, sequences), own)
    slack, floor = precision.slack, precision.floor
    allowed = Tolerance(max(floor.mean, slack * response.mean), max(floor.largest, slack * response.largest))
    return Reference(sequences, own, allowed)


@contextmanager
def rounded(model: PreTrainedModel, size: float) -> Iterator[None]:
    """Inside the context, perturb the model's hidden states.

    Every number that leaves the embedding or a layer changes by a random share of about `size`.
    """
    generator = torch.Generator().manual_seed(0)

    def change(module: nn.Module, inputs: object, output: Any) -> Any:
        hidden, *others = output if isinstance(output, tuple) else (output,)
        noise = torch.randn(hidden.shape, generator=generator).to(hidden.device)
        hidden = hidden * (1.0 + size * noise)
        return (hidden, *others) if isinstance(output, tuple) else hidden

    modules = (model.get_input_embeddings(), *decoder_layers(model))
    hooks = [module.register_forward_hook(change) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def compare(found: LogprobArrays, own: LogprobArrays) -> LogprobComparison:
    """Compare log-probs of the same tokens, sequence by sequence.

    Equal infinities count as equal.
    Raises: ValueError if the two sides hold different numbers of tokens.
    """
    if [len(part) for part in found] != [len(part) for part in own]:
        raise ValueError("the two sides hold log-probs of different tokens")
    ours, theirs = (np.concatenate(list(side)).astype(np.float64) for side in (found, own))
    with np.errstate(invalid="ignore"):
        apart = np.where(ours == theirs, 0.0, np.abs(ours - theirs))
    return LogprobComparison(
        float(apart.max()), float(apart.mean()), float(-ours.mean()), float(-theirs.mean())
    )


def probes(model: PreTrainedModel, lengths: Sequence[int] = LENGTHS) -> list[TokenSequence]:
    """Make sequences of random token ids that `model` accepts.

    There is one for each length in tokens; lengths beyond the model's positions are cut to them. Every token
    except the first is a response token. The ids are the same in each call.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or max(lengths)
    rng = np.random.default_rng(0)
    return [
        TokenSequence(
            rng.integers(0, vocabulary(model), min(length, positions)).astype(np.int32), 1, finished=True
        )
        for length in lengths
    ]


def vocabulary(model: PreTrainedModel) -> int:
    """Return the number of token ids that `model` both reads and predicts."""
    embedding = cast(nn.Embedding, model.get_input_embeddings())
    return min(len(embedding.weight), len(output_embedding(model).weight))
