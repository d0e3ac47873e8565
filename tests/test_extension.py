"""A loss, a stage, a screen and a task, each added as its how-to page says.

The pages are applied to a copy of the source, so a page that no longer fits the code fails here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from how_to import PACKAGES, PAGES, ROOT, apply, copied

from engine.training.losses import LOSSES
from profiles.stages import STAGES
from profiles.training import LossName


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
