"""What a training stage compares: its policy with the model's own forward, and the sampler with the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.context import Context, StageFailed
from engine.protocol.messages import Completion, Job, WorkerResult
from engine.training import head, policy
from store.home import RunFolder
from store.records import Record, Scalar
from tests.support import stages_alone
from tests.support.stages_alone import HandWorker, prepared, train

SETTINGS = (
    "sft.steps=1",
    "sft.validate_every=0",
    "grpo.steps=2",
    "grpo.prompts_per_step=4",
    "grpo.validate_every=0",
    "grpo.learning_rate=3e-3",
    "grpo.warmup_steps=0",
    "grpo.epochs=2",
    "grpo.minibatches=2",
    "grpo.staleness=0",
)
MISMATCH, MOVEMENT = "sampling/logprob_difference", "policy/logprob_change"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Preprocessed rows and a trained SFT arm."""
    context, _ = prepared(tmp_path_factory.mktemp("run"), *SETTINGS)
    train(context, "sft", HandWorker())
    return context


def beginning(run: Context, name: str, **grpo: Any) -> tuple[Context, list[Record]]:
    """Another run on the same rows, with the SFT arm of the first and nothing trained from it."""
    told: list[Record] = []
    folder = RunFolder(run.folder.home, name)
    folder.checkpoints("sft").parent.mkdir(parents=True)
    folder.checkpoints("sft").symlink_to(run.folder.checkpoints("sft"))
    profile = run.profile.model_copy(update={"grpo": run.profile.grpo.model_copy(update=grpo)})
    return replace(run, folder=folder, emit=told.append, profile=profile), told


def curve(told: list[Record], metric: str) -> dict[int, float]:
    rows = [row for row in told if isinstance(row, Scalar)]
    return {row.step: row.value for row in rows if row.metric == f"sft+grpo/{metric}"}


def test_the_mismatch_is_measured_at_the_weights_that_sampled(run: Context) -> None:
    """Four updates a step move the policy; the sampler's arithmetic is the trainer's all the same."""
    for old in ("sampler", "trainer"):
        context, told = beginning(run, f"fresh-{old}", old_logprobs=old)
        train(context, "sft+grpo", HandWorker())
        mismatch, movement = curve(told, f"{MISMATCH}/max"), curve(told, f"{MOVEMENT}/max")
        assert list(mismatch) == list(movement) == [1, 2]
        assert max(mismatch.values()) < 1e-4 < 0.01 < min(movement.values())
        assert max(curve(told, "sampling/importance_sampling_ratio/max").values()) < 1.0 + 1e-4


def test_a_policy_that_has_moved_since_is_not_called_a_mismatch(run: Context) -> None:
    context, told = beginning(run, "stale", staleness=1)
    train(context, "sft+grpo", HandWorker())
    assert list(curve(told, f"{MISMATCH}/mean")) == [1]  # the first step alone is at the weights that sampled
    assert list(curve(told, f"{MOVEMENT}/mean")) == [1, 2]


def test_a_sampler_with_another_head_fails_the_stage_before_anything_moves(
    run: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, told = beginning(run, "sampler")
    true_answer = stages_alone.answer

    def scaled(job: Job) -> list[WorkerResult]:
        return [
            replace(result, logprobs=result.logprobs * 1.1) if isinstance(result, Completion) else result
            for result in true_answer(job)
        ]

    monkeypatch.setattr(stages_alone, "answer", scaled)
    with pytest.raises(StageFailed) as caught:
        train(context, "sft+grpo", HandWorker())
    line = str(caught.value)
    assert line.startswith(
        "hardware.generator 'transformers' does not compute this model as the trainer does: at the same weights mean "
    )
    assert "\n" not in line and "allowed mean 0.01;" in line
    assert not curve(told, "train/loss") and not list(context.folder.checkpoints("sft+grpo").glob("step_*"))


@pytest.mark.parametrize("arm", ["sft", "sft+grpo"])
def test_a_stage_fails_if_its_policy_is_not_the_model(
    run: Context, arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, told = beginning(run, f"policy-{arm}")
    if arm == "sft":
        context.folder.checkpoints("sft").unlink()

    def scaled(model: Any, form: head.Form) -> head.Head:
        return head.Head(model.get_output_embeddings().weight, None, replace(form, scale=1.1))

    monkeypatch.setattr(policy, "head_of", scaled)
    with pytest.raises(
        StageFailed, match=r"does not compute this model: max .* the model's own .* allowed max 0\.0001"
    ):
        train(context, arm, HandWorker())
    assert not told
