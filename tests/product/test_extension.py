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

from engine.training.losses import LOSSES
from profiles.stages import STAGES
from profiles.training import LossName
from tests.support.how_to import PACKAGES, PAGES, ROOT, apply, copied
from tests.support.stage_context import write_source

# Trains two steps of GRPO by the new name, with a worker in the same process.
LOSS = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.support.stages_alone import HandWorker, prepared, train
from profiles.schema import Profile
from store.records import Scalar
settings = ("grpo.loss=sapo", "grpo.steps=2", "grpo.validate_every=0", "grpo.checkpoint_every=0")
context, told = prepared(Path(sys.argv[1]), *settings)
table = context.profile.model_dump()
table["arms"] = [{"name": "base", "stage": "none"}, {"name": "grpo", "stage": "grpo", "parent": "base"}]
train(replace(context, profile=Profile.model_validate(table)), "grpo", HandWorker())
for record in told:
    if isinstance(record, Scalar) and record.metric in ("grpo/train/loss", "grpo/train/grad_norm"):
        print(record.metric, record.step, record.value)
"""
# Opens the console on a run and presses the new screen's key.
SCREEN = """
import asyncio, sys
from pathlib import Path
from tests.support.console_pilot import console, opened, sees
async def main():
    async with console(Path(sys.argv[1]), (120, 40)) as (app, pilot):
        await opened(pilot, "9", sys.argv[2])
        print(await sees(pilot, "data/words/solution"))
        print(app.screen.NAME)
asyncio.run(main())
"""


def python(tree: Path, *words: str) -> str:
    """Run Python on the packages in `tree`; return its output."""
    path = os.pathsep.join([str(tree), str(ROOT)])
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
    """A home with a real run that has executed the new stage."""
    rows = [{"question": f"{a} + {a}", "answer": f"Twice it. #### {2 * a}"} for a in range(20)]
    write_source(tree / "rows", rows[:12], rows[12:])
    settings = (f"data.source={tree / 'rows'}", "data.validation_rows=2")
    options = [word for setting in settings for word in ("--set", setting)]
    python(
        tree, "-m", "mathrl_tui", "run", "data", "lengths", "--profile", "demo", "--home", "home", *options
    )
    return tree / "home"


def test_a_loss_trains_by_its_name(tree: Path) -> None:
    lines = [line.split() for line in python(tree, "-c", LOSS, str(tree / "loss")).splitlines()]
    norms = {int(step): float(value) for metric, step, value in lines if metric.endswith("grad_norm")}
    assert norms.keys() == {1, 2}
    assert all(norm > 0 for norm in norms.values())
    assert [int(step) for metric, step, _ in lines if metric.endswith("loss")] == [1, 2]


def test_a_loss_is_known_to_profiles_and_their_description(tree: Path) -> None:
    load = "from profiles.load import load; print(load('demo', ['grpo.loss=sapo']).grpo.loss)"
    assert python(tree, "-c", load) == "sapo\n"
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
    (run,) = [path.name for path in (home / "runs").iterdir()]
    status = json.loads(python(tree, "-m", "mathrl_tui", "status", run, "--json", "--home", str(home)))
    assert status["state"] == "done"
    # "A + A" and "Twice it. #### B".
    assert status["metrics"]["data/words/question"] == 3.0
    assert status["metrics"]["data/words/solution"] == 4.0
    assert "preprocess lengths sft" in python(tree, "-m", "mathrl_tui", "run", "--help")
    plan = "from engine.plan import STAGES, make_plan\nfrom profiles.load import load\n"
    plan += "print(*(step.label for step in make_plan(load('demo'), STAGES)))"
    everything = "data traces base preprocess lengths sft grpo sft+grpo eval\n"
    assert python(tree, "-c", plan) == everything


def test_a_screen_opens_by_its_key(tree: Path, home: Path) -> None:
    (run,) = [path.name for path in (home / "runs").iterdir()]
    shown = python(tree, "-c", SCREEN, str(home), run)
    assert "data/words/question" in shown
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
