"""Student's t distribution without scipy.

The distribution function uses Gauss-Legendre quadrature, the quantile bisection.
"""

from __future__ import annotations

import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)


def t_cdf(value: float, freedom: float) -> float:
    """Compute P(T ≤ value) to about 1e-9.

    With T = sqrt(freedom) tan(angle) the density becomes a power of the cosine of the angle.

    Args:
        value: value of T.
        freedom: degrees of freedom, ≥ 1.
    Raises: ValueError if `freedom` is below 1.
    """
    if freedom < 1.0:
        raise ValueError(f"degrees of freedom must be at least 1, got {freedom}")
    end = math.atan(value / math.sqrt(freedom))
    angles = end / 2.0 * (_NODES + 1.0)
    area = end / 2.0 * float(np.sum(_WEIGHTS * np.cos(angles) ** (freedom - 1.0)))
    scale = math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0)
    return 0.5 + math.exp(scale) / math.sqrt(math.pi) * area


def t_quantile(probability: float, freedom: float) -> float:
    """Compute the quantile of T at `probability` by bisection over its angle."""
    low, high = -math.pi / 2.0, math.pi / 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if t_cdf(math.sqrt(freedom) * math.tan(middle), freedom) < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2.0)
