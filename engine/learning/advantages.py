"""From rewards to advantages, a group (the completions of one question) at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from profiles.training import LossName

# These leave the standard deviation out by definition: dividing by it favours questions of nearly equal reward
# (Dr. GRPO, arXiv 2503.20783), and REINFORCE has no such term.
UNSCALED: frozenset[LossName] = frozenset({"dr_grpo", "reinforce", "reinforce_baseline"})
EPSILON = 1e-4  # TRL's


def group_advantages(
    rewards: NDArray[np.float64], loss: LossName, normalise: bool = True
) -> NDArray[np.float64]:
    """Advantages `(groups, group_size)` of rewards of that shape.

    The reward itself for `reinforce`; otherwise the reward less its group's mean, divided by the group's sample
    standard deviation plus 1e-4 where `normalise` and the loss does so (DeepSeekMath, arXiv 2402.03300, eq. 2).
    """
    if loss == "reinforce":
        return rewards.copy()
    centred: NDArray[np.float64] = rewards - rewards.mean(axis=1, keepdims=True)
    if normalise and loss not in UNSCALED:
        centred /= rewards.std(axis=1, ddof=1, keepdims=True) + EPSILON
    return centred


def zero_variance(rewards: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`(groups,)`: true where every completion of the group has the same reward, so that it teaches nothing."""
    same: NDArray[np.bool_] = (rewards == rewards[:, :1]).all(axis=1)
    return same
