"""A checkpoint that lost a file, or part of one: nothing is trained from it, and the stage says which it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from stages_alone import HandWorker, prepared, train

from engine.context import Context, StageFailed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run whose SFT arm has two checkpoints."""
    settings = ("sft.steps=4", "sft.checkpoint_every=2", "sft.validate_every=0")
    context, _ = prepared(tmp_path_factory.mktemp("trained"), *settings)
    train(context, "sft", HandWorker())
    return context


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("config.json", 0.5),
        ("model.safetensors", 0.5),
        ("trainer_0.pt", 0.0),
        ("trainer_0_000.safetensors", 0.5),
        ("trainer_0_000.safetensors", None),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_stands(
    trained: Context, name: str, share: float | None, tmp_path: Path
) -> None:
    """`share` of the file is left; None: it is gone."""
    root = trained.folder.checkpoints("sft")
    newest, whole = root / "step_000004", tmp_path / "whole"
    shutil.copytree(newest, whole)
    if share is None:
        (newest / name).unlink()
    else:
        os.truncate(newest / name, int((newest / name).stat().st_size * share))
    with pytest.raises(StageFailed, match=f"^{newest}: this checkpoint cannot be read .*; move it away"):
        train(trained, "sft", HandWorker())
    newest.rename(tmp_path / "damaged")
    train(trained, "sft", HandWorker())
    for file in ("model.safetensors", "trainer_0_000.safetensors"):
        assert (newest / file).read_bytes() == (whole / file).read_bytes()
