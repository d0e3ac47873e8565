"""From a profile and the stages that were asked for to the steps of a run, in order. Pure; imports no torch.

The experiment is a graph: data → traces → (the demo's base model) → preprocess → every arm after its parent → eval.
A run walks it for one seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profiles import Profile

STAGES = ("data", "traces", "preprocess", "sft", "grpo", "eval")
_NEEDS_A_MODEL = frozenset({"preprocess", "sft", "grpo", "eval"})


class PlanError(ValueError):
    """The stages asked for cannot be planned; the message is one line."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a run, for one arm where the stage trains an arm ('' otherwise)."""

    stage: str
    arm: str = ""

    @property
    def label(self) -> str:
        """How the step is shown: the arm where there is one, else the stage."""
        return self.arm or self.stage


def parse_stages(words: Sequence[str]) -> tuple[str, ...]:
    """The stages in the experiment's order; `all` stands for every one. PlanError on a word that is none."""
    if not words:
        raise PlanError(f"no stage given: name some of {' '.join(STAGES)}, or all")
    unknown = [word for word in words if word not in (*STAGES, "all")]
    if unknown:
        raise PlanError(f"{unknown[0]}: no such stage; stages are {' '.join(STAGES)}, or all")
    return STAGES if "all" in words else tuple(stage for stage in STAGES if stage in words)


def make_plan(profile: Profile, stages: Sequence[str], trained: Sequence[str] = ()) -> list[Step]:
    """The steps for `stages`, as `parse_stages` gives them. `trained` names arms that the run already has.

    Arms whose parent is neither planned nor trained are left out (`run grpo` alone trains the arms that start from
    the base). The demo's base model is made when a planned stage needs a model, and the data set's own solutions,
    which cost nothing, become traces when preprocess needs them.
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
                f"stage {stage}: profile {profile.name} declares no arm of it whose parent is there"
            )
    return steps


def extended(steps: Sequence[Step], more: Sequence[Step]) -> list[Step]:
    """`steps` and, behind them, those of `more` that are new.

    An evaluation that is asked for again goes to the end, so that it sees the arms that were trained after the first.
    """
    evaluation = Step("eval")
    new = [step for step in more if step not in steps]
    if evaluation not in more or evaluation not in steps:
        return [*steps, *new]
    return [*(step for step in steps if step != evaluation), *new, evaluation]


def needs_worker(profile: Profile, plan: Sequence[Step]) -> bool:
    """True where a step asks for completions: grpo that replays no record, eval without a server, validating sft."""
    stages = {step.stage for step in plan}
    stages -= ({"eval"} if profile.eval.server else set()) | ({"grpo"} if profile.grpo.replay else set())
    return bool(stages & {"grpo", "eval"}) or ("sft" in stages and profile.sft.validate_every > 0)
