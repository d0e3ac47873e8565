"""The stage `pretrain`: train the demo's tokenizer and base model.

The base learns from solutions of mixed quality. At first every solution shows its work. Later, for most kinds
of problem, only a share does and the others guess. So the base can show its work but mostly does not, and
both SFT and GRPO can improve it.

Worked solutions come first because the same steps then teach more than twice as much arithmetic. A few kinds
always show their work, so that greedy accuracy of the base hardly depends on the seed.

The batch of step t is a pure function of seed and t. Its problems are generated when needed, and none belongs
to the held-out split.
"""

from __future__ import annotations

import random
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from engine.context import Context, StageFailed
from engine.data import inputs
from engine.data.encoding import encode_answers, encode_prompts
from engine.data.prompts import answer_text, prompt_end, prompt_text
from engine.data.sequence import TokenSequence
from engine.data.tiny_model import make_model, make_tokenizer
from engine.data.word_problems import Problem, endless
from engine.machine.ranks import own_device
from engine.protocol.messages import derived_seed
from engine.stages.sft import rates, update
from engine.training.arm_training import Clock, Training
from engine.training.checkpoint_writer import CheckpointWriter
from engine.training.fallback import newest_whole
from engine.training.optimizer import MasterAdamW
from engine.training.policy import Policy
from profiles.training import OptimizerSettings as Settings
from profiles.training import Pretrain


def run(context: Context) -> None:
    """Train the base arm to its last step.

    Training starts from the newest checkpoint if there is one.
    Raises: StageFailed if the plan gives no arm.
    """
    if context.arm is None:
        raise StageFailed("pretrain: internal error: the plan gives no arm to train; please report it")
    shape, hardware = context.profile.pretrain, context.profile.hardware
    root = context.folder.checkpoints(context.arm.name)
    if newest_whole(context, root) is None:
        _make(root, shape, context.seed, str(own_device(hardware.trainer)))
    with Training(context, recipe(shape), shape.steps) as training:
        _train(training, shape)


def recipe(shape: Pretrain) -> Settings:
    """Return the optimizer's settings.

    The schedule is cosine. No checkpoint is selected, so nothing is validated.
    """
    return Settings(
        learning_rate=shape.learning_rate,
        warmup_steps=shape.warmup_steps,
        checkpoint_every=shape.checkpoint_every,
        checkpoint_minutes=shape.checkpoint_minutes,
        keep_checkpoints=1,
        validate_every=0,
    )


def mixed_batch(tokenizer: Any, shape: Pretrain, seed: int, step: int) -> list[TokenSequence]:
    """Return `batch_size` sequences, worked or guessed, for `step`.

    Steps count from 0.
    """
    rng = random.Random(derived_seed("pretrain", seed, step))
    chosen = list(islice(endless(rng, "train"), shape.batch_size))
    solutions = [
        problem.worked if _shows_work(problem, shape, step, rng) else problem.guess(rng) for problem in chosen
    ]
    prompts = encode_prompts(
        tokenizer, [prompt_text(tokenizer, problem.question, "plain") for problem in chosen], "plain"
    )
    texts = [answer_text("plain", solution) for solution in solutions]
    answers = encode_answers(tokenizer, texts, prompt_end(tokenizer, "plain"))
    return [
        TokenSequence(
            np.array([*prompt, *answer, tokenizer.eos_token_id], np.int32), len(prompt), finished=True
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _shows_work(problem: Problem, shape: Pretrain, step: int, rng: random.Random) -> bool:
    always = step < shape.worked_steps or problem.kind < shape.worked_kinds
    return always or rng.random() < shape.worked_fraction


def _make(root: Path, shape: Pretrain, seed: int, device: str) -> None:
    """Write tokenizer and untrained model as the checkpoint of step 0."""
    tokenizer: Any = make_tokenizer(shape.vocabulary)
    policy = Policy(make_model(shape, tokenizer, seed), device)
    optimizer = MasterAdamW(policy.precision, recipe(shape), shape.steps)
    with closing(CheckpointWriter(root, keep=1)) as writer:
        writer.save(0, policy, tokenizer, optimizer, {"step": 0})


def _train(training: Training, shape: Pretrain) -> None:
    clock, context = Clock(), training.context
    tokenizer = inputs.tokenizer(context)
    while training.step < training.total_steps:
        training.boundary(training.save)
        batch = mixed_batch(tokenizer, shape, context.seed, training.step)
        with clock.measure("train"):
            metrics = update(training, batch)
        training.step += 1
        training.scalars({**metrics, **rates(metrics, clock.lap())})
        training.progress()
        if training.is_due(shape.checkpoint_every) or training.step == training.total_steps:
            training.save()
