"""Plan the steps of a run from its profile and the requested stages.

    data → traces → (the demo's base model) → preprocess → every arm after its parent → eval

A run executes this graph for one seed. This module has no side effects and does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from profiles.errors import UserError
from profiles.schema import Profile
from profiles.stages import REQUESTED, TRAINING
from profiles.stages import STAGES as KINDS
from store.run_config import Step

__all__ = ["STAGES", "PlanError", "Step", "extended", "make_plan", "needs_worker", "parse_stages"]

STAGES = REQUESTED
_NEEDS_A_MODEL = frozenset(kind.name for kind in KINDS if kind.needs_model)


class PlanError(UserError, ValueError):
    """The requested stages cannot be planned. The message is one line."""


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
    wanted = set(stages)
    if "preprocess" in wanted and profile.traces.source == "solutions":
        wanted.add("traces")
    if wanted & _NEEDS_A_MODEL:
        wanted.add("pretrain")
    steps: list[Step] = []
    available = set(trained)
    for kind in KINDS:
        if not kind.trains:
            steps += [Step(kind.name)] if kind.name in wanted else []
        elif kind.name == "pretrain":
            steps += _training(profile, wanted & {"pretrain"}, available)
        # The arms of all other training stages come together, in the profile's order.
        elif kind.name == TRAINING[0]:
            steps += _training(profile, wanted.intersection(TRAINING), available)
    _check_arms(profile, wanted, steps)
    return steps


def _check_arms(profile: Profile, wanted: Set[str], steps: Sequence[Step]) -> None:
    """Raise PlanError if a wanted training stage has no arm in `steps`."""
    for stage in TRAINING:
        if stage in wanted and not any(step.stage == stage for step in steps):
            raise PlanError(
                f"stage {stage}: profile {profile.name} has no arm for it with a trained or planned parent; "
                "name the parent's stage too"
            )


def _training(profile: Profile, stages: Set[str], available: set[str]) -> list[Step]:
    """Return the steps that make arms by `stages`, each after its parent.

    Adds the arms to `available`.
    """
    steps = []
    for arm in profile.arms:
        has_parent = not arm.parent or arm.parent in available
        if arm.stage == "none" and has_parent:
            available.add(arm.name)
        elif arm.stage in stages and has_parent:
            available.add(arm.name)
            steps.append(Step(arm.stage, arm.name))
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
    generating = {kind.name for kind in KINDS if kind.generates}
    generating -= ({"eval"} if profile.eval.server else set()) | ({"grpo"} if profile.grpo.replay else set())
    return bool(stages & generating) or ("sft" in stages and profile.sft.validate_every > 0)
