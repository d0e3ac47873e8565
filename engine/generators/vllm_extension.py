"""Load new weights inside vLLM's worker processes.

The processes read the published version themselves. vLLM mixes this class into its worker
(`worker_extension_cls`), and `collective_rpc` calls `load_version` by name. Only the location of the weights
is sent to it.
`reload_weights` with an iterator is the one way that works from vLLM 0.24 to 0.33, on CUDA and CPU. It writes
in place, so compiled graphs stay valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from engine.generators.checkpoint import named_tensors, verify
from engine.protocol.messages import WeightRef
from engine.training.loading import as_in_files, empty_model
from engine.weight_sync.weights import WeightReader


@contextmanager
def transformers_alone(config: Any) -> Iterator[None]:
    """Build transformers' models as if vLLM were not loaded.

    This holds inside the context.
    `config` is vLLM's configuration. vLLM runs a family without its own class through transformers' class,
    and replaces its constructor. That constructor raises without a current configuration. With the engine's
    own configuration it would compile the model.
    """
    from vllm.config import CompilationConfig, CompilationMode, set_current_vllm_config

    uncompiled = copy(config)
    uncompiled.compilation_config = CompilationConfig(mode=CompilationMode.NONE)
    with set_current_vllm_config(uncompiled):
        yield


class WeightVersions:
    """Methods that are added to a vLLM worker.

    `device`, `model_runner`, `vllm_config` and `reload_weights` are vLLM's.
    """

    if TYPE_CHECKING:
        device: torch.device
        model_runner: Any
        vllm_config: Any

        def reload_weights(self, *, weights_iterator: Iterator[tuple[str, Tensor]]) -> None: ...

    def load_version(self, arm: str, version: int, location: str) -> None:
        """Load a version that passed the check of names and shapes.

        Raises: WeightsRefused if it is not whole, or was replaced.
        """
        weights = WeightRef(arm, version, location)
        reader = self._weight_reader()
        with transformers_alone(self.vllm_config):
            tensors = as_in_files(self._names(), named_tensors(weights, reader))
        self.reload_weights(
            weights_iterator=(
                (name, tensor.to(self.device, non_blocking=True)) for name, tensor in tensors.items()
            )
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        else:
            self._renew_tied_head()
        verify(weights, reader)

    def _names(self) -> PreTrainedModel:
        """Return a model without weights, for transformers' parameter names."""
        if not hasattr(self, "_mathrl_names"):
            config = AutoConfig.from_pretrained(self.model_runner.model_config.model)
            self._mathrl_names = empty_model(config)
        return self._mathrl_names

    def _weight_reader(self) -> WeightReader:
        """Return one reader for the life of the process.

        Slots then stay mapped and page-locked from version to version.
        """
        if not hasattr(self, "_mathrl_reader"):
            self._mathrl_reader = WeightReader(pin=self.device.type == "cuda")
        return self._mathrl_reader

    def _renew_tied_head(self) -> None:
        """Repack a tied head on a CPU.

        It keeps a repacked copy, which a reload does not update.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        model = self.model_runner.get_model()
        if model.config.tie_word_embeddings:
            # Which of them is the head differs between vLLM's classes: some have no separate module for it.
            for module in model.modules():
                if isinstance(module, VocabParallelEmbedding):
                    module.quant_method.process_weights_after_loading(module)
