"""A home with two finished runs that `rm` and `gc` can remove."""

from __future__ import annotations

from pathlib import Path

from engine.artifacts import digests
from store.home import REMOVED
from store.query import Store
from tests.support.fabricated import FabricatedRun, finished_run

A, B = "demo-s0-first", "demo-s1-second"


def fill(folder: Path, **files: int) -> None:
    """Files of zeros of these sizes; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        (folder / name.replace("__", ".")).write_bytes(bytes(size))


def make_run(home: Path, run_id: str) -> FabricatedRun:
    run = finished_run(home, run_id)
    run._journal.close()
    fill(run.folder.rollouts / "grpo", update_000001__npz=1000, update_000002__npz=2000)
    arm = run.folder.checkpoints("sft")
    fill(arm / "step_000010", model__safetensors=500, config__json=2)
    fill(arm / "step_000010", trainer_0__json=3, trainer_0_000__safetensors=900)
    digests.write_list(arm / "step_000010", {})
    (arm / "best").symlink_to("step_000010")
    fill(arm / "damaged-step_000005", model__safetensors=70)
    return run


def everything(home: Path) -> dict[str, int]:
    """Every file but the database's own and the records of removals, with its size."""
    return {
        str(p): p.stat().st_size
        for p in home.rglob("*")
        if p.is_file() and not p.name.startswith("store.") and p.parent != home / REMOVED
    }


def ids(home: Path) -> list[str]:
    return [run.run for run in Store(home).runs()]
