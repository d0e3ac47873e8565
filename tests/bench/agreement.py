"""Measure how far packed log-probs are from a model's own float32 forward.

The figures are given by architecture, device and dtype.

    python -m tests.bench.agreement --out agreement.json                        # tiny models, CPU and CUDA
    python -m tests.bench.agreement --model FOLDER --model FOLDER --out x.json  # and real ones

The tolerances of engine.training.self_check come from these figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from engine.context import fault_of
from engine.data.sequence import TokenSequence
from engine.data.tokenizer import load_tokenizer
from engine.training.own_forward import packed_logprobs
from engine.training.policy import DTYPES, Policy
from engine.training.self_check import compare, probes, reference

FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "olmo2", "gemma", "gemma2", "granite", "cohere", "phi")
SHAPE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": None,
}
# Standard deviation of the random weights, chosen so that logits are as uneven as in a trained model.
SPREAD = 0.1
TEXT = (
    "Question: Ann has 3 apples and buys 4 more at 2 dollars each. How much does she pay, and how many apples "
    "does she have then?\nAnswer: She pays 4 * 2 = 8 dollars. She has 3 + 4 = 7 apples.\n"
)
CANNOT = (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)

Make = Callable[[], PreTrainedModel]


def random_model(kind: str) -> PreTrainedModel:
    """Make a small model of architecture `kind`.

    Its weights are float32, random and seeded.
    """
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**SHAPE)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, SPREAD)
    return model


def differences(make: Make, device: str, dtype: str, texts: list[TokenSequence]) -> dict[str, Any]:
    """Compare packed log-probs of a new model with its own forward.

    Both run on `device` in `dtype`.
    Args:
        texts: sequences that are measured separately from random ids.
    """
    model = make().to(device)  # type: ignore[arg-type]
    asked = {"random ids": probes(model), **({"text": texts} if texts else {})}
    own = {name: reference(model, items, DTYPES[dtype]) for name, items in asked.items()}
    policy = Policy(model, device, dtype)
    return {
        name: asdict(compare(packed_logprobs(policy, items), own[name].logprobs))
        | {"allowed_mean": own[name].allowed.mean}
        for name, items in asked.items()
    }


def rows(folders: list[str], devices: list[str]) -> Iterator[dict[str, Any]]:
    """Yield one row for each model, device and dtype.

    A rejected model gives the first line of the error.
    """
    models: dict[str, tuple[Make, list[TokenSequence]]] = {
        kind: (partial(random_model, kind), []) for kind in FAMILIES
    }
    for folder in folders:
        ids = np.array(load_tokenizer(folder)(TEXT)["input_ids"], dtype=np.int32)
        load = partial(AutoModelForCausalLM.from_pretrained, folder, dtype=torch.float32)
        models[folder] = (load, [TokenSequence(ids, 1, True), TokenSequence(ids[len(ids) // 3 :], 1, True)])
    for name, (make, texts) in models.items():
        for device in devices:
            for dtype in ("float32", "bfloat16"):
                row = {"model": name, "device": device, "dtype": dtype}
                try:
                    yield row | differences(make, device, dtype, texts)
                except CANNOT as error:
                    yield row | {"refused": fault_of(error)}


def main() -> None:
    """Print one line for each row and write all rows as JSON."""
    parser = argparse.ArgumentParser(description="packed log-probs against the model's own forward")
    parser.add_argument("--model", action="append", default=[], help="model folder; repeatable")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    found = []
    for row in rows(chosen.model, ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]):
        found.append(row)
        head = f"{Path(row['model']).name:<14} {row['device']:<7} {row['dtype']:<9}"
        for name in ("random ids", "text"):
            if name in row:
                figures = row[name]
                print(
                    f"{head} {name:<10} max {figures['largest']:.2e}  mean {figures['mean']:.2e}  "
                    f"allowed {figures['allowed_mean']:.2e}  loss {figures['loss']:.4f}  own {figures['own_loss']:.4f}",
                    flush=True,
                )
        if "refused" in row:
            print(f"{head} refused: {row['refused']}", flush=True)
    chosen.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
