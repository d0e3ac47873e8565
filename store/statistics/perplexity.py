"""Perplexity of a corpus and the change of it between two models, by bootstrap over documents (BCa: it is skewed)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from store.statistics.bootstrap import bca_interval, ratio
from store.statistics.interval import Interval
from store.statistics.resampling import RESAMPLES, Floats


def perplexity_interval(
    nll: ArrayLike, tokens: ArrayLike, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """exp(total nll / total tokens) of a corpus, from `nll` (documents,) in nats and `tokens` (documents,).

    Words or bytes may stand for tokens: then it is lm-eval's word or byte perplexity.
    """
    columns = np.column_stack([np.asarray(nll, np.float64), np.asarray(tokens, np.float64)])
    return bca_interval(columns, _perplexity, confidence, resamples, seed)


def perplexity_ratio_interval(
    a_nll: ArrayLike,
    b_nll: ArrayLike,
    tokens: ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """b's perplexity over a's on the same documents; above 1 means that b predicts them worse."""
    difference = np.asarray(b_nll, np.float64) - np.asarray(a_nll, np.float64)
    columns = np.column_stack([difference, np.asarray(tokens, np.float64)])
    return bca_interval(columns, _perplexity, confidence, resamples, seed)


def _perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(ratio(sums)))
