"""`bench` in miniature: real processes of the benchmark, the transformers generator, the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from engine.machine.gpus import visible_gpus
from mathrl_tui.commands import bench
from mathrl_tui.commands.errors import CommandFailed
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


def test_figures_of_the_other_part_are_printed_before_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "working.py").write_text(
        "import json, pathlib, sys\n"
        "measured = {'sampled_again': {'tokens_per_second': 9.0}}\n"
        "pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text(json.dumps(measured))\n"
    )
    (tmp_path / "failing.py").write_text("raise MemoryError('out of memory')\n")
    children = {"engine.bench.train": "failing.py", "engine.bench.generate": "working.py"}

    def command(module: str, *arguments: str) -> list[str]:
        return [sys.executable, str(tmp_path / children[module]), *arguments]

    monkeypatch.setattr(bench.isolated, "command", command)
    with pytest.raises(CommandFailed, match=r"engine\.bench\.train ended with exit status 1: MemoryError"):
        bench.bench(tiny=True)
    assert capsys.readouterr().out.split() == ["generation,", "tokens/s", "9.000"]
