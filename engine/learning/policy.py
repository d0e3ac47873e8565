"""The policy: a Hugging Face causal LM with packed forward, float32 masters and log-probs without whole logits.

Whatever the compute dtype, what the optimizer moves are float32 masters: an update of 1e-6 is less than half a step of
bf16 and would be lost. `engine.learning.precision` keeps masters and compute weights together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.learning import attention, head
from engine.learning.kernels import use_fused_kernels
from engine.learning.packing import Packed
from engine.learning.precision import Precision, cast_parameters, master_precision
from engine.learning.sharding import ShardedMasters, whole

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")

Result = tuple[Tensor, Tensor] | Tensor
Head = Callable[[Tensor, Tensor, Tensor], Result]


class NoWeights(ValueError):
    """A model folder without weights; the message names it."""


class PackedCausalLM(nn.Module):
    """The model's body over packed tokens, then a head over those hidden states that predict a response token."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, packed: Packed, apply_head: Head) -> Result:
        body = self.model.base_model(
            input_ids=packed.input_ids[None],
            position_ids=packed.position_ids[None],
            use_cache=False,
            packed=packed,
        )
        hidden = body.last_hidden_state[0].index_select(0, packed.trained)
        weight = cast(nn.Linear, self.model.get_output_embeddings()).weight  # type: ignore[no-untyped-call]
        return apply_head(hidden, weight, packed.targets.index_select(0, packed.trained))


class Policy:
    """A causal LM on one device. `frozen` policies (a KL reference) have no masters and give no gradients."""

    def __init__(
        self,
        model: PreTrainedModel,
        device: str = "cpu",
        compute_dtype: str = "float32",
        gradient_checkpointing: bool = False,
        frozen: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.compute_dtype = DTYPES[compute_dtype]
        model.set_attn_implementation(attention.register())
        nn.Module.to(model, self.device).train(not frozen)
        if self.device.type == "cuda":
            use_fused_kernels(model)
        if gradient_checkpointing and not frozen:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model = model
        self.network = PackedCausalLM(model)
        self._precision = None if frozen else self._masters()
        if frozen:
            cast_parameters(model.requires_grad_(False), self.compute_dtype)

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str = "cpu",
        compute_dtype: str = "float32",
        gradient_checkpointing: bool = False,
        *,
        revision: str = "main",
        frozen: bool = False,
    ) -> Self:
        """The model in folder or hub name `source`. NoWeights where a folder holds none."""
        folder = Path(source)
        if folder.is_dir() and not any((folder / name).is_file() for name in WEIGHT_FILES):
            raise NoWeights(
                f"{folder}: no {' or '.join(WEIGHT_FILES)} here; name a folder with a whole model"
            )
        model = AutoModelForCausalLM.from_pretrained(str(source), revision=revision, dtype=torch.float32)
        return cls(model, device, compute_dtype, gradient_checkpointing, frozen)

    def _masters(self) -> Precision:
        if not dist.is_initialized():
            return master_precision(self.network, self.compute_dtype)
        layers = list(cast(nn.ModuleList, self.model.base_model.layers))
        return ShardedMasters(self.network, layers, self.compute_dtype, self.device)

    @property
    def precision(self) -> Precision:
        """The masters; RuntimeError for a frozen policy."""
        if self._precision is None:
            raise RuntimeError("a frozen policy has no master weights to train")
        return self._precision

    def clear_gradients(self) -> None:
        """Drops the gradients gathered so far."""
        self.precision.clear()

    def logprobs(self, packed: Packed, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log-prob of each target at `temperature`, with gradients, and the entropy there, without.

        `packed` is on the policy's device. Both are float32 `(tokens,)` and 0 where `packed.mask` is false.
        """
        trained = self.network(packed, partial(head.logprobs, temperature=temperature))
        zeros = torch.zeros(len(packed), device=self.device)
        logprobs, entropy = (zeros.index_copy(0, packed.trained, values) for values in trained)
        return logprobs, entropy

    def cross_entropy(self, packed: Packed) -> tuple[Tensor, int]:
        """Sum of −log p over the response tokens, with gradients, and how many there are."""
        return cast(Tensor, self.network(packed, head.cross_entropy)), len(packed.trained)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight once (a tied head goes with its embedding), by Hugging Face name, in the compute dtype."""
        for name, weight in self.model.named_parameters():
            yield name, whole(weight.detach()).to(self.compute_dtype)

    def save_config(self, folder: Path) -> None:
        """Writes what transformers and vLLM need beside the weights, in the compute dtype, to build the model."""
        config = self.model.config
        config.dtype = self.compute_dtype
        config.architectures = [type(self.model).__name__]
        config.save_pretrained(folder)
        if self.model.generation_config is not None:
            self.model.generation_config.save_pretrained(folder)
