"""Perplexity of a corpus, and its ratio between two models.

Intervals bootstrap over documents. They use BCa because perplexity is skewed.
"""

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
    """Compute exp(total nll / total tokens) of a corpus with its interval.

    If `tokens` counts words or bytes, the result is lm-eval's word or byte perplexity.

    Args:
        nll: (documents,) negative log-likelihoods in nats.
        tokens: (documents,) numbers of tokens.
    Raises: ValueError if the corpus is empty.
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
    """Compute the ratio of b's perplexity to a's on the same documents.

    A ratio above 1 means that b predicts the documents worse.

    Args:
        a_nll: (documents,) negative log-likelihoods of a in nats.
        b_nll: (documents,) negative log-likelihoods of b in nats.
        tokens: (documents,) numbers of tokens.
    Raises: ValueError if the corpus is empty.
    """
    difference = np.asarray(b_nll, np.float64) - np.asarray(a_nll, np.float64)
    columns = np.column_stack([difference, np.asarray(tokens, np.float64)])
    return _interval(columns, confidence, resamples, seed)


def detectable_perplexity_ratio(
    a_nll: ArrayLike, b_nll: ArrayLike, tokens: ArrayLike, confidence: float = 0.95
) -> float:
    """Compute the smallest true ratio above 1 detected with 80 % power.

    The standard error of the log of the ratio is that of a ratio estimator.

    Args:
        a_nll: (documents,) negative log-likelihoods of a in nats.
        b_nll: (documents,) negative log-likelihoods of b in nats.
        tokens: (documents,) numbers of tokens.
    Source: Cochran (1977), Sampling techniques, section 6.3.
    """
    difference, sizes = (
        np.asarray(b_nll, np.float64) - np.asarray(a_nll, np.float64),
        np.asarray(tokens, np.float64),
    )
    influence = (difference - sizes * difference.sum() / sizes.sum()) / sizes.mean()
    effect = minimum_detectable_mean(float(influence.std()), len(sizes), confidence)
    # A model that has diverged gives infinity.
    with np.errstate(over="ignore"):
        return float(np.exp(effect))


def _interval(columns: Floats, confidence: float, resamples: int, seed: int) -> Interval:
    """Compute the BCa interval, or the percentile interval.

    The latter is used if BCa is undefined, because the documents are too few or equal.
    """
    try:
        return bca_interval(columns, _perplexity, confidence, resamples, seed)
    except ValueError:
        return percentile_interval(columns, _perplexity, confidence, resamples, seed)


def _perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(ratio(sums)))
