"""What a training stage leaves behind: nothing, so that a copy of the worker's model finds the trainer's GPU free."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from engine.context import StopRequested
from tests.support.stages_alone import HandWorker, StopsAt, prepared, train, untrained

SETTINGS = (
    "sft.steps=3",
    "sft.validate_every=1",
    "sft.checkpoint_every=2",
    "grpo.steps=3",
    "grpo.kl_coefficient=0.1",
    "grpo.validate_every=1",
    "grpo.checkpoint_every=2",
)


@pytest.fixture(autouse=True)
def worker_has_its_model() -> None:
    """The hand-made worker keeps one model for all tests; load it before the tensors are counted."""
    untrained()


def tensor_bytes() -> int:
    """Memory of every tensor that anybody can reach."""
    gc.collect()
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if issubclass(type(each), torch.Tensor)
    }
    return sum(storages.values())


def test_no_tensor_outlives_the_stages_that_train(tmp_path: Path) -> None:
    context, _ = prepared(tmp_path, *SETTINGS, "model.compute_dtype=bfloat16")
    before = tensor_bytes()
    for arm in ("sft", "sft+grpo"):
        train(context, arm, HandWorker())
        assert tensor_bytes() == before


def test_nor_a_stage_that_was_stopped(tmp_path: Path) -> None:
    context, _ = prepared(tmp_path, *SETTINGS)
    before = tensor_bytes()
    with pytest.raises(StopRequested):
        train(context, "sft", HandWorker(), StopsAt(2))
    assert tensor_bytes() == before
