"""A supervisor takes over a run whose journal and store differ, or are damaged: its run ends as an undisturbed one."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.artifacts.finished import mark_of, mark_step, mark_task, task_mark
from engine.ipc.outbox import spool_folder, write_spool
from engine.plan import Step
from engine.supervisor.leftovers import recover_spools
from engine.supervisor.record_queue import RecordQueue
from engine.supervisor.takeover import take_over
from store.home import RunFolder
from store.journal import Position, read, segment_path, segments
from store.query import Store
from store.records import Event, Example, Record, RunRow, Scalar
from tests.support.fake_engine import METRIC
from tests.support.journaled import RUN, journaled, scalars
from tests.support.supervised import events, make_run, records, started, steps_done, supervise

PLAN = [Step("sft", "sft"), Step("eval")]


def in_the_store(folder: RunFolder) -> list[tuple[int, int]]:
    _, rows = Store(folder.home).sql(
        f"SELECT step, count(*) FROM scalar WHERE metric = '{METRIC}' GROUP BY step ORDER BY step"
    )
    return rows


def copied_live(home: Path) -> RunFolder:
    """The copy of a home that was made while its run was live: the journal first, the store after it."""
    folder = make_run(home / "original")
    supervisor = started(folder)
    (home / "copy" / "journal").mkdir(parents=True)
    shutil.copytree(folder.journal, home / "copy" / "journal" / folder.run_id)
    shutil.copytree(
        folder.path, home / "copy" / "runs" / folder.run_id, ignore=shutil.ignore_patterns("*.sock", "*.pid")
    )
    assert supervisor.wait(60) == 0
    shutil.copy(folder.home / "store.duckdb", home / "copy")
    return RunFolder(home / "copy", folder.run_id)


def test_a_home_that_was_copied_live_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    copy = copied_live(tmp_path)
    assert steps_done(copy) < 60
    assert supervise(copy).wait(60) == 0
    assert_whole_in_any_order(copy, 60)
    assert in_the_store(copy) == [(step, 1) for step in range(60)]
    (copy.home / "store.duckdb").unlink()
    assert in_the_store(copy) == [(step, 1) for step in range(60)]
    said = [event.message for event in events(copy, "log") if "differed" in event.message]
    assert len(said) == 1


def assert_whole_in_any_order(folder: RunFolder, steps: int) -> None:
    found = records(folder)
    assert sorted(r.step for r in found if isinstance(r, Scalar) and r.metric == METRIC) == list(range(steps))
    assert sorted(r.step for r in found if isinstance(r, Example)) == list(range(steps))


def test_a_damaged_line_whose_rows_the_store_has_is_not_recorded_twice(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    supervisor = started(folder)
    supervisor.kill()
    supervisor.wait()
    Store(tmp_path).catch_up()
    path = segment_path(folder.journal, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(place for place, line in enumerate(lines) if METRIC.encode() in line)
    lines[place] = lines[place][:20] + b"\x00" + lines[place][21:]
    path.write_bytes(b"".join(lines))
    (folder.path / "state.json").unlink(missing_ok=True)  # the trainer begins again
    assert supervise(folder).wait(60) == 0
    assert_whole_in_any_order(folder, 60)
    assert in_the_store(folder) == [(step, 1) for step in range(60)]
    assert Store(tmp_path).damages() == {}  # settled: the journal has the rows again
    (tmp_path / "store.duckdb").unlink()
    assert in_the_store(folder) == [(step, 1) for step in range(60)]
    assert Store(tmp_path).damages() == {}


def answers(task: str) -> list[Record]:
    return [Example("sft", 5, task, str(n), 0, True, 1.0, "correct", "p", "o", 9, ts=1.0) for n in range(4)]


def hurt(home: Path) -> RunFolder:
    """A run of which a batch of evaluation rows was damaged before any store took it in."""
    folder = RunFolder(home, RUN)
    (folder.path / "finished" / "tasks").mkdir(parents=True)
    for mark in ("eval", "sft", "tasks/sft-a", "tasks/sft-b"):
        (folder.path / "finished" / mark).touch()
    journaled(home, scalars(3), answers("a"), answers("b"))
    path = segment_path(folder.journal, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"correct", b"korrect", 1)
    path.write_bytes(b"".join(lines))
    return folder


def marks(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in (folder.path / "finished").rglob("*") if path.is_file())


def test_evaluation_rows_that_are_lost_are_asked_again_and_the_log_says_so_once(tmp_path: Path) -> None:
    folder = hurt(tmp_path)
    taken = take_over(folder, PLAN)
    assert marks(folder) == ["sft"]
    event, again = taken.events
    assert again.message == "evaluated again, because the journal lacks records of them: sft-a, sft-b"
    assert "the journal is damaged" in event.message
    assert "between sft/train/loss at step 2 and an answer of sft to b 0 at step 5" in event.message
    new = [record for record in [*answers("a"), *answers("b")] if taken.summary.seen.add(record)]
    assert new == answers("a")  # what is known is kept once
    taken.journal.append([event, *new])
    taken.journal.close()
    (folder.path / "finished" / "eval").touch()
    later = take_over(folder, PLAN)
    later.journal.close()
    assert later.events == []
    assert marks(folder) == ["eval", "sft"]


def test_a_store_that_cannot_be_read_leaves_the_run_a_segment_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    journaled(tmp_path, scalars(3))
    (tmp_path / "store.duckdb").mkdir()
    (tmp_path / "store.lock").mkdir()
    taken = take_over(folder, PLAN)
    assert taken.journal.position == Position(2, 0)
    assert "could not be compared" in taken.events[0].message
    taken.journal.append(scalars(3, 3))
    taken.journal.close()
    (tmp_path / "store.lock").rmdir()
    store = Store(tmp_path)
    assert store.ingest() == 6


def test_an_unfinished_batch_is_cut_and_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    journaled(tmp_path, scalars(3))
    with segment_path(folder.journal, 1).open("ab") as file:
        file.write(bytes(100))
    taken = take_over(folder, PLAN)
    taken.journal.close()
    assert "100 bytes of an unfinished batch" in taken.events[0].message
    assert segments(folder.journal) == [1]


def test_a_journal_that_is_gone_comes_back_from_the_store(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    journaled(tmp_path, scalars(3), answers("a"), [Event("state", payload={"state": "done"}, ts=5.0)])
    Store(tmp_path).catch_up()
    shutil.rmtree(folder.journal)
    taken = take_over(folder, PLAN)
    taken.journal.close()
    assert taken.summary.progress.state == "done"
    assert not any(map(taken.summary.seen.add, [*scalars(3), *answers("a")]))
    (tmp_path / "store.duckdb").unlink()
    store = Store(tmp_path)
    store.catch_up()
    assert len(store.examples(RUN, "sft")) == 4


def checkpoint(folder: RunFolder, step: int) -> None:
    path = folder.checkpoints("sft") / f"step_{step:06d}"
    path.mkdir(parents=True)
    (path / "model.safetensors").touch()


def evaluated(folder: RunFolder, task: str) -> list[Record]:
    """The records of a task, with the mark that stands for them."""
    found: list[Record] = [*answers(task), Scalar(f"sft/eval/{task}", 5, 1.0)]
    mark_task(task_mark(folder, "sft", task), found)
    return found


def test_only_evaluations_that_lack_records_are_repeated(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    whole, short, unscored = (evaluated(folder, task) for task in ("a/b", "c", "d"))
    mark_step(folder, "eval", None)
    journaled(tmp_path, scalars(6), whole, short[1:], unscored[:-1])
    path = segment_path(folder.journal, 1)
    path.write_bytes(path.read_bytes().replace(b"train", b"trein", 1))
    taken = take_over(folder, PLAN)
    taken.journal.close()
    assert marks(folder) == ["sft-a-b"]
    damage, again = taken.events
    assert "the journal is damaged" in damage.message
    assert again.message.endswith("lacks records of them: sft-c, sft-d")


def test_damage_elsewhere_repeats_no_evaluation(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    rows = evaluated(folder, "a")
    mark_step(folder, "eval", None)
    ended = Event("stage", "1 s", "eval", payload={"status": "finished"})
    journaled(tmp_path, scalars(6), [*rows, ended])
    path = segment_path(folder.journal, 1)
    path.write_bytes(path.read_bytes().replace(b"train", b"trein", 1))
    taken = take_over(folder, PLAN)
    taken.journal.close()
    assert marks(folder) == ["eval", "sft-a"]
    assert ["the journal is damaged" in event.message for event in taken.events] == [True]


def test_what_the_folder_proves_and_the_journal_lacks_is_recorded_again_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    mark_step(folder, "sft", 8)
    checkpoint(folder, 4)
    checkpoint(folder, 8)
    started = Event("stage", "", "sft", "sft", payload={"status": "started"}, ts=90.0)
    journaled(tmp_path, [started, *scalars(5), Event("checkpoint", "step_000004", "sft", "sft", 4)])
    taken = take_over(folder, PLAN)
    end, saved, lost = taken.events
    assert (end.kind, end.stage, end.arm, end.payload) == ("stage", "sft", "sft", {"status": "finished"})
    assert end.ts > 90.0
    assert (saved.kind, saved.arm, saved.step) == ("checkpoint", "sft", 8)
    assert "records of arm sft up to step 4, but its checkpoint is of step 8" in lost.message
    taken.journal.append(taken.events)
    taken.journal.close()
    again = take_over(folder, PLAN)
    again.journal.close()
    assert again.events == []


def test_records_in_a_spool_file_are_not_missing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    mark_step(folder, "sft", 8)
    checkpoint(folder, 8)
    rows = evaluated(folder, "a")
    ended = Event("stage", "1 s", "sft", "sft", payload={"status": "finished"})
    saved = Event("checkpoint", "step_000008", "sft", "sft", 8)
    journaled(tmp_path, [*scalars(5), *rows[:2]])
    write_spool(spool_folder(folder) / "trainer-1.jsonl", [*scalars(4, 5), *rows[1:], ended, saved])
    taken = take_over(folder, PLAN)
    taken.journal.close()
    assert taken.events == []
    assert marks(folder) == ["sft", "sft-a"]
    assert taken.summary.seen.add(rows[2])  # it still has to be journaled
    assert mark_of(folder, "sft").exists()


def test_a_damaged_spool_file_loses_its_damaged_lines_alone_and_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    journaled(tmp_path, scalars(1))
    path = spool_folder(folder) / "trainer-1.jsonl"
    write_spool(path, scalars(3, 1))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"train", b"tr\xffin", 1) + lines[2])
    damaged = path.read_bytes()
    taken = take_over(folder, PLAN)
    recover_spools(folder, RecordQueue(taken.journal, taken.summary.seen))
    taken.journal.close()
    *found, said = (each for each in read(folder.journal)[0] if not isinstance(each, RunRow))
    assert [each.step for each in found if isinstance(each, Scalar)] == [0, 1, 3]
    assert isinstance(said, Event)
    assert "trainer-1.jsonl: 1 damaged lines; their records are lost" in said.message
    assert path.with_name("damaged-trainer-1.jsonl").read_bytes() == damaged
    assert not path.exists()
