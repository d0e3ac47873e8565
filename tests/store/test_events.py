"""The details of events: their payloads as earlier versions wrote them, unknown and damaged ones."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.events import (
    DETAILS,
    AlarmRaised,
    CheckpointSaved,
    CommandReceived,
    Details,
    InputReport,
    LogLine,
    OtherDetails,
    Part,
    PhaseChange,
    ProcessChange,
    ProgressReport,
    StageChange,
    StateChange,
    details_of,
)
from store.records import Event
from tests.support.fuzzing import NESTED, fuzz

# What stands in the journals of earlier versions, with the details that it means.
WRITTEN: list[tuple[str, dict[str, Any], Details]] = [
    ("state", {"state": "queued", "reason": "starts"}, StateChange("queued", "starts")),
    ("stage", {"status": "finished"}, StageChange("finished")),
    ("progress", {"done": 3, "total": 9, "unit": "completions"}, ProgressReport(3, 9, "completions")),
    (
        "progress",
        {
            "done": 3,
            "total": 9,
            "unit": "answers",
            "eta_seconds": 1.5,
            "tokens": 7,
            "dollars": 0.1,
            "in_flight": 2,
        },
        ProgressReport(3, 9, "answers", 1.5, None, 7, 0.1, 2),
    ),
    (
        "progress",
        {
            "done": 1,
            "total": 4,
            "unit": "suite tasks",
            "part": {"name": "mmlu", "arm": "sft", "done": 2, "total": 8},
        },
        ProgressReport(1, 4, "suite tasks", part=Part("mmlu", "sft", 2, 8)),
    ),
    (
        "checkpoint",
        {"path": "runs/r/checkpoints/sft/4", "seconds": 1.25, "start_seconds": 40.0},
        CheckpointSaved("runs/r/checkpoints/sft/4", 1.25, 40.0),
    ),
    (
        "process",
        {"role": "worker", "pid": 7, "alive": False, "reason": ""},
        ProcessChange("worker", 7, False, ""),
    ),
    ("command", {"command": "stop", "origin": "cli"}, CommandReceived("stop", "cli")),
    ("phase", {"phase": "loading", "detail": "the model"}, PhaseChange("loading", "the model")),
    ("log", {"level": "warning"}, LogLine("warning")),
    (
        "log",
        {"level": "warning", "process": "store", "settled": []},
        LogLine("warning", "store", settled=()),
    ),
    (
        "log",
        {"level": "warning", "process": "supervisor", "damaged": [[1, 20, 300]]},
        LogLine("warning", "supervisor", damaged=((1, 20, 300),)),
    ),
    ("log", {"level": "info", "estimate_dollars": 0.25}, LogLine("info", estimate_dollars=0.25)),
    (
        "alarm",
        {"alarm": "not-finite", "metric": "sft/train/loss", "value": "nan"},
        AlarmRaised("not-finite", "sft/train/loss", "nan"),
    ),
    (
        "alarm",
        {"alarm": "explosion", "metric": "m", "value": "9", "action": "stop", "checkpoint": "c/4"},
        AlarmRaised("explosion", "m", "9", "stop", "c/4"),
    ),
    ("input", {"summary": "s", "rows": [1, 2]}, InputReport({"summary": "s", "rows": [1, 2]})),
]


@pytest.mark.parametrize(("kind", "payload", "details"), WRITTEN)
def test_details_have_the_payload_of_earlier_versions(
    kind: str, payload: dict[str, Any], details: Details
) -> None:
    assert details_of(Event(kind, payload=payload)) == details
    event = details.event("message", "sft", "arm", 4, 5.0)
    assert event == Event(kind, "message", "sft", "arm", 4, payload, 5.0)
    assert json.loads(json.dumps(event.payload)) == payload
    assert details_of(Event(kind, payload=payload | {"a field of a later version": [1]})) == (
        InputReport(payload | {"a field of a later version": [1]}) if kind == "input" else details
    )


def test_each_kind_has_its_class_and_a_test() -> None:
    assert {kind for kind, _, _ in WRITTEN} == set(DETAILS)
    assert all(kind == cls.KIND for kind, cls in DETAILS.items())


def test_an_unknown_kind_keeps_its_payload() -> None:
    later = Event("of a later version", payload={"x": {"y": 1}})
    assert details_of(later) == OtherDetails({"x": {"y": 1}})


def test_a_later_version_of_a_class_names_itself_in_the_payload() -> None:
    class Second(StageChange):
        VERSION: ClassVar[int] = 2

    assert Second("finished").payload() == {"status": "finished", "version": 2}
    assert StageChange.read(Second("finished").payload()) == StageChange("finished")


@fuzz(300)
@given(st.sampled_from(sorted(DETAILS)), st.data())
def test_damaged_payloads_are_read_with_the_right_types(kind: str, data: st.DataObject) -> None:
    names = [each.name for each in fields(DETAILS[kind])]
    payload = data.draw(NESTED | st.dictionaries(st.sampled_from(names), NESTED, max_size=4))
    details = details_of(Event(kind, payload=payload))  # type: ignore[arg-type]
    assert type(details) is DETAILS[kind]
    again = details_of(Event(kind, payload=json.loads(json.dumps(details.payload()))))
    assert again == details
    if isinstance(details, ProgressReport):
        assert type(details.done) is int and type(details.total) is int and isinstance(details.unit, str)
