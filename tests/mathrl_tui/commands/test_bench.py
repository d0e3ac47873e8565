"""`bench` in miniature: real processes of the benchmark, the transformers generator, the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.machine.gpus import visible_gpus
from tests.support.command_line import mathrl
from tests.support.traps import Trapped


@pytest.mark.timeout(300)
def test_the_tiny_bench_measures_every_part(tmp_path: Path) -> None:
    trapped = Trapped(tmp_path)
    done = trapped.run("bench", "--tiny", "--json", timeout=240.0)
    assert done.returncode == 0, done.stderr
    assert trapped.imported() == []
    figures = json.loads(done.stdout)["figures"]
    assert set(figures) >= {"SFT, tokens/s", "generation, tokens/s", "hand-over, trainer held, s"}
    assert all(value > 0 for value in figures.values())


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    if visible_gpus():
        pytest.skip("this machine has a GPU")
    done = mathrl(tmp_path, "bench")
    assert done.returncode == 2
    assert "this machine has no GPU; --tiny" in done.stderr
