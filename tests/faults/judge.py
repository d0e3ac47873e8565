"""What became of a run: equal to the undisturbed one, failed or lossy with a word, or a finding."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.faults.experiment import WALL_CLOCK, Key, Reference, stored_rows, tables
from tests.faults.subject import Subject
from tests.faults.user import GivenUp

# Worst first. `equal` and `named` are as promised; all others are findings.
OUTCOMES = ("HANG", "ORPHAN", "LEAK", "DOUBLED", "LOST", "CHANGED", "UNNAMED", "named", "equal")
PROMISED = ("equal", "named")
_LOSS = re.compile(r"damage|lost|missing|shorter|cannot be read|left out|no longer|older copy", re.IGNORECASE)
_NO_LOSS = re.compile(r"\b(none|nothing) (is|was|were) lost", re.IGNORECASE)
_REMEDY = re.compile(
    r"`|;|\b(try|make|delete|remove|start|choose|wait|restore|mount|free|close|stop|kill|resume|give|set|use|see|ask)\b"
)
_CRASH = re.compile(r"Traceback|a fault of this program|internal error", re.IGNORECASE)


def judge(subject: Subject, reference: Reference, given_up: GivenUp | None) -> list[str]:
    """Return the findings, each beginning with its outcome; [] if the run is equal to the undisturbed one."""
    found = [*subject.notes, *_left_behind(subject)]
    rows, said = stored_rows(subject)
    if said.status:
        found.append(f"UNNAMED: the rows cannot be read at the end: {said}")
    else:
        found += compare_rows(subject, reference, rows, given_up)
        if given_up is None and not any(each.startswith(("LOST", "CHANGED", "named")) for each in found):
            found += _compare_tables(subject, reference)
    if given_up is not None:
        found.append(_given_up(given_up))
    return [*found, *_words(subject)]


def outcome(findings: list[str]) -> str:
    """Return the worst outcome."""
    seen = {each.partition(":")[0] for each in findings}
    return next((each for each in OUTCOMES if each in seen), "equal")


def _left_behind(subject: Subject) -> list[str]:
    """Processes, shared memory and drafts of the store that outlive the run."""
    found = [f"ORPHAN: {each.role} {each.pid}: {each.command[:120]}" for each in subject.quiet()]
    own_memory = subject.with_mounts
    names = (path.name for path in Path("/dev/shm").iterdir())
    found += [
        f"LEAK: /dev/shm/{name}"
        for name in names
        if own_memory or name.startswith(f"mathrl-{subject.run_id}-")
    ]
    return found + [f"LEAK: {path.name}" for path in subject.home.glob("store.new-*")]


def compare_rows(
    subject: Subject, reference: Reference, rows: list[tuple[Key, str]], given_up: GivenUp | None
) -> list[str]:
    counts, values = Counter(key for key, _ in rows), dict(rows)
    expected = {key: value for key, value in reference.rows.items() if not WALL_CLOCK.search(str(key[1]))}
    doubled = [key for key, count in counts.items() if count > 1]
    missing = [key for key in expected if key not in counts]
    if given_up is not None:  # it has not come to the end: what it had journaled must be there
        seen = {_key(row) for row in subject.journal.rows}
        missing = [key for key in missing if key in seen]
    changed = [key for key, value in values.items() if key in expected and expected[key] != value]
    strange = [key for key in counts if key not in expected and not WALL_CLOCK.search(str(key[1]))]
    found = [f"DOUBLED: {len(doubled)} rows, such as {doubled[0]}"] if doubled else []
    if changed:
        one = changed[0]
        found.append(
            f"CHANGED: {len(changed)} rows, such as {one}: {values[one][:80]}, not {expected[one][:80]}"
        )
    if strange:
        found.append(f"CHANGED: {len(strange)} rows that the undisturbed run has not, such as {strange[0]}")
    if missing:
        named = _named_loss(subject)
        word = f"named: {len(missing)} rows are missing, such as {missing[0]}: {named}"
        found.append(word if named else f"LOST: {len(missing)} rows, such as {missing[0]}, and no word of it")
    return found


def _key(row: tuple[object, ...]) -> Key:
    """The identity of a journaled row as the store's query gives it."""
    return (*row, "", "", 0) if row[0] == "scalar" else row


def _named_loss(subject: Subject) -> str:
    """Return the line in which the product named a loss; '' if it did not."""
    reports = [subject.cli("runs"), subject.cli("status", subject.run_id), subject.cli("doctor")]
    lines = [line for said in subject.said for line in said.stderr.splitlines()]
    lines += [line for said in reports for line in said.stdout.splitlines()]
    lines += [event["message"] for event in subject.journal.events if event["level"] != "info"]
    lines = [line for line in lines if not _NO_LOSS.search(line)]
    about = re.compile(rf"{re.escape(subject.run_id)}|journal|rows|record", re.IGNORECASE)
    return next((line.strip() for line in lines if _LOSS.search(line) and about.search(line)), "")


def _compare_tables(subject: Subject, reference: Reference) -> list[str]:
    shown = tables(subject)
    if shown == reference.tables:
        return []
    differing = [name for name in reference.tables if shown.get(name) != reference.tables[name]]
    return [f"CHANGED: tables differ from the undisturbed run's: {', '.join(differing)}"]


def _given_up(end: GivenUp) -> str:
    if end.remedy_failed:
        return f"UNNAMED: the remedy did not help: {end.said}"
    if not _REMEDY.search(end.said.last_line):
        return f"UNNAMED: no reason or no remedy: {end.said}"
    return f"named: {end.said}"


def _words(subject: Subject) -> list[str]:
    """What users were shown and should not have been."""
    found = []
    for said in subject.said:
        if _CRASH.search(said.stderr) or _CRASH.search(said.stdout):
            found.append(f"UNNAMED: a crash was shown: {said}")
        elif said.status not in (0, 1, 2, 130):
            found.append(f"UNNAMED: exit status: {said}")
        elif said.status in (1, 2) and not _REMEDY.search(said.last_line):
            found.append(f"UNNAMED: no reason or no remedy: {said}")
    log = subject.run_path / "logs" / "supervisor.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    if "Traceback" in text:
        found.append(f"UNNAMED: the supervisor crashed: {text.strip().splitlines()[-1]}")
    return found
