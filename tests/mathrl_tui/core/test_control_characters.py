"""What models and libraries wrote is shown, never obeyed: nothing that reaches the terminal controls it."""

from __future__ import annotations

from pathlib import Path

from mathrl_tui.core import completions, logs, text
from mathrl_tui.core.completions import CompletionChoice, CompletionPair
from store.records import Event
from tests.support.fabricated import FabricatedRun

RED, CLIPBOARD = "\x1b[31m", "\x1b]52;c;cm0=\x07"


def harmless(words: str) -> bool:
    return all(sign.isprintable() or sign == "\n" for sign in words)


def test_completions(tmp_path: Path) -> None:
    example = FabricatedRun(tmp_path, "r").example("sft", 0, True)
    odd = dict.fromkeys(("prompt", "output", "gold", "answer"), f"2 {RED}+ 2\x9b2J {CLIPBOARD}")
    mine = type(example)(**{name: getattr(example, name) for name in example.__slots__} | odd)
    shown = completions.plain(CompletionPair(mine, mine), CompletionChoice("sft", "t", "grpo"))
    assert harmless(shown)
    assert (
        shown.count(r"2 \x1b[31m+ 2\x9b2J \x1b]52;c;cm0=\x07") == 6
    )  # question, gold, twice answer and output
    assert text.clip(mine.answer, 12) == r"2 \x1b[31m+…"


def test_logs(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"\x1b[1;36m(EngineCore pid=7)\x1b[0;0m INFO\tloading \x1b]0;title\x07\x1b[2K\rdone\n")
    log = logs.LogFile(path)
    assert log.poll()
    assert log.lines == ["done"]
    path.write_bytes(b"\x1b[1;36m(EngineCore pid=7)\x1b[0;0m INFO \x1b]0;title\x07 loading\n")
    log = logs.LogFile(path)
    assert log.poll()
    assert log.lines == [r"(EngineCore pid=7) INFO \x1b]0;title\x07 loading"]
    said = logs.event_row(Event("log", f"a row says {CLIPBOARD}", "eval"))
    assert harmless("".join(words for words, _ in said))
