"""Compute advantages from the rewards of groups of completions.

A group is all completions of one question.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from profiles.training import LossName

# These losses omit the standard deviation by definition. Dividing by it favours questions with rewards that are
# nearly equal (Dr. GRPO, arXiv 2503.20783), and REINFORCE has no such term.
UNSCALED: frozenset[LossName] = frozenset({"dr_grpo", "reinforce", "reinforce_baseline"})
# The same value as in TRL.
EPSILON = 1e-4


def group_advantages(
    rewards: NDArray[np.float64], loss: LossName, normalise: bool = True
) -> NDArray[np.float64]:
    """Compute the advantage of each completion.

    For `reinforce` it is the reward itself. For the other losses it is the reward minus the mean of its
    group. If `normalise` is true and the loss scales, it is also divided by the group's sample standard
    deviation plus 1e-4.
    Args:
        rewards: (groups, group_size).
        loss: decides between reward and centred reward, and whether to scale.
        normalise: divide by the standard deviation, unless the loss is in UNSCALED.
    Returns: (groups, group_size).
    Source: DeepSeekMath, arXiv 2402.03300, equation 2.
    """
    if loss == "reinforce":
        return rewards.copy()
    centred: NDArray[np.float64] = rewards - rewards.mean(axis=1, keepdims=True)
    if normalise and loss not in UNSCALED:
        centred /= rewards.std(axis=1, ddof=1, keepdims=True) + EPSILON
    return centred


def zero_variance(rewards: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return `(groups,)`: True if all rewards of the group are equal.

    Such a group has no gradient.
    """
    same: NDArray[np.bool_] = (rewards == rewards[:, :1]).all(axis=1)
    return same
