"""Check that a generator computes the same as transformers.

Another library's generator may skip a parameter name, keep an older copy of a tensor, or omit what a family
does to its logits. None of these raises an error. A few tokens of random text show it, because each token's
log-prob depends on all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from engine.data.sequence import TokenSequence
from engine.generators.interface import WeightsRefused
from engine.generators.scoring import Score, ScoringRequest
from engine.training.own_forward import own_logprobs

# Range of the text's tokens that are compared.
FIRST, LAST = 8, 24
# Mean |Δ log-prob| that rounding explains, by compute dtype. A fault of the kinds above is tens of nats.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}

Scorer = Callable[[Sequence[ScoringRequest]], Iterator[list[Score]]]


def check_agreement(score: Scorer, model: PreTrainedModel, vocabulary: int, dtype: torch.dtype) -> None:
    """Compare log-probs by `score` with those of `model` on the CPU.

    `model` computes in `dtype`.
    Raises: WeightsRefused with the difference if it is larger than rounding explains.
    """
    ids = np.random.default_rng(0).integers(0, vocabulary, LAST).astype(np.int32)
    expected = own_logprobs(model.to(dtype), [TokenSequence(ids, FIRST, False)])[0]  # type: ignore[arg-type]
    found = np.empty_like(expected)
    for scores in score([ScoringRequest(ids[: end + 1], end) for end in range(FIRST, LAST)]):
        for each in scores:
            found[each.place] = each.logprob
    difference = float(np.abs(found - expected).mean())
    if not difference <= TOLERANCE[dtype]:
        raise WeightsRefused(
            f"model type {model.config.model_type!r}: log-probs differ from transformers' by {difference:.3g} "
            "per token; use hardware.generator = 'transformers'"
        )
