"""The stages of an experiment, in the order of a run.

The stage NAME is the function `run` in engine/stages/NAME.py. Its line below makes it known to profiles, plans,
commands and console. This module imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageKind:
    """A stage and its place in a plan.

    Attributes:
        trains: the stage makes an arm from its parent; a plan has one step for each such arm.
        needs_model: the plan then includes the demo's base model.
        generates: the run then has a worker (grpo and eval need none with some settings; see engine/plan.py).
        is_requested: users name the stage in `run STAGE…`. Otherwise the plan adds it if another stage needs it.
    """

    name: str
    trains: bool = False
    needs_model: bool = True
    generates: bool = False
    is_requested: bool = True


STAGES = (
    StageKind("data", needs_model=False),
    StageKind("traces", needs_model=False),
    StageKind("pretrain", trains=True, is_requested=False),
    StageKind("preprocess"),
    StageKind("sft", trains=True),
    StageKind("grpo", trains=True, generates=True),
    StageKind("eval", generates=True),
)
# What users name in `run STAGE…`.
REQUESTED = tuple(kind.name for kind in STAGES if kind.is_requested)
# Stages that train on top of a base model.
TRAINING = tuple(kind.name for kind in STAGES if kind.trains and kind.name != "pretrain")
# Values of an arm's `stage`. 'none' makes nothing: the arm is its parent, or the model of the profile.
ARM_STAGES = ("none", *(kind.name for kind in STAGES if kind.trains))
# Steps are marked as finished under these names, so no arm may have one. `tasks` holds the marks of evaluation tasks.
RESERVED = frozenset({*(kind.name for kind in STAGES if not kind.trains), "tasks"})
