"""The trainer's walk through a plan: what is marked, what is repeated, and how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine import trainer
from engine.artifacts.finished import mark_of, mark_step
from engine.context import ArmReopened, Context, StageFailed, StageIncomplete
from engine.data import inputs
from engine.data.cache import building
from engine.ipc.orders import INCOMPLETE, REOPENED
from profiles.load import load
from store.home import RunFolder
from store.records import Event, Record
from tests.support.stage_context import NoCommands


class Child:
    control = NoCommands()
    generation = None

    def __init__(self) -> None:
        self.told: list[Record] = []

    def emit(self, record: Record) -> None:
        self.told.append(record)

    def statuses(self) -> list[tuple[str, str]]:
        events = [event for event in self.told if isinstance(event, Event) and event.kind == "stage"]
        return [(event.stage, event.payload["status"]) for event in events]


def walk(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, fault: Exception | None) -> tuple[int, Child]:
    """Run the plan `data`, `eval`, `traces`; `eval` raises `fault`, the others leave a file in the cache."""

    def do(context: Context) -> None:
        if context.stage == "eval" and fault:
            raise fault
        if context.stage in inputs.CACHED:
            with building(inputs.CACHED[context.stage](context)) as made:
                (made / "rows.jsonl").write_text("{}\n")

    monkeypatch.setattr(trainer, "stage", lambda name: do)
    child = Child()
    return trainer.main(folder, child), child  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path, "run")
    found.path.mkdir(parents=True)
    plan = [{"stage": stage, "arm": ""} for stage in ("data", "eval", "traces")]
    profile = load("demo", []).model_dump(mode="json")
    found.config.write_text(json.dumps({"profile": profile, "seed": 0, "plan": plan}))
    return found


def test_an_incomplete_stage_lets_the_plan_go_on_and_is_repeated_by_a_resume(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, child = walk(folder, monkeypatch, StageIncomplete("1 of 2 suite tasks failed"))
    assert status == INCOMPLETE
    assert [each for each in child.statuses() if each[1] != "started"] == [
        ("data", "finished"),
        ("eval", "incomplete"),
        ("traces", "finished"),
    ]
    status, again = walk(folder, monkeypatch, None)
    assert (status, again.statuses()) == (0, [("eval", "started"), ("eval", "finished")])


def test_a_failed_stage_ends_the_walk(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    status, child = walk(folder, monkeypatch, StageFailed("nothing was measured"))
    assert (status, child.statuses()[-1]) == (1, ("eval", "failed"))


@pytest.mark.parametrize("damage", ["flipped", "removed"])
def test_a_damaged_output_that_a_later_stage_needs_is_made_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    walk(folder, monkeypatch, StageFailed("the disk was full"))
    (output,) = (folder.home / "cache" / "data").iterdir()
    if damage == "flipped":
        (output / "rows.jsonl").write_text("[]\n")
    else:
        shutil.rmtree(output)
    status, child = walk(folder, monkeypatch, None)
    assert status == 0
    assert [each for each in child.statuses() if each[1] == "finished"] == [
        ("data", "finished"),
        ("eval", "finished"),
        ("traces", "finished"),
    ]
    assert (output / "rows.jsonl").read_text() == "{}\n"
    logs = [event.message for event in child.told if isinstance(event, Event) and event.kind == "log"]
    kept = output.with_name(f"damaged-{output.name}-1")
    assert kept.exists() == (damage == "flipped")
    assert [f"{output / 'rows.jsonl'} is damaged" in line and kept.name in line for line in logs] == [
        True
    ] * len(logs)
    assert len(logs) == (damage == "flipped")


def test_a_stage_that_needs_an_arm_again_ends_the_walk_for_another_trainer(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, child = walk(folder, monkeypatch, ArmReopened("model.safetensors is damaged", "sft"))
    last = child.told[-1]
    assert isinstance(last, Event)
    assert (status, last.stage, last.payload) == (
        REOPENED,
        "eval",
        {"status": "stopped", "reopened": "sft"},
    )
    assert not mark_of(folder, "eval").exists()


@pytest.mark.parametrize("left", [(), (8,), (8, 16)])
def test_an_arm_whose_last_checkpoint_is_gone_is_trained_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, left: tuple[int, ...]
) -> None:
    config = json.loads(folder.config.read_text())
    config["plan"] = [{"stage": "sft", "arm": "sft"}, {"stage": "eval", "arm": ""}]
    folder.config.write_text(json.dumps(config))
    for step in left:
        checkpoint = folder.checkpoints("sft") / f"step_{step:06d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").touch()
    mark_step(folder, "sft", 16)
    status, child = walk(folder, monkeypatch, None)
    assert status == 0
    assert (("sft", "started") in child.statuses()) == (16 not in left)
    said = [each.message for each in child.told if isinstance(each, Event) and each.kind == "log"]
    lost = "the last checkpoint of arm sft, step 16, is missing; its lost steps are trained again"
    assert said == ([] if 16 in left else [lost])


def test_a_run_that_is_done_looks_at_no_output(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    walk(folder, monkeypatch, None)
    shutil.rmtree(folder.home / "cache")
    status, child = walk(folder, monkeypatch, None)
    assert (status, child.told) == (0, [])
