"""Logs stay within their size, whoever writes to them, and what reads them goes on over a cut."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.ipc.child import open_log
from engine.ipc.faults import last_error
from engine.ipc.log_parts import growing_logs, mark, part_before, rotate, written_after
from engine.supervisor import log_rotation
from engine.supervisor.log_rotation import LogRotation
from mathrl_tui.core.logs import LogFile
from tests.support.supervised import until

MOST = 1000
WRITER = """
import os, subprocess, sys
# A grandchild inherits the descriptors, as vLLM's processes do.
if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", sys.argv[1]])
for number in range(300):
    sys.stdin.readline()
    os.write(1 + number % 2, b"%06d\\n" % number)
    print("written", file=open(3, "w", closefd=False), flush=True)
"""


def append(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_the_first_part_stays_and_the_newest_follows(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    assert not rotate(log, MOST)
    append(log, b"a" * MOST)
    assert not rotate(log, MOST)
    append(log, b"b")
    assert rotate(log, MOST) and part_before(log) == tmp_path / "trainer.first.log"
    for letter in b"cde":
        append(log, bytes([letter]) * (MOST + 100))
        assert rotate(log, MOST)
    append(log, b"f")
    assert sizes(tmp_path) == {"trainer.first.log": 1001, "trainer.previous.log": MOST, "trainer.log": 1}
    assert (tmp_path / "trainer.first.log").read_bytes() == b"a" * MOST + b"b"
    assert (tmp_path / "trainer.previous.log").read_bytes() == b"e" * MOST
    assert growing_logs(tmp_path) == [log]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path != log} == {0o600}


def test_a_log_that_grew_by_far_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    append(log, b"a" * MOST + b"b" * 50 * MOST + b"c" * MOST)
    assert rotate(log, MOST)
    assert sizes(tmp_path) == {"worker.first.log": MOST, "worker.previous.log": MOST, "worker.log": 0}
    assert set((tmp_path / "worker.first.log").read_bytes()) == {ord("a")}
    assert set((tmp_path / "worker.previous.log").read_bytes()) == {ord("c")}


def test_a_process_and_what_it_started_write_on_through_the_descriptors_that_they_have(
    tmp_path: Path,
) -> None:
    log = tmp_path / "worker.log"
    reader, writer = os.pipe()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.replace("open(3", f"open({writer}")],
        stdin=subprocess.PIPE,
        stdout=descriptor,
        stderr=descriptor,
        pass_fds=(writer,),
    )
    os.close(descriptor)
    os.close(writer)
    assert process.stdin is not None
    with os.fdopen(reader) as told:
        for number in range(300):
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert told.readline() == "written\n"
            rotate(log, MOST)
            if number == 200:
                found = b"".join(
                    (tmp_path / name).read_bytes() for name in ("worker.first.log", "worker.log")
                )
                assert found == b"".join(b"%06d\n" % n for n in range(201))
    assert process.wait() == 0
    assert b"\0" not in log.read_bytes()
    assert log.read_bytes().endswith(b"000299\n")


def test_the_error_of_a_process_is_found_over_a_cut(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    append(log, b"ValueError: of the process before\n" * 20)
    begin = mark(log)
    assert written_after(log, begin) == ""
    append(log, b"Traceback (most recent call last):\n  File x\nKeyError: mine\n" + b"later\n" * 100)
    assert last_error(written_after(log, begin)) == "KeyError: mine"
    assert rotate(log, MOST)
    assert last_error(written_after(log, begin)) == "KeyError: mine"
    append(log, b"Traceback (most recent call last):\nOSError: newest\n")
    assert last_error(written_after(log, begin)) == "OSError: newest"
    fresh = mark(log)
    append(log, b"after the cut\n")
    assert written_after(log, fresh) == "after the cut\n"


def test_the_console_shows_the_lines_before_a_cut_too(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    view = LogFile(log)
    append(log, b"".join(b"line %03d\n" % number for number in range(120)))
    assert view.poll()
    append(log, b"line 120\n")  # not seen before the cut
    assert rotate(log, MOST)
    append(log, b"line 121\n")
    assert view.poll()
    assert view.lines == [f"line {number:03d}" for number in range(122)]


def test_a_full_disk_leaves_the_log_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    append(log, b"a" * 3000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            rotate(log, MOST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sizes(tmp_path) == {"trainer.log": 3000}


def test_a_supervisor_bounds_the_logs_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rotation, "SECONDS", 0.01)
    for name in ("supervisor", "trainer", "worker"):
        append(tmp_path / f"{name}.log", b"x" * (9 << 20))
    rotation = LogRotation(tmp_path)
    until(lambda: all(log.stat().st_size == 0 for log in growing_logs(tmp_path)), "every log was cut")
    rotation.end()
    assert len(sizes(tmp_path)) == 6


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"worker\.log: the log cannot be written: No such file") as caught:
        open_log(tmp_path / "gone" / "worker.log")
    assert "resume the run" in str(caught.value)
