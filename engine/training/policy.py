"""The policy: a causal LM with packed forward and float32 masters.

    Packed ─▶ PackedCausalLM: body ─▶ hidden states before response tokens ─▶ head ─▶ log-probs, entropy

Whole logits never exist. The optimizer always updates float32 masters, whatever the compute dtype: an update
of 1e-6 is less than half a step of bf16 and would be lost. `engine.training.precision` keeps masters and
compute weights together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.training import attention, head
from engine.training.checkpointing import checkpoint_layers, decoder_layers
from engine.training.head_form import body_of, head_of, observed_form
from engine.training.kernels import use_fused_kernels
from engine.training.loading import as_in_files, load_model
from engine.training.packing import Packed
from engine.training.packing_check import check_packing
from engine.training.precision import Precision, cast_parameters, master_precision
from engine.training.rope import rope_limit
from engine.training.sharding import ShardedMasters, whole
from engine.training.unsupported import UnsupportedModel

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")

HeadOutput = tuple[Tensor, Tensor] | Tensor
ApplyHead = Callable[[Tensor, head.Head, Tensor], HeadOutput]


class NoWeights(ValueError):
    """A model folder without weights; the message names it."""


class PackedCausalLM(nn.Module):
    """The model's body over packed tokens, then a head.

    The head only gets hidden states that predict a response token.
    """

    def __init__(self, model: PreTrainedModel, form: head.Form) -> None:
        super().__init__()
        self.model = model
        self.form = form
        self._limit = rope_limit(model.config.to_dict())

    def forward(self, packed: Packed, apply_head: ApplyHead) -> HeadOutput:
        """Compute hidden states, and apply the head to those that are trained.

        Args:
            apply_head: receives hidden states (trained tokens, width), the head, and targets of the same rows.
        Returns: the result of `apply_head`.
        """
        hidden = self.hidden(packed).index_select(0, packed.trained)
        return apply_head(
            hidden, head_of(self.model, self.form), packed.targets.index_select(0, packed.trained)
        )

    def hidden(self, packed: Packed, **watched: Any) -> Tensor:
        """Compute the last hidden states `(tokens, width)`.

        Raises: UnsupportedModel if a sequence is longer than the rotary frequencies allow.
        """
        if self._limit is not None and packed.longest > self._limit:
            raise UnsupportedModel(
                f"model type {self.model.config.model_type!r}: rotary frequencies change beyond {self._limit} tokens, "
                f"and a sequence has {packed.longest}; set hardware.max_model_len to {self._limit}"
            )
        # A mask of ones: without any, transformers would look for packed sequences and mask them itself.
        body = body_of(self.model)(
            input_ids=packed.input_ids[None],
            attention_mask=torch.ones_like(packed.input_ids)[None],
            position_ids=packed.position_ids[None],
            use_cache=False,
            packed=packed,
            **watched,
        )
        return cast(Tensor, body.last_hidden_state[0])


class Policy:
    """A causal LM on one device.

    `frozen` policies (a KL reference) have no masters and no gradients.
    """

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
        # Eval mode: dropout, layer drop and router noise of a checkpoint's config would make the policy differ from
        # the one that samples.
        nn.Module.eval(nn.Module.to(model, self.device))
        form = observed_form(model)
        model.set_attn_implementation(attention.register())
        if self.device.type == "cuda":
            use_fused_kernels(model)
        if gradient_checkpointing and not frozen:
            checkpoint_layers(model)
        self.model = model
        self.network = PackedCausalLM(model, form)
        check_packing(self.network, self.device)
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
        """Load the model in folder or hub name `source`.

        Raises: NoWeights if a folder holds none; UnsupportedModel if this project cannot compute the model
            exactly.
        """
        return cls(read_model(source, revision), device, compute_dtype, gradient_checkpointing, frozen)

    def _masters(self) -> Precision:
        if not dist.is_initialized():
            return master_precision(self.network, self.compute_dtype)
        return ShardedMasters(self.network, decoder_layers(self.model), self.compute_dtype, self.device)

    @property
    def precision(self) -> Precision:
        """The masters.

        Raises: RuntimeError for a frozen policy.
        """
        if self._precision is None:
            raise RuntimeError("a frozen policy has no master weights to train")
        return self._precision

    def clear_gradients(self) -> None:
        """Drop the accumulated gradients."""
        self.precision.clear()

    def logprobs(self, packed: Packed, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Compute the log-prob of each target at `temperature`, and the entropy.

        The log-probs carry gradients; the entropy does not. `packed` must be on the policy's device.
        Returns: two float32 (tokens,) tensors, 0 at positions with a false `packed.mask`.
        """
        trained = self.network(packed, partial(head.logprobs, temperature=temperature))
        zeros = torch.zeros(len(packed), device=self.device)
        logprobs, entropy = (zeros.index_copy(0, packed.trained, values) for values in trained)
        return logprobs, entropy

    def cross_entropy(self, packed: Packed) -> tuple[Tensor, int]:
        """Compute the sum of −log p over the response tokens.

        It has gradients. The second value is the number of tokens.
        """
        return cast(Tensor, self.network(packed, head.cross_entropy)), len(packed.trained)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight once, by its name in memory, in the compute dtype.

        A tied head is yielded as its embedding.
        """
        for name, weight in self.model.named_parameters():
            yield name, whole(weight.detach()).to(self.compute_dtype)

    def file_weights(self) -> dict[str, Tensor]:
        """Return the same weights by the names that model folders use."""
        return as_in_files(self.model, dict(self.named_weights()))

    def save_config(self, folder: Path) -> None:
        """Write what is needed to build the model, except the weights.

        transformers and vLLM read it.
        The config states the compute dtype.
        """
        config = self.model.config
        config.dtype = self.compute_dtype
        config.architectures = [type(self.model).__name__]
        config.save_pretrained(folder)
        if self.model.generation_config is not None:
            # Skip the validation of save_pretrained, which rejects settings of many checkpoints.
            self.model.generation_config.to_json_file(folder / "generation_config.json")


def read_model(source: str | Path, revision: str = "main") -> PreTrainedModel:
    """Load the model in folder or hub name `source` in float32, on the CPU.

    Raises: NoWeights if a folder holds none; UnsupportedModel if a parameter is missing.
    """
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise NoWeights(f"{folder}: no {' or '.join(WEIGHT_FILES)} here; name a folder with a whole model")
    return load_model(source, torch.float32, revision)
