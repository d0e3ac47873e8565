"""A loss, a stage and a screen, each added as its how-to page says and used in a real run.

The pages are applied to a copy of the source, so a page that no longer fits the code fails here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from how_to import PACKAGES, PAGES, ROOT, apply, copied
from small_experiment import make_inputs

from engine.training.losses import LOSSES
from profiles.stages import STAGES
from profiles.training import LossName

SETTINGS = ("grpo.loss=sapo", "grpo.steps=2", "grpo.validate_every=0", "grpo.checkpoint_every=0")
ARMS = '[[arms]]\nname = "base"\nstage = "none"\n[[arms]]\nname = "grpo"\nstage = "grpo"\nparent = "base"\n'
# Opens the console on a run and presses the new screen's key.
SCREEN = """
import asyncio, sys
from pathlib import Path
from console_pilot import console, opened, sees
async def main():
    async with console(Path(sys.argv[1]), (120, 40)) as (app, pilot):
        await opened(pilot, "9", sys.argv[2])
        print(await sees(pilot, "data/words/question"))
        print(app.screen.NAME)
asyncio.run(main())
"""


def python(tree: Path, *words: str) -> str:
    """Run Python on the packages in `tree`; return its output."""
    path = os.pathsep.join([str(tree), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with the loss, the stage and the screen of the pages."""
    tree = copied(tmp_path_factory.mktemp("tree"))
    for page in ("add-a-loss.md", "add-a-stage.md", "add-a-screen.md", "add-a-task.md"):
        assert apply(page, tree)
    return tree


@pytest.fixture(scope="module")
def home(tree: Path) -> Path:
    """A home in which a run has executed the new stage, and has trained two steps with the new loss."""
    profile = make_inputs(tree / "inputs")
    text = profile.read_text()
    profile.write_text(text[: text.index("[[arms]]")] + ARMS)
    stages = ("data", "preprocess", "lengths", "grpo")
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    place = ("--home", "home", "--profile", str(profile))
    python(tree, "-m", "mathrl_tui", "run", *stages, "--name", "new", *place, *options)
    return tree / "home"


def test_a_loss_trains_by_its_name(tree: Path, home: Path) -> None:
    status = json.loads(python(tree, "-m", "mathrl_tui", "status", "new", "--json", "--home", str(home)))
    assert status["state"] == "done"
    assert {"grpo/train/loss", "grpo/train/grad_norm"} <= status["metrics"].keys()
    sql = (
        "SELECT config->>'$.profile.grpo.loss', max(step) FROM run, scalar "
        "WHERE metric = 'grpo/train/loss' GROUP BY 1"
    )
    rows = json.loads(python(tree, "-m", "mathrl_tui", "sql", "--json", sql, "--home", str(home)))["rows"]
    assert rows == [["sapo", 2]]
    shown = python(tree, "-m", "mathrl_tui", "profiles", "show", "demo")
    assert re.search(r"^grpo\.loss = .*# .*\bsapo\b", shown, re.MULTILINE)


def test_the_pages_loss_is_what_its_paper_defines() -> None:
    """One token with ratio 1 and advantage 1, one with ratio 1 and advantage −1, by hand."""
    block = re.search(r"```python\n(.*?)```", (PAGES / "add-a-loss.md").read_text(), re.DOTALL)
    assert block is not None
    import torch

    from engine.training import losses

    scope = dict(vars(losses)) | {"loss": lambda *names: lambda function: function}
    exec(block.group(1), scope)
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    mask, sequence = torch.ones(2, dtype=torch.bool), torch.arange(2)
    terms = losses.Terms(logprobs, logprobs.detach(), torch.tensor([1.0, -1.0]), mask, sequence)
    output = scope["sapo"](terms, losses.Settings(0.2, 0.28), losses.Totals(2, 2, 16))
    output.loss.backward()
    # sigmoid(0) · 4 / sharpness = 2 / sharpness, and its slope at ratio 1 is 1 for every sharpness.
    assert output.loss.item() == pytest.approx(-(2 / 1.0 - 2 / 1.05) / 2, rel=1e-5)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.5, 0.5], rel=1e-5)


def test_a_stage_runs_where_its_line_stands(tree: Path, home: Path) -> None:
    status = json.loads(python(tree, "-m", "mathrl_tui", "status", "new", "--json", "--home", str(home)))
    plan = [entry if isinstance(entry, str) else entry["stage"] for entry in status["stages"]]
    assert "preprocess lengths sft" in python(tree, "-m", "mathrl_tui", "run", "--help")
    assert plan.index("preprocess") < plan.index("lengths") < plan.index("grpo")
    # Every question of the small experiment is "A + B", and its solution "#### B".
    assert status["metrics"]["data/words/question"] == 3.0
    assert status["metrics"]["data/words/solution"] == 2.0


def test_a_screen_opens_by_its_key(tree: Path, home: Path) -> None:
    (run,) = [path.name for path in (home / "runs").iterdir()]
    shown = python(tree, "-c", SCREEN, str(home), run)
    assert "grpo/train/loss" in shown
    assert "9 Metrics" in shown
    assert shown.rstrip().endswith("\nmetrics")


def test_a_task_reads_its_local_rows(tree: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from engine.lm_eval_suite.names import LOCAL\n"
        "from engine.lm_eval_suite.overlays import write_overlays\n"
        "print('arc_easy' in LOCAL, write_overlays(Path(sys.argv[1]), Path(sys.argv[2])))\n"
    )
    (tree / "my-tasks" / "arc_easy").mkdir(parents=True)
    (tree / "my-tasks" / "arc_easy" / "test.jsonl").write_text("{}\n")
    assert python(tree, "-c", script, "my-tasks", "overlays") == "True ['arc_easy']\n"
    assert "arc/arc_easy.yaml" in (tree / "overlays" / "arc_easy.yaml").read_text()


def test_every_loss_that_a_profile_accepts_has_a_function() -> None:
    assert list(LOSSES) == list(get_args(LossName))


def test_every_stage_has_a_module_and_every_module_a_line() -> None:
    modules = {path.stem for path in (ROOT / "engine" / "stages").glob("*.py")} - {"__init__"}
    assert {kind.name for kind in STAGES} == modules


def test_the_copied_packages_are_those_that_are_installed() -> None:
    assert set(PACKAGES) == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
