"""Profile sections of training: pretrain, sft, grpo, their optimizer.

Learning rates assume float32 master weights. With pure bf16 weights an update of 1e-6 is smaller than half a
bf16 step and is lost.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from profiles.section import Count, Decay, Minutes, Positive, Rate, Section, UnitFraction

CHECKPOINT_MINUTES = (
    "maximum time between checkpoints, minutes (0: no limit); these checkpoints are extra to checkpoint_every and "
    "cannot become the best"
)
# Values of `grpo.loss`; engine/training/losses.py registers a function for each.
LossName = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "reinforce", "reinforce_baseline"]


class Pretrain(Section):
    """Training of the demo's base model from scratch.

    It is used with model.source = 'made' only.
    """

    steps: Positive = Field(280, description="optimizer steps")
    batch_size: Positive = Field(64, description="sequences per step")
    learning_rate: Rate = Field(5e-3, description="peak learning rate")
    warmup_steps: Count = Field(20, description="linear warm-up, steps")
    checkpoint_every: Count = Field(100, description="steps between checkpoints (0: only at the end)")
    checkpoint_minutes: Minutes = Field(10.0, description=CHECKPOINT_MINUTES)
    worked_steps: Count = Field(
        170, description="number of first steps in which every solution shows its work"
    )
    worked_kinds: Count = Field(
        2, description="number of problem kinds (of 18) with solutions that always show their work"
    )
    worked_fraction: UnitFraction = Field(
        0.3,
        description="fraction of the other kinds' later solutions that show their work; the rest guess the answer",
    )
    layers: Positive = Field(2, description="transformer layers")
    width: Positive = Field(128, description="hidden size; 32, 48 or 64 for each attention head")
    heads: Positive = Field(4, description="attention heads")
    key_value_heads: Positive = Field(2, description="key-value heads")
    vocabulary: Annotated[int, Field(ge=257)] = Field(
        1024, description="maximum vocabulary of the byte-level BPE tokenizer, tokens"
    )

    @model_validator(mode="after")
    def _vllm_can_serve_it(self) -> Self:
        if self.width not in (32 * self.heads, 48 * self.heads, 64 * self.heads):
            raise ValueError(
                f"pretrain.width is {self.width} for {self.heads} heads; vLLM on a CPU takes 32, 48 or 64 for each"
            )
        if self.heads % self.key_value_heads:
            raise ValueError(
                f"pretrain.key_value_heads is {self.key_value_heads}; it must divide pretrain.heads, {self.heads}"
            )
        return self


class OptimizerSettings(Section):
    """AdamW with fp32 master weights, shared by SFT and GRPO."""

    learning_rate: Rate = Field(1e-5, description="peak learning rate")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "cosine", description="learning-rate schedule after the warm-up"
    )
    warmup_steps: Count = Field(10, description="linear warm-up, steps")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled weight decay")
    beta1: Decay = Field(0.9, description="AdamW decay of the first moment")
    beta2: Decay = Field(0.95, description="AdamW decay of the second moment")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="maximum gradient norm (clipping)")
    tokens_per_microbatch: Count = Field(
        16_384, description="packed tokens per forward pass (0: chosen from free memory)"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")
    checkpoint_every: Count = Field(50, description="steps between checkpoints (0: only at the end)")
    checkpoint_minutes: Minutes = Field(10.0, description=CHECKPOINT_MINUTES)
    keep_checkpoints: Positive = Field(
        2, description="number of newest checkpoints to keep, in addition to the best"
    )
    validate_every: Count = Field(25, description="steps between validations (0: off)")
    validation_rows: Positive = Field(256, description="questions per validation")


class Sft(OptimizerSettings):
    """Supervised fine-tuning on the traces."""

    steps: Count = Field(0, description="optimizer steps (0: from `epochs`)")
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        2.0, description="passes over the traces, when steps is 0"
    )
    batch_size: Positive = Field(64, description="sequences per step")


class Grpo(OptimizerSettings):
    """Reinforcement learning from the grader's verdicts."""

    learning_rate: Rate = Field(1e-6, description="peak learning rate")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="learning-rate schedule after the warm-up"
    )
    steps: Positive = Field(
        200, description="rollout batches; each is trained on for `epochs` passes in `minibatches` parts"
    )
    prompts_per_step: Positive = Field(64, description="questions per step")
    group_size: Annotated[int, Field(ge=2)] = Field(8, description="completions per question")
    max_new_tokens: Positive = Field(1024, description="longest completion, tokens")
    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = Field(1.0, description="sampling temperature")
    top_p: Rate = Field(1.0, description="probability mass of nucleus sampling")
    loss: LossName = Field("dapo", description=f"policy-gradient loss: {', '.join(get_args(LossName))}")
    clip_low: UnitFraction = Field(0.2, description="lower clip: the ratio is clipped at 1 - clip_low")
    clip_high: Annotated[float, Field(ge=0.0)] = Field(
        0.28, description="upper clip: the ratio is clipped at 1 + clip_high"
    )
    epochs: Positive = Field(1, description="passes over each rollout batch")
    minibatches: Positive = Field(1, description="optimizer steps per pass over the batch")
    kl_coefficient: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="weight of the k3 KL penalty to the parent"
    )
    staleness: Count = Field(
        1, description="maximum weight versions between sampler and trainer (0: strictly on policy)"
    )
    old_logprobs: Literal["sampler", "trainer"] = Field(
        "sampler",
        description="denominator of the ratio: log-probs of the sampler, or of a trainer pass before the update",
    )
    importance_cap: Annotated[float, Field(gt=0.0)] = Field(
        2.0, description="cap of the trainer/sampler ratio that corrects for stale or different samplers"
    )
    normalise_advantage: bool = Field(
        True, description="divide by the group's standard deviation, if the loss does so"
    )
    refill_groups: Count = Field(
        0, description="spare questions per step that replace groups all right or all wrong (0: none)"
    )
    mask_truncated: bool = Field(
        False, description="exclude completions that reached the token limit from the loss"
    )
    overlong_buffer: Count = Field(
        0, description="last tokens before the limit over which a soft penalty grows (0: no penalty)"
    )
    format_reward: UnitFraction = Field(
        0.0, description="reward for a readable but wrong answer (can be exploited by the policy)"
    )
    examples_per_step: Count = Field(4, description="completions recorded in the store each step")
    record_rollouts: bool = Field(True, description="record rollouts (ids, log-probs, rewards) for replay")
    rollouts_gb: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        10.0,
        description="maximum size of one arm's recorded rollouts, GB (200 million sampled tokens take about 1); above "
        "it the oldest steps are removed, and the rest cannot be replayed from step 1 (0: no limit)",
    )
    replay: str = Field(
        "",
        description="run to replay: train on its recorded rollouts instead of a worker's; id or folder (empty: none)",
    )
