"""Perplexity of a corpus and the change of it between two models, by bootstrap over documents (BCa: it is skewed)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from store.statistics.bootstrap import bca_interval, percentile_interval, ratio
from store.statistics.interval import Interval
from store.statistics.power import minimum_detectable_mean
from store.statistics.resampling import RESAMPLES, Floats


def perplexity_interval(
    nll: ArrayLike, tokens: ArrayLike, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """exp(total nll / total tokens) of a corpus, from `nll` (documents,) in nats and `tokens` (documents,).

    Words or bytes may stand for tokens: then it is lm-eval's word or byte perplexity.
    """
    columns = np.column_stack([np.asarray(nll, np.float64), np.asarray(tokens, np.float64)])
    return _interval(columns, confidence, resamples, seed)


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
    return _interval(columns, confidence, resamples, seed)


def detectable_perplexity_ratio(
    a_nll: ArrayLike, b_nll: ArrayLike, tokens: ArrayLike, confidence: float = 0.95
) -> float:
    """The smallest true ratio above 1 that these documents would show with 80 % power.

    The error of the log of the ratio is that of a ratio estimator: Cochran (1977), Sampling techniques, section 6.3.
    """
    difference, sizes = (
        np.asarray(b_nll, np.float64) - np.asarray(a_nll, np.float64),
        np.asarray(tokens, np.float64),
    )
    influence = (difference - sizes * difference.sum() / sizes.sum()) / sizes.mean()
    effect = minimum_detectable_mean(float(influence.std()), len(sizes), confidence)
    with np.errstate(over="ignore"):  # of a model that has gone astray: infinity
        return float(np.exp(effect))


def _interval(columns: Floats, confidence: float, resamples: int, seed: int) -> Interval:
    """BCa, or the percentiles where a handful of documents, or equal ones, leave nothing to correct by."""
    try:
        return bca_interval(columns, _perplexity, confidence, resamples, seed)
    except ValueError:
        return percentile_interval(columns, _perplexity, confidence, resamples, seed)


def _perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(ratio(sums)))
