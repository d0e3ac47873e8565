"""The error that ends a process comes to the person who looks at the run: one line, the right one."""

from __future__ import annotations

import json
import multiprocessing
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.multiprocessing.spawn import start_processes

from engine.ipc import rank_processes
from engine.ipc.faults import LONGEST, fault_line, last_error, written_since
from engine.ipc.rank_processes import FollowerProcesses, RankArguments, write_error
from profiles.load import load
from store.home import RunFolder

CHAINED = """loading
Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise ValueError("vocab_size:\\n  too small")
ValueError: vocab_size:
  too small
[W] destroyed without a word
"""


def test_an_error_is_one_line_of_bounded_length() -> None:
    error = ValueError("1 fault:\n\tsize mismatch for lm_head")
    error.add_note("in config.json")
    assert fault_line(error) == "ValueError: 1 fault: size mismatch for lm_head in config.json"
    assert fault_line(KeyError()) == "KeyError: no message"
    assert len(fault_line(ValueError("x " * LONGEST))) == LONGEST
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    assert fault_line(caught.value).startswith("JSONDecodeError: Expecting property name")


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    assert last_error(CHAINED) == "ValueError: vocab_size:"
    assert last_error("loading\nfatal: no such device\n\n") == "fatal: no such device"
    assert last_error("\n") == ""
    log = tmp_path / "trainer.log"
    assert written_since(log, 0) == ""
    log.write_bytes(b"before\nafter \xff\n")
    assert written_since(log, 7) == "after �\n"


@pytest.mark.parametrize("echoed", [False, True])
def test_the_error_of_a_further_rank_is_the_trainers(tmp_path: Path, echoed: bool) -> None:
    """Also if rank 0 meets the other's end first, as an error of its own."""
    context = multiprocessing.get_context("forkserver")
    trainer = context.Process(target=_lead, args=(tmp_path, echoed))
    trainer.start()
    trainer.join()
    assert trainer.exitcode == 1
    assert (tmp_path / "reported").read_text() == "rank 1: ValueError: head.weight: no such tensor"


def _lead(folder: Path, echoed: bool) -> None:
    def fork(function: object, args: tuple[RankArguments], nprocs: int, join: bool) -> Any:
        return start_processes(_breaks, args, nprocs, join, start_method="fork")  # type: ignore[no-untyped-call]

    rank_processes.start_processes = fork  # type: ignore[attr-defined]
    profile = load("demo", ["hardware.trainer_processes=2"])
    part = RankArguments(RunFolder(folder, "run"), profile, 0, "sft", None, False, folder / "meeting")
    with FollowerProcesses(part, lambda line: (folder / "reported").write_text(line) and None):
        if echoed:
            raise RuntimeError("connection closed by peer")
        threading.Event().wait()


def _breaks(place: int, part: RankArguments) -> None:
    """A rank that ends as `follow` lets it end."""
    with ExitStack() as on_exit:
        on_exit.push(partial(write_error, part.error_file(place + 1)))
        raise ValueError("head.weight: no such tensor")
