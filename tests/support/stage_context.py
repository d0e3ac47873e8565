"""What tests of stages share: a context in a temporary home, and a small source in GSM8K's form. Loads no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.context import Context
from profiles.schema import Profile
from store.home import RunFolder
from store.records import Event, Record


class NoCommands:
    """A control that never asks for anything."""

    def boundary(self, save: object = None) -> None:
        return None

    def flush_records(self) -> None:
        return None

    def announce_training_done(self) -> None:
        return None


def make_context(
    home: Path, profile: Profile, seed: int = 0, run: str = "run"
) -> tuple[Context, list[Record]]:
    folder = RunFolder(home, run)
    folder.path.mkdir(parents=True, exist_ok=True)
    told: list[Record] = []
    return Context(folder, profile, seed, "data", None, told.append, NoCommands(), None), told


def gsm_row(number: int, **more: Any) -> dict[str, Any]:
    answer = f"{number} + 1 = <<{number}+1={number + 1}>>{number + 1}\n#### {number + 1}"
    return {
        "question": f"Ann has {number} apples{', red' * (number % 7)} and buys one. How many?",
        "answer": answer,
        **more,
    }


def write_source(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def lines_of(events: list[Record], kind: str) -> list[Event]:
    return [event for event in events if isinstance(event, Event) and event.kind == kind]
