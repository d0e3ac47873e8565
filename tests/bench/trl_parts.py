"""The parts of the training benchmark that run TRL's SFTTrainer.

Shape and lengths are the same as for this project's engine.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from engine.bench.shapes import Shape
from engine.bench.train import speed, synchronise

# Steps. Batches are padded to their longest row, so they differ in shape, and kernels are compiled for each
# shape.
WARM_UP = 16


class Stopwatch(TrainerCallback):
    """Records the time at which each step ended."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Record the time; the trainer calls this after the optimizer step."""
        synchronise(self._device)
        self.ends.append(time.perf_counter())


def sft(shape: Shape, device: str, tuned: bool, batch: int = 8, steps: int = 56) -> dict[str, Any]:
    """Run TRL with its defaults at batch 8, or `tuned`.

    `tuned` means Liger, no gradient checkpointing, bf16 weights.
    """
    gpu = device != "cpu"
    model = shape.model(device, torch.bfloat16 if tuned and gpu else torch.float32)
    parameters = sum(weight.numel() for weight in model.parameters())
    items = shape.sequences(batch * steps)
    rows = [{"input_ids": item.token_ids.tolist()} for item in items]
    options: dict[str, Any] = {"gradient_checkpointing": False, "use_liger_kernel": gpu} if tuned else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps,
            max_length=shape.longest,
            learning_rate=1e-6,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            use_cpu=not gpu,
            bf16=gpu,
            **options,
        )
        watch = Stopwatch(device)
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=_tokenizer(Path(folder), shape.vocabulary),
            callbacks=[watch],
        )
        trainer.train()
    seen = np.array([entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry])
    tokens, seconds = np.diff(seen)[WARM_UP:], np.diff(watch.ends)[WARM_UP:]
    result = speed(shape, device, parameters, items, float(seconds.mean()) * steps)
    return {
        **result,
        "seconds_per_step": float(np.median(seconds)),
        "tokens_per_step": float(tokens.mean()),
        # A step that compiles a kernel does not count.
        "tokens_per_second": float(np.median(tokens / seconds)),
        "tokens_per_second_of_all_steps": float(tokens.sum() / seconds.sum()),
    }


def _tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer for TRL, which requires one.

    The rows are already ids.
    """
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(vocabulary)}, unk_token="w1"))
    words.save(str(folder / "tokenizer.json"))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="w0", pad_token="w0", unk_token="w1"
    )
