"""Families that vLLM builds in another way than most, under new weights, against transformers.

Gemma-2's class has no module for its tied head, and OLMo-2 runs by transformers' own class, which vLLM changes.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from engine.generators.interface import GenerationRequest
from engine.protocol.messages import Sampling, WeightRef
from profiles.load import load as load_profile
from tests.support import families

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

SETTINGS = ("hardware.generator=vllm", "hardware.max_sequences=8", "hardware.max_model_len=64")
# vLLM's CPU attention takes heads of 32, 48 or 64.
SHAPE = {"hidden_size": 128, "head_dim": 32}
FAMILIES = {"Gemma-2": {**SHAPE, "tie_word_embeddings": True}, "OLMo-2": {"hidden_size": 128}}
PROMPT = np.array([3, 41, 7, 7, 90, 12, 5, 66, 23, 8, 17], np.int32)  # longer than Gemma-2's window

Answer = tuple[NDArray[np.int32], NDArray[np.float32]]  # ids and log-probs of a completion


def make(folder: Path, family: str, seed: int) -> Path:
    model_type, changes = families.FAMILIES[family]
    config = AutoConfig.for_model(model_type, **(families._BASE | changes | FAMILIES[family]))
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    families.widen(model)
    model.save_pretrained(folder)
    families.tokenizer().save_pretrained(folder)
    return folder


def _child(versions: list[Path], pipe: Connection[Any, Any]) -> None:
    from engine.generators.vllm import VllmGenerator

    hardware = load_profile("demo", SETTINGS).hardware
    generator = VllmGenerator(versions[0], hardware, "float32", lambda *_: None)
    answers: list[Answer] = []
    for number, folder in enumerate(versions):
        generator.load(WeightRef("base", number, str(folder)))
        request = GenerationRequest(0, 0, PROMPT, 0)
        (done,) = [each for part in generator.generate(deque([request]), Sampling(1.0, 12)) for each in part]
        answers.append((done.token_ids, done.logprobs))
    pipe.send(answers)
    generator.close()


def own_logprobs(folder: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Log-probs of a completion of PROMPT by plain transformers."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    tokens = torch.from_numpy(np.concatenate([PROMPT, ids])).long()
    with torch.no_grad():
        logits = model.eval()(input_ids=tokens[None]).logits[0, len(PROMPT) - 1 : -1]
    found: torch.Tensor = logits.log_softmax(-1).gather(-1, tokens[len(PROMPT) :, None])[:, 0]
    return found.numpy()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_new_weights_give_transformers_log_probs(family: str, tmp_path: Path) -> None:
    versions = [make(tmp_path / str(seed), family, seed) for seed in range(2)]
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(versions, sender))
    child.start()
    sender.close()
    try:
        answers: list[Answer] = receiver.recv()
    finally:
        child.join(60)
        child.kill()
    for folder, (ids, logprobs) in zip(versions, answers, strict=True):
        assert len(ids) and np.abs(logprobs - own_logprobs(folder, ids)).max() < 5e-4
