"""Plan the steps of a run from its profile and the requested stages.

    data → traces → (the demo's base model) → preprocess → every arm after its parent → eval

A run executes this graph for one seed. This module has no side effects and does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiles.errors import UserError
from profiles.schema import Profile

STAGES = ("data", "traces", "preprocess", "sft", "grpo", "eval")
_NEEDS_A_MODEL = frozenset({"preprocess", "sft", "grpo", "eval"})


class PlanError(UserError, ValueError):
    """The requested stages cannot be planned. The message is one line."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a run, with the arm that it trains ('' if it trains none)."""

    stage: str
    arm: str = ""

    @property
    def label(self) -> str:
        """The displayed name of the step: its arm if it has one, else its stage."""
        return self.arm or self.stage


def parse_stages(words: Sequence[str]) -> tuple[str, ...]:
    """Return the named stages in the experiment's order.

    `all` stands for every stage.
    Raises: PlanError if no stage is given or one is unknown.
    """
    if not words:
        raise PlanError(f"no stage given: name some of {' '.join(STAGES)}, or all")
    unknown = [word for word in words if word not in (*STAGES, "all")]
    if unknown:
        raise PlanError(f"{unknown[0]}: no such stage; stages are {' '.join(STAGES)}, or all")
    return STAGES if "all" in words else tuple(stage for stage in STAGES if stage in words)


def make_plan(profile: Profile, stages: Sequence[str], trained: Sequence[str] = ()) -> list[Step]:
    """Return the steps for `stages`, in order.

    An arm is skipped if its parent is neither planned nor trained. For example, `run grpo` alone trains the
    arms that start from the base. The demo's base model is planned if a stage needs a model. The data set's
    own solutions, which cost nothing, become traces if preprocess needs them.

    Args:
        stages: as `parse_stages` returns them.
        trained: names of arms that the run has already trained.
    Raises: PlanError if a requested training stage has no arm to train.
    """
    steps = [Step("data")] if "data" in stages else []
    if "traces" in stages or ("preprocess" in stages and profile.traces.source == "solutions"):
        steps.append(Step("traces"))
    available = set(trained)
    if _NEEDS_A_MODEL.intersection(stages):
        for arm in profile.arms:
            if arm.stage == "pretrain":
                available.add(arm.name)
                steps.append(Step("pretrain", arm.name))
    if "preprocess" in stages:
        steps.append(Step("preprocess"))
    for arm in profile.arms:
        if arm.stage == "none" and (not arm.parent or arm.parent in available):
            available.add(arm.name)
        elif arm.stage in stages and arm.parent in available:
            available.add(arm.name)
            steps.append(Step(arm.stage, arm.name))
    if "eval" in stages:
        steps.append(Step("eval"))
    for stage in ("sft", "grpo"):
        if stage in stages and not any(step.stage == stage for step in steps):
            raise PlanError(
                f"stage {stage}: profile {profile.name} has no arm for it with a trained or planned parent; "
                "name the parent's stage too"
            )
    return steps


def extended(steps: Sequence[Step], more: Sequence[Step]) -> list[Step]:
    """Return `steps` followed by those of `more` that are new.

    A repeated evaluation moves to the end, so that it includes the arms that were trained after the first
    one.
    """
    evaluation = Step("eval")
    new = [step for step in more if step not in steps]
    if evaluation not in more or evaluation not in steps:
        return [*steps, *new]
    return [*(step for step in steps if step != evaluation), *new, evaluation]


def needs_worker(profile: Profile, plan: Sequence[Step]) -> bool:
    """Return True if a step needs completions.

    It does for grpo without replay, eval without server and validated sft.
    """
    stages = {step.stage for step in plan}
    stages -= ({"eval"} if profile.eval.server else set()) | ({"grpo"} if profile.grpo.replay else set())
    return bool(stages & {"grpo", "eval"}) or ("sft" in stages and profile.sft.validate_every > 0)
