"""pass@k and majority vote over several completions of one question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Estimate pass@k of one question without bias.

    Args:
        samples: number of completions drawn.
        correct: number of correct completions among them.
        k: number of attempts, 1 ≤ k ≤ samples.
    Returns: probability in [0, 1] that at least one of k completions is correct.
    Raises: ValueError if k or `correct` is out of range.
    Source: Chen et al. (2021), Evaluating large language models trained on code, section 2.1.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(
            f"pass@{k} needs 1 <= k <= samples and 0 <= correct <= samples; got {correct} of {samples}"
        )
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority(answers: Sequence[str], correct: Sequence[bool]) -> float:
    """Compute the probability that the most frequent answer is correct.

    Ties are broken at random. An empty answer has no vote. Different spellings of the correct answer vote together.

    Args:
        answers: (samples,) extracted answers of one question's completions.
        correct: (samples,) the grader's verdicts on them.
    Returns: probability in [0, 1]; 0 without votes.
    Source: Wang et al. (2023), Self-consistency.
    """
    ballots = ["\0right" if right else answer for answer, right in zip(answers, correct, strict=True)]
    votes = Counter(ballot for ballot in ballots if ballot)
    if not votes:
        return 0.0
    most = max(votes.values())
    return (votes["\0right"] == most) / sum(count == most for count in votes.values())
