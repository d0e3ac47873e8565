"""`status --plot`: a metric as a chart in plain text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from mathrl_tui.core.curve import Curve
from mathrl_tui.core.plot import plot, zigzag
from tests.support.command_line import mathrl
from tests.support.fabricated import FabricatedRun, finished_run


def test_a_metric_of_all_arms_is_drawn_as_plain_text(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    done = mathrl(tmp_path, "status", run.folder.run_id, "--plot", "train/loss")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("train/loss by step"))
    assert lines[head].split("   ")[1:] == ["● base 0.0333", "▲ sft 0.05", "■ grpo 0.1"]
    drawn = lines[head + 1 :]
    assert all(len(line) <= 80 for line in drawn) and "\x1b" not in done.stdout
    assert any("■" in line for line in drawn) and any("▲" in line for line in drawn)


def test_one_arm_is_drawn_alone_and_an_unknown_metric_is_named(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    alone = mathrl(tmp_path, "status", run.folder.run_id, "--plot", "sft/train/loss")
    assert "train/loss by step   sft 0.05" in alone.stdout
    wrong = mathrl(tmp_path, "status", run.folder.run_id, "--plot", "train/los")
    assert wrong.returncode == 2 and "did you mean train/loss" in wrong.stderr
    groups = "it has 3, each also by its source (base, grpo, sft): reward/{mean}; train/{loss, tokens}"
    assert groups in wrong.stderr
    far = mathrl(tmp_path, "status", run.folder.run_id, "--plot", "nosuch")
    assert far.returncode == 2 and groups in far.stderr and "did you mean" not in far.stderr
    both = mathrl(tmp_path, "status", run.folder.run_id, "--plot", "train/loss", "--json")
    assert both.returncode == 2 and "leave --json out" in both.stderr


def test_a_falling_curve_falls_and_every_extreme_is_kept() -> None:
    steps = np.arange(100_000.0)
    values = -steps
    values[777] = 50_000.0
    one = Curve.of(steps.tolist(), values.tolist(), steps.tolist())
    x, y = zigzag(one, 0.0, 99_999.0, 70)
    assert len(x) == len(y) == 140
    assert max(y) == 50_000.0 and min(y) == values.min()
    text = plot("loss", {"sft": one}, 80, 20)
    columns = [max(line.rfind(chr(cell)) for cell in range(0x2801, 0x2900)) for line in text.splitlines()]
    assert len(text.splitlines()) == 20
    rows = [index for index, column in enumerate(columns) if column >= 0]
    assert columns[rows[-1]] > columns[rows[len(rows) // 2]] > 10


def test_the_first_line_never_cuts_a_number() -> None:
    steps = np.arange(1.0, 4.0)
    curves = {
        name: Curve.of(steps, np.full(3, -0.0206), steps) for name in ("base", "sft", "grpo", "sft+grpo")
    }
    for width in (60, 76, 100):
        head = plot("train/loss by step", curves, width, 12).splitlines()[0]
        assert len(head) <= width
        assert head.count("−0.0206") == len(set(head) & set("●▲■◆"))
        assert head.endswith(("−0.0206", "…"))


def test_values_that_are_no_numbers_are_left_out() -> None:
    one = Curve.of([1, 2, 3], [1.0, float("nan"), 2.0], [1, 2, 3])
    assert "nan" not in plot("loss", {"sft": one}, 60, 12)
    assert plot("loss", {"sft": Curve.of([1], [float("nan")], [1])}, 60, 12)


def test_help_does_not_load_the_plotting_library(tmp_path: Path) -> None:
    FabricatedRun(tmp_path, "demo")
    script = (
        "import sys\nfrom mathrl_tui.cli import main\nsys.argv = ['mathrl-tui', 'status', '--help']\n"
        "try: main()\nexcept SystemExit: pass\nprint([name for name in ('plotext', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr
