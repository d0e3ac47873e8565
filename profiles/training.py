"""The sections of a profile that train: pretrain, sft and grpo, and the optimizer that they share.

Learning rates are those of float32 master weights. With pure bf16 weights an update of 1e-6 is smaller than half a
bf16 step, and is lost.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from profiles.section import Count, Decay, Fraction, Minutes, Positive, Rate, Section

CHECKPOINT_MINUTES = (
    "longest time without a checkpoint, minutes (0: no limit): one is written besides those of checkpoint_every, but "
    "is never the best"
)
LossName = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "reinforce", "reinforce_baseline"]


class Pretrain(Section):
    """The demo's base model, made on the spot (model.source = 'made' only)."""

    steps: Positive = Field(280, description="optimizer steps")
    batch_size: Positive = Field(64, description="sequences a step")
    learning_rate: Rate = Field(5e-3, description="peak learning rate")
    warmup_steps: Count = Field(20, description="linear warm-up, steps")
    checkpoint_every: Count = Field(100, description="steps between checkpoints (0: only at the end)")
    checkpoint_minutes: Minutes = Field(10.0, description=CHECKPOINT_MINUTES)
    worked_steps: Count = Field(
        170, description="steps, the first ones, in which every solution shows its work"
    )
    worked_kinds: Count = Field(
        2, description="kinds of problem (of 18) whose solutions always show their work"
    )
    worked_fraction: Fraction = Field(
        0.3, description="share of the other kinds' later solutions that show their work; the others guess"
    )
    layers: Positive = Field(2, description="transformer layers")
    width: Positive = Field(128, description="hidden size; 32, 48 or 64 for each attention head")
    heads: Positive = Field(4, description="attention heads")
    key_value_heads: Positive = Field(2, description="key-value heads")
    vocabulary: Annotated[int, Field(ge=257)] = Field(
        1024, description="largest vocabulary of the byte-level BPE tokenizer"
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


class Optimizer(Section):
    """What SFT and GRPO share: AdamW with fp32 masters."""

    learning_rate: Rate = Field(1e-5, description="peak learning rate")
    schedule: Literal["constant", "cosine", "linear"] = Field("cosine", description="after the warm-up")
    warmup_steps: Count = Field(10, description="linear warm-up, steps")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled weight decay")
    beta1: Decay = Field(0.9, description="AdamW first moment")
    beta2: Decay = Field(0.95, description="AdamW second moment")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradient norm is clipped to this")
    tokens_per_microbatch: Count = Field(
        16_384, description="packed tokens a forward pass (0: found from free memory)"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")
    checkpoint_every: Count = Field(50, description="steps between checkpoints (0: only at the end)")
    checkpoint_minutes: Minutes = Field(10.0, description=CHECKPOINT_MINUTES)
    keep_checkpoints: Positive = Field(2, description="newest checkpoints kept; the best is kept besides")
    validate_every: Count = Field(25, description="steps between validations (0: none)")
    validation_rows: Positive = Field(256, description="validation questions asked each time")


class Sft(Optimizer):
    """Supervised fine-tuning on the traces."""

    steps: Count = Field(0, description="optimizer steps (0: from `epochs`)")
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        2.0, description="passes over the traces, when steps is 0"
    )
    batch_size: Positive = Field(64, description="sequences a step")


class Grpo(Optimizer):
    """Reinforcement learning from the grader's verdicts."""

    learning_rate: Rate = Field(1e-6, description="peak learning rate")
    schedule: Literal["constant", "cosine", "linear"] = Field("constant", description="after the warm-up")
    steps: Positive = Field(
        200, description="rollout batches; each is trained on `epochs` times in `minibatches` parts"
    )
    prompts_per_step: Positive = Field(64, description="questions a step")
    group_size: Annotated[int, Field(ge=2)] = Field(8, description="completions a question")
    max_new_tokens: Positive = Field(1024, description="longest completion, tokens")
    temperature: Annotated[float, Field(gt=0.0, le=2.0)] = Field(1.0, description="sampling temperature")
    top_p: Rate = Field(1.0, description="nucleus sampling mass")
    loss: LossName = Field("dapo", description="policy-gradient loss")
    clip_low: Fraction = Field(0.2, description="ratio is clipped below 1 - this")
    clip_high: Annotated[float, Field(ge=0.0)] = Field(0.28, description="ratio is clipped above 1 + this")
    epochs: Positive = Field(1, description="passes over each rollout batch")
    minibatches: Positive = Field(1, description="optimizer steps a pass over the batch")
    kl_coefficient: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="weight of the k3 KL penalty to the parent"
    )
    staleness: Count = Field(
        1, description="weight versions between sampler and trainer (0: strictly on policy)"
    )
    old_logprobs: Literal["sampler", "trainer"] = Field(
        "sampler", description="the ratio's denominator: the sampler's log-probs, or a pass before the update"
    )
    importance_cap: Annotated[float, Field(gt=0.0)] = Field(
        2.0, description="truncation of the trainer/sampler ratio that corrects for stale or foreign samplers"
    )
    normalise_advantage: bool = Field(
        True, description="divide by the group's standard deviation where the loss does"
    )
    refill_groups: Count = Field(
        0, description="spare questions a step that replace groups all right or all wrong (0: none)"
    )
    mask_truncated: bool = Field(
        False, description="leave completions that ran out of tokens out of the loss"
    )
    overlong_buffer: Count = Field(
        0, description="soft punishment grows over the last this many tokens (0: none)"
    )
    format_reward: Fraction = Field(
        0.0, description="reward for a readable answer that is wrong (can be farmed)"
    )
    examples_per_step: Count = Field(4, description="completions recorded in the store each step")
    record_rollouts: bool = Field(True, description="record rollouts (ids, log-probs, rewards) for replay")
    rollouts_gb: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        10.0,
        description="largest record of one arm's rollouts, GB (200 million sampled tokens take about 1); beyond it the "
        "oldest steps are removed, and what is left cannot be replayed from step 1 (0: no bound)",
    )
    replay: str = Field(
        "",
        description="run whose recorded rollouts are trained on in place of a worker's: its id or folder (empty: none)",
    )
