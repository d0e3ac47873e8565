"""What the tests of traces share: teachers, rows, profiles and contexts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.context import Context
from engine.data.rows import DataRow
from profiles.load import load
from profiles.schema import Profile
from store.records import Record
from tests.support.fake_teacher import KEY
from tests.support.stage_context import gsm_row, make_context

BOX = "Please reason step by step, and put your final answer within \\boxed{}."


class Teacher:
    """A fake teacher in a process of its own."""

    def __init__(self, folder: Path, latency: float, share: float, retry_after: float) -> None:
        self.folder = folder
        folder.mkdir()
        command = [sys.executable, str(Path(__file__).with_name("fake_teacher.py")), str(folder)]
        numbers = [str(latency), str(share), str(retry_after)]
        self.process = subprocess.Popen([*command, *numbers], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def log(self) -> list[dict[str, Any]]:
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def answered(self) -> Counter[str]:
        return Counter(row["question"] for row in self.log() if row["outcome"] == "answered")

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Teacher]:
    teacher = Teacher(tmp_path / "teacher", latency=0.02, share=0.2, retry_after=0.3)
    yield teacher
    teacher.stop()


@pytest.fixture
def reliable(tmp_path: Path) -> Iterator[Teacher]:
    teacher = Teacher(tmp_path / "teacher", latency=0.01, share=0.0, retry_after=0.0)
    yield teacher
    teacher.stop()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The data key follows from the files, so there must be some; the rows are given to `collect` directly."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text(json.dumps(gsm_row(0)) + "\n")
    return folder


def make_rows(count: int) -> list[DataRow]:
    made = (gsm_row(number) for number in range(count))
    return [
        DataRow(f"train-{n:05d}", row["question"], row["answer"], str(n + 1)) for n, row in enumerate(made)
    ]


def profile_for(url: str, source: Path, *overrides: str) -> Profile:
    fixed = [f"data.source={source}", "traces.source=api", f"traces.base_url={url}", "traces.concurrency=20"]
    return load("demo", [*fixed, f"preprocess.system_prompt={BOX}", *overrides])


def context_for(tmp_path: Path, url: str, source: Path, *overrides: str) -> tuple[Context, list[Record]]:
    return make_context(tmp_path / "home", profile_for(url, source, *overrides))


def files_with_key(folder: Path) -> list[Path]:
    parts = (KEY.encode(), KEY[-10:].encode())
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if any(part in path.read_bytes() for part in parts)]
