"""Several completions a question: pass@k and the majority vote."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k completions is right, from `correct` of `samples` drawn.

    Chen et al. (2021), Evaluating large language models trained on code, section 2.1.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(
            f"pass@{k} needs 1 <= k <= samples and 0 <= correct <= samples; got {correct} of {samples}"
        )
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority(answers: Sequence[str], correct: Sequence[bool]) -> float:
    """Chance that the most frequent answer is right, a tie being broken at random; an empty answer has no vote.

    `answers` are the extracted answers of one question's completions, `correct` the grader's verdicts on them.
    Different spellings of one right answer vote together. Wang et al. (2023), Self-consistency.
    """
    ballots = ["\0right" if right else answer for answer, right in zip(answers, correct, strict=True)]
    votes = Counter(ballot for ballot in ballots if ballot)
    if not votes:
        return 0.0
    most = max(votes.values())
    return (votes["\0right"] == most) / sum(count == most for count in votes.values())
