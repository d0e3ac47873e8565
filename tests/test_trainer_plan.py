"""The trainer's walk through a plan: what is marked, what is repeated, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_context import NoCommands

from engine import trainer
from engine.context import Context, StageFailed, StageIncomplete
from engine.processes.orders import INCOMPLETE
from profiles import load
from store.home import RunFolder
from store.records import Event, Record


class Child:
    control = NoCommands()
    generation = None

    def __init__(self) -> None:
        self.told: list[Record] = []

    def emit(self, record: Record) -> None:
        self.told.append(record)

    def statuses(self) -> list[tuple[str, str]]:
        return [(event.stage, event.payload["status"]) for event in self.told if isinstance(event, Event)]


def walk(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, fault: Exception | None) -> tuple[int, Child]:
    """Runs the plan `data`, `eval`, `traces` with stages that do nothing, but for `eval`, which raises `fault`."""

    def do(context: Context) -> None:
        if context.stage == "eval" and fault:
            raise fault

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
