"""Liger's fused RMSNorm, SwiGLU and rotary embedding on CUDA, where liger-kernel is installed."""

from __future__ import annotations

import importlib
import importlib.util

from transformers import PreTrainedModel

ARCHITECTURES = ("qwen2", "qwen3", "llama")


def use_fused_kernels(model: PreTrainedModel) -> bool:
    """Patches `model` in place; False where liger-kernel is absent or the architecture is another.

    Liger replaces the rotary embedding for the whole architecture, so a process that does this trains on CUDA only.
    The head is ours either way: Liger's fused linear cross-entropy takes chunks of 256 rows at this vocabulary.
    """
    architecture = model.config.model_type
    if architecture not in ARCHITECTURES or importlib.util.find_spec("liger_kernel") is None:
        return False
    liger = importlib.import_module("liger_kernel.transformers")
    patch = getattr(liger, f"apply_liger_kernel_to_{architecture}")
    patch(
        rope=True,
        rms_norm=True,
        swiglu=True,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        model=model,
    )
    return True
