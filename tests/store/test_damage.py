"""Damaged lines of a journal: counted, named, kept, and reported wherever the run is."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mathrl_tui.core.home_data import HomeData
from store import journal
from store.damage import summary
from store.home import RunFolder
from store.inspection import inspect, journal_damage
from store.journal import JournalWriter, Position, hold, read, scan, segment_path
from store.query import Store
from store.records import Example, Scalar
from tests.support.command_line import mathrl
from tests.support.fabricated import finished_run
from tests.support.journaled import RUN, journaled, scalars, steps


def folder(home: Path) -> Path:
    return RunFolder(home, RUN).journal


def line(body: bytes) -> bytes:
    """A line whose checksum fits."""
    return b"%08x %b\n" % (zlib.crc32(body), body)


def three_batches(home: Path) -> tuple[bytes, bytes, bytes]:
    journaled(
        home,
        scalars(3),
        scalars(3, 3),
        [Example("sft", 5, "gsm8k", "7", 0, True, 1.0, "correct", "p", "o", 9)],
    )
    first, second, third = segment_path(folder(home), 1).read_bytes().splitlines(keepends=True)
    return first, second, third


def flipped(content: bytes) -> bytes:
    return content[:20] + bytes([content[20] ^ 2]) + content[21:]


LINES = {
    "one flipped bit": flipped,
    "a flipped checksum": lambda line: b"0" + line[1:] if line[:1] != b"0" else b"1" + line[1:],
    "zeros": lambda line: bytes(len(line) - 1) + b"\n",
    "a page of zeros in it": lambda line: line[:9] + bytes(40) + line[49:],
    "cut in the middle": lambda line: line[:30] + line[60:],
    "cut at both ends": lambda line: line[10:-10] + b"\n",
    "nothing but a newline": lambda line: b"\n",
    "text": lambda line: b"what is this?\n",
    "no utf-8": lambda content: line(b'[3,[["scalar",["\xff"],[1],[0.5],[1.0]]]]'),
    "foreign JSON": lambda content: line(b'{"a": 1}'),
    "a foreign list": lambda content: line(b"[3,[7]]"),
    "a number": lambda content: line(b"3"),
    "an unknown kind": lambda content: line(b'[3,[["tensor",[1]]]]'),
    "a kind that is no text": lambda content: line(b"[3,[[[1],[2]]]]"),
    "columns of two lengths": lambda content: line(b'[3,[["scalar",["m","m"],[1],[0.5],[1.0]]]]'),
    "a column too few": lambda content: line(b'[3,[["scalar",["m"],[1],[0.5]]]]'),
    "a column too many": lambda content: line(b'[3,[["scalar",["m"],[1],[0.5],[1.0],[2]]]]'),
    "no base64": lambda content: line(b'[3,[["scalar",["m"],[1],"#!x","AAAA"]]]'),
    "half a double": lambda content: line(b'[3,[["scalar",["m"],[1],"AAAA",[1.0]]]]'),
    "a version that is no number": lambda content: line(b'["three",[]]'),
    "endless nesting": lambda content: line(b"[" * 100_000),
    "a step that is no number": lambda content: line(b'[3,[["scalar",["m"],["x"],[0.5],[1.0]]]]'),
    "a step of 70 bits": lambda content: line(b'[3,[["scalar",["m"],[1180591620717411303424],[0.5],[1.0]]]]'),
    "a name that is a mapping": lambda content: line(b'[3,[["scalar",[{"a":1}],[1],[0.5],[1.0]]]]'),
    "a payload that is a list": lambda content: line(
        b'[3,[["event",["log"],[""],[""],[""],[1],[[]],[1.0]]]]'
    ),
}


@pytest.mark.parametrize("spoil", LINES.values(), ids=LINES.keys())
def test_a_damaged_line_is_named_once_and_costs_itself_alone(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    first, second, third = three_batches(tmp_path)
    path = segment_path(folder(tmp_path), 1)
    spoilt = spoil(second)
    path.write_bytes(first + spoilt + third)
    for attempt in range(3):
        store = Store(tmp_path)
        assert store.ingest() == (0 if attempt else 4)
        assert store.problem == ""
        assert steps(store) == [0, 1, 2]
        (damage,) = store.damages()[RUN]
        assert damage.place == (1, len(first), len(spoilt))
        assert damage.before == "sft/train/loss at step 2"
        assert damage.after == "an answer of sft to gsm8k 7 at step 5"
    assert path.read_bytes() == first + spoilt + third
    journaled(tmp_path, scalars(2, 9))
    assert Store(tmp_path).ingest() == 2
    (tmp_path / "store.duckdb").unlink()
    again = Store(tmp_path)
    assert again.ingest() == 6
    assert [each.place for each in again.damages()[RUN]] == [(1, len(first), len(spoilt))]


def test_a_complete_last_line_that_is_damaged_is_not_cut(tmp_path: Path) -> None:
    first, second, third = three_batches(tmp_path)
    path = segment_path(folder(tmp_path), 1)
    path.write_bytes(first + second + flipped(third))
    with JournalWriter(folder(tmp_path)) as writer:
        assert writer.position == Position(1, path.stat().st_size)
        assert writer.cut == 0
        writer.append(scalars(1, 6))
    assert path.read_bytes().startswith(first + second + flipped(third))
    store = Store(tmp_path)
    assert store.ingest() == 7
    assert len(store.damages()[RUN]) == 1


def test_what_stands_behind_the_last_newline_is_damage_only_in_a_finished_segment(tmp_path: Path) -> None:
    first, second, _ = three_batches(tmp_path)
    segment_path(folder(tmp_path), 1).write_bytes(first + second[:25])
    assert scan(folder(tmp_path)).damages == []
    segment_path(folder(tmp_path), 2).write_bytes(second)
    (damage,) = scan(folder(tmp_path)).damages
    assert damage.place == (1, len(first), 25)
    assert read(folder(tmp_path))[0] == scalars(6)


def test_neighbouring_damaged_lines_are_one_place_and_gaps_in_the_numbers_are_none(tmp_path: Path) -> None:
    first, second, third = three_batches(tmp_path)
    segment_path(folder(tmp_path), 1).write_bytes(first + flipped(second) + b"x\n\n" + third)
    segment_path(folder(tmp_path), 900_000_000).write_bytes(second)
    (damage,) = scan(folder(tmp_path)).damages
    assert damage.place == (1, len(first), len(second) + 3)
    assert [each.step for each in read(folder(tmp_path))[0] if isinstance(each, Scalar)] == list(range(6))
    assert Store(tmp_path).ingest() == 7


def test_a_journal_in_ruins_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 600)
    journaled(tmp_path, *(scalars(5, start) for start in range(0, 50, 5)))
    last = max(journal.segments(folder(tmp_path)))
    segment_path(folder(tmp_path), 2).write_bytes(bytes(600))
    store = Store(tmp_path)
    store.ingest()
    assert [each.segment for each in store.damages()[RUN]] == [2]
    assert set(steps(store)) < set(range(50))
    assert max(steps(store)) == 49
    assert last > 3


def test_a_later_flip_is_found_by_a_full_look_and_filled_from_the_store(tmp_path: Path) -> None:
    """The store has the rows: the journal gets them again, and the place counts as settled, also after a rebuild."""
    first, second, third = three_batches(tmp_path)
    Store(tmp_path).ingest()
    path = segment_path(folder(tmp_path), 1)
    path.write_bytes(first + flipped(second) + third)
    (finding,) = inspect(tmp_path)
    assert f"{len(second)} bytes at offset {len(first)} of 1.j" in finding.detail
    assert "the store has its rows" in finding.detail
    assert [each.place for each in journal_damage(folder(tmp_path)).damages] == [(1, len(first), len(second))]


@pytest.fixture
def damaged_home(tmp_path: Path) -> Path:
    """A home with the runs `whole` and `hurt`; a batch of the latter's is damaged."""
    home = tmp_path / "home"
    for name in ("whole", "hurt"):
        finished_run(home, name)._journal.close()
    path = segment_path(RunFolder(home, "hurt").journal, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = flipped(lines[1])
    path.write_bytes(b"".join(lines))
    return home


def test_every_report_on_the_run_says_so_in_one_line(damaged_home: Path) -> None:
    mathrl(damaged_home, "sql", "SELECT 1")
    commands = {
        "runs": ("runs",),
        "status": ("status", "hurt"),
        "compare": ("compare", "hurt/sft", "hurt/grpo"),
        "sql": ("sql", "SELECT count(*) FROM scalar"),
        "export": ("export", "hurt", "--what", "config", "--out", str(damaged_home / "out")),
    }
    for command in commands.values():
        done = mathrl(damaged_home, *command)
        assert done.returncode == 0, done.stderr
        (said,) = done.stderr.splitlines()
        assert said.startswith("run hurt: its journal is damaged: ")
    listed = json.loads(mathrl(damaged_home, "runs", "--json").stdout)["runs"]
    assert {run["run"]: len(run["damage"]) for run in listed} == {"whole": 0, "hurt": 1}
    assert any(
        " !" in row and row.startswith("hurt") for row in mathrl(damaged_home, "runs").stdout.splitlines()
    )
    assert mathrl(damaged_home, "status", "whole").stderr == ""


def test_runs_names_damage_that_no_store_has_met_yet(damaged_home: Path) -> None:
    (damaged_home / "store.duckdb").unlink(missing_ok=True)
    listed = json.loads(mathrl(damaged_home, "runs", "--json").stdout)["runs"]
    assert [bool(run["damage"]) for run in sorted(listed, key=lambda run: run["run"])] == [True, False]


def test_the_console_marks_the_run(damaged_home: Path) -> None:
    lines = {line.summary.run: line.alarms for line in HomeData(damaged_home).runs()}
    assert lines["whole"] == ()
    assert "journal damaged" in lines["hurt"][0].words


def test_acknowledged_damage_is_listed_by_doctor_all_alone(damaged_home: Path) -> None:
    mathrl(damaged_home, "runs")
    path = segment_path(RunFolder(damaged_home, "hurt").journal, 1)
    before = path.read_bytes()
    done = mathrl(damaged_home, "doctor", "--acknowledge")
    assert done.returncode == 0, done.stderr
    assert "run hurt: 1 damaged places acknowledged" in done.stdout
    assert path.read_bytes().startswith(before)
    for command in (("runs",), ("status", "hurt"), ("doctor",)):
        shown = mathrl(damaged_home, *command)
        assert "journal is damaged" not in shown.stderr + shown.stdout, command
    assert all(not line.alarms for line in HomeData(damaged_home).runs())
    (listed,) = [row for row in mathrl(damaged_home, "doctor", "--all").stdout.splitlines() if "hurt" in row]
    assert listed.endswith("; acknowledged")
    (damaged_home / "store.duckdb").unlink()
    assert mathrl(damaged_home, "runs").stderr == ""
    assert "no damage to acknowledge" in mathrl(damaged_home, "doctor", "--acknowledge").stdout
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(flipped(lines[0]) + b"".join(lines[1:]))
    assert "run hurt: its journal is damaged" in mathrl(damaged_home, "doctor").stdout


def test_damage_of_a_live_run_is_not_acknowledged(damaged_home: Path) -> None:
    lock = hold(RunFolder(damaged_home, "hurt").journal)
    done = mathrl(damaged_home, "doctor", "--acknowledge")
    os.close(lock)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "runs that are live: hurt; acknowledge their damage when they have ended"
    )


def test_a_summary_counts_places_and_bytes(tmp_path: Path) -> None:
    first, second, third = three_batches(tmp_path)
    content = flipped(first) + second + flipped(third)
    segment_path(folder(tmp_path), 1).write_bytes(content)
    store = Store(tmp_path)
    store.ingest()
    said = summary(RUN, store.damages()[RUN])
    assert (
        f"2 places ({len(first) + len(third)} bytes), the first {len(first)} bytes at offset 0 of 1.j" in said
    )
    assert "between the beginning and sft/train/loss at step 3" in said
