"""Student's t distribution from scipy.special.

It is imported at the first call, because the import takes 0.1 s and most commands do not pool seeds.
"""

from __future__ import annotations


def t_cdf(value: float, freedom: float) -> float:
    """Compute P(T ≤ value).

    Args:
        value: value of T.
        freedom: degrees of freedom, ≥ 1.
    Raises: ValueError if `freedom` is below 1.
    """
    from scipy.special import stdtr

    return float(stdtr(_checked(freedom), value))


def t_quantile(probability: float, freedom: float) -> float:
    """Compute the value that T does not exceed with `probability`.

    Args:
        probability: in (0, 1).
        freedom: degrees of freedom, ≥ 1.
    Raises: ValueError if `freedom` is below 1.
    """
    from scipy.special import stdtrit

    return float(stdtrit(_checked(freedom), probability))


def _checked(freedom: float) -> float:
    if not freedom >= 1.0:
        raise ValueError(f"degrees of freedom must be at least 1, got {freedom}")
    return freedom
