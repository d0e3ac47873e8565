"""Liger's fused RMSNorm, SwiGLU and rotary embedding, on CUDA.

They are used if liger-kernel is installed.
"""

from __future__ import annotations

import importlib.util

from transformers import PreTrainedModel

ARCHITECTURES = ("qwen2", "qwen3", "llama")


def use_fused_kernels(model: PreTrainedModel) -> bool:
    """Patch `model` in place; return False if that is not possible.

    It needs liger-kernel and one of ARCHITECTURES. Liger replaces the rotary embedding of the whole
    architecture. A process that calls this can therefore train on CUDA only.
    The head always stays this project's own: Liger's fused linear cross-entropy uses chunks of 256 rows at
    this vocabulary.
    """
    architecture = model.config.model_type
    if architecture not in ARCHITECTURES or importlib.util.find_spec("liger_kernel") is None:
        return False
    from liger_kernel import transformers as liger

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
