"""The output edge: whatever a name, field or error holds, no terminal obeys it; JSON and CSV keep it as it is."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest

from mathrl_tui import streams
from mathrl_tui.commands.printing import print_json, table
from mathrl_tui.streams import HarmlessStream
from store.export_formats import markdown_cell
from store.wording import abridged, harmless, size
from tests.support.command_line import mathrl

ODD = "a\x1b[31m\x00\x07\x9b2J\u202eb\u2066c\u200f\u2028\x7f"


def obeyed(text: str) -> list[str]:
    """The characters of `text` that a terminal may obey, but for those that end lines and align columns."""
    turning = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    marks = {"\u200e", "\u200f", "\u061c", "\u2028", "\u2029"}
    return [
        sign
        for sign in text
        if (unicodedata.category(sign) == "Cc" and sign not in "\n\t")
        or unicodedata.bidirectional(sign) in turning
        or sign in marks
    ]


def test_every_control_character_is_an_escape() -> None:
    everything = "".join(map(chr, range(0x3000)))
    harm = set(obeyed(everything))
    assert len(harm) > 70
    assert not obeyed(harmless(everything))
    plain = "".join(sign for sign in everything if sign not in harm)
    assert harmless(plain) == plain


def test_a_stream_passes_what_the_program_emits_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = HarmlessStream(io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "stdout", stream)
    streams.emit("\r\x1b[K")
    print(ODD, "–\tx")
    stream.flush()
    assert (
        raw.getvalue()
        == rb"%sa\x1b[31m\x00\x07\x9b2J\u202eb\u2066c\u200f\u2028\x7f \u2013" % b"\r\x1b[K" + b"\tx\n"
    )


def test_json_is_harmless_and_keeps_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({ODD: [ODD, "– \t"]})
    told = capsys.readouterr().out
    assert not obeyed(told)
    assert json.loads(told) == {ODD: [ODD, "– \t"]}


def test_tables_and_markdown_are_harmless() -> None:
    assert not obeyed(table(("x", "y"), [(ODD, "1"), ("short", "2")]))
    lines = table(("x", "y"), [(ODD, "1"), ("short", "2")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    cell = markdown_cell("a\x1b[31m|\r\nb\u202e")
    assert cell == r"a\\x1b[31m\|<br>b\\u202e"


def test_no_name_or_error_reaches_the_terminal_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "odd.toml").write_text('description = "a\\u001b[31m\\u202e\\u009b"\n', encoding="utf-8")
    (tmp_path / "nul.toml").write_text('name = "a\\u0000b\\u001b"\n', encoding="utf-8")
    for arguments, status in (
        (("profiles", "show", tmp_path / "odd.toml"), 0),
        (("run", "data", "--profile", tmp_path / "nul.toml"), 2),
        (("stop", "\x1b]0;x\x07\u202e"), 2),
        (("grade", "\x9bfile.jsonl"), 2),
    ):
        done = mathrl(home, *arguments)
        assert done.returncode == status, done.stderr
        assert not obeyed(done.stdout + done.stderr)
        assert "\\x" in done.stdout + done.stderr
    assert not home.exists()


def test_words() -> None:
    assert [size(count) for count in (0, 1, 812, 1024, 3 << 20, 3 << 29)] == [
        "0 bytes",
        "1 byte",
        "812 bytes",
        "1.0 KiB",
        "3.0 MiB",
        "1.5 GiB",
    ]
    assert abridged("x" * 80) == "x" * 80
    assert len(abridged("x" * 5000)) == 80
