"""AdamW over float32 masters, with schedule and gradient clipping.

The learning rate is a function of the step. Clipping reports the gradient norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.training.precision import Precision, gradients
from profiles.training import OptimizerSettings as Settings


def learning_rate(settings: Settings, step: int, total_steps: int) -> float:
    """Return the learning rate of update `step`, counted from 0.

    It warms up linearly from peak / warmup_steps, then follows the schedule. Cosine and linear reach 0 just
    after the last of `total_steps` updates.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    span = max(total_steps - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / span, 1.0)
    remaining = (
        1.0 - progress if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    )
    return settings.learning_rate * remaining


@dataclass(frozen=True, slots=True)
class Update:
    """Result of one update: gradient norm before clipping, and learning rate."""

    grad_norm: float
    learning_rate: float


class MasterAdamW:
    """AdamW over the masters of a policy.

    Weight decay is decoupled and applies to matrices only.
    """

    def __init__(self, precision: Precision, settings: Settings, total_steps: int) -> None:
        self._precision = precision
        self._settings = settings
        self._total_steps = total_steps
        self.steps_done = 0
        masters = list(precision.masters.values())
        decayed = [master for master in masters if master.dim() >= 2]
        others = [master for master in masters if master.dim() < 2]
        self._adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )

    def step(self) -> Update:
        """Clip the gradients, update and publish the masters.

        The gradients are cleared.
        The gradient norm is clipped to max_grad_norm.
        If the gradient norm is not finite, the masters do not change. The step still counts, and the norm is
        reported unchanged.
        """
        norm = self._precision.collect()
        scale = (self._settings.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients(self._precision.masters), scale)
        rate = learning_rate(self._settings, self.steps_done, self._total_steps)
        self.steps_done += 1
        grad_norm = float(norm)
        if math.isfinite(grad_norm):
            for group in self._adamw.param_groups:
                group["lr"] = rate
            self._adamw.step()
            self._precision.publish()
        self._precision.clear()
        return Update(grad_norm, rate)

    def state_dict(self) -> dict[str, Any]:
        """Return step, moments and masters.

        Together with the model's own weights, this is all that exact resumption needs.
        """
        return {
            "steps_done": self.steps_done,
            "adamw": self._adamw.state_dict(),
            "masters": self._precision.masters,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises: KeyError or ValueError if it belongs to another model.
        """
        self.steps_done = state["steps_done"]
        self._adamw.load_state_dict(state["adamw"])
        saved: Mapping[str, Tensor] = state["masters"]
        with torch.no_grad():
            for name, master in self._precision.masters.items():
                master.copy_(saved[name])
        self._precision.publish()
