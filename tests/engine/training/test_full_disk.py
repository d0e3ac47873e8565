"""A disk that does not take a checkpoint: the stage fails with what to do, and what was half written is gone."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from engine.context import StageFailed
from tests.support.stages_alone import HandWorker, prepared, train


def test_a_checkpoint_for_which_there_is_no_room_fails_the_stage_and_leaves_the_room_that_there_was(
    tmp_path: Path,
) -> None:
    context, _ = prepared(tmp_path, "sft.steps=3", "sft.checkpoint_every=1", "sft.validate_every=0")
    root = context.folder.checkpoints("sft")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))  # the moments take 930,000 bytes
    try:
        with pytest.raises(
            StageFailed, match=f"^{root}: a checkpoint cannot be written: File too large; make"
        ):
            train(context, "sft", HandWorker())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(root.iterdir()) == []
    train(context, "sft", HandWorker())
    assert (root / "step_000003").is_dir()
