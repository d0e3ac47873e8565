"""Wilson's interval of one rate or mean score.

Source: Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
"""

from __future__ import annotations

import math

from store.statistics.interval import Interval, two_sided_z


def wilson(successes: float, total: float, confidence: float = 0.95) -> Interval:
    """Compute Wilson's score interval of a rate.

    Args:
        successes: number of correct answers; fractional for a mean over samples.
        total: number of questions; 0 gives the interval 0 to 1.
    Raises: ValueError if `successes` is not between 0 and `total`.
    """
    z = two_sided_z(confidence)
    if total == 0:
        return Interval(math.nan, 0.0, 1.0, confidence)
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total}: outside 0 to {total}")
    rate = successes / total
    shrink = 1.0 + z * z / total
    centre = (rate + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(rate * (1.0 - rate) / total + z * z / (4.0 * total * total))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == total else centre + half
    return Interval(rate, low, high, confidence)


def wilson_of_scores(mean: float, variance: float, questions: int, confidence: float = 0.95) -> Interval:
    """Compute Wilson's interval of a mean score between 0 and 1.

    Fractional scores vary less than 0/1 outcomes (TruthfulQA, or means over several samples of a question).
    The interval is that of a number of 0/1 outcomes with the same variance. 0/1 scores give Wilson's own interval.

    Args:
        mean: mean score over the questions.
        variance: population variance of the scores over the questions.
        questions: number of questions.
    Source: Kish, L. (1965), Survey sampling, section 8.2; Franco et al. (2019), J. Survey Statistics and Methodology 7.
    """
    binary = mean * (1.0 - mean)
    if variance <= 0.0 or variance >= binary * (1.0 - 1e-9):
        return wilson(mean * questions, questions, confidence)
    effective = questions * binary / variance
    return wilson(mean * effective, effective, confidence)
