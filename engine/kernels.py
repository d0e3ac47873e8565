"""Liger's fused RMSNorm, SwiGLU and rotary embedding on CUDA, where liger-kernel is installed."""

from __future__ import annotations

import importlib.util

from transformers import PreTrainedModel


def use_fused_kernels(model: PreTrainedModel) -> bool:
    """Patches `model` in place; False where liger-kernel is absent or does not know the architecture.

    Liger replaces the rotary embedding for the whole architecture, so a process that does this trains on CUDA only.
    The head is ours either way: Liger's fused linear cross-entropy takes chunks of 256 rows at this vocabulary.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        return False
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    patch = MODEL_TYPE_TO_APPLY_LIGER_FN.get(model.config.model_type)
    if patch is None:
        return False
    patch(
        rope=True,
        rms_norm=True,
        swiglu=True,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        model=model,
    )
    return True
