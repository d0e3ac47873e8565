"""Reduced frames leave a terminal as the whole frames do, and are short."""

from __future__ import annotations

import numpy as np
import pytest
from rich.color import ColorSystem
from rich.style import Style

from mathrl_tui.core.frame_changes import FrameChanges
from tests.support.tiny_terminal import TinyTerminal

WIDTH, HEIGHT = 40, 8
STYLES = (
    "",
    "bold",
    "dim #f0a830",
    "bold #f0a830",
    "#f0a830 on #0f141b",
    "dim #f0a830 on #0f141b",
    "underline red",
    "reverse",
    "italic bold green on blue",
    "color(208) on color(17)",
)


def _frame(rng: np.random.Generator) -> str:
    """Return a frame as Textual writes it: pieces of some rows, each with its whole style."""
    written = []
    for y in sorted(rng.choice(HEIGHT, int(rng.integers(1, HEIGHT)), replace=False)):
        x = int(rng.integers(0, WIDTH // 2))
        written.append(f"\x1b[{y + 1};{x + 1}H")
        while x < WIDTH - 6 and rng.random() < 0.9:
            words = "".join(rng.choice(list("ab ⣿⠁─"), int(rng.integers(1, 6))))
            style = Style.parse(str(rng.choice(STYLES)))
            written.append(style.render(words, color_system=ColorSystem.TRUECOLOR))
            x += len(words)
        written.append("\n")
    return "".join(written[:-1]) + "\x1b[3;4H"


@pytest.mark.parametrize("seed", range(30))
def test_a_terminal_looks_the_same_after_reduced_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole, reduced, changes = TinyTerminal(), TinyTerminal(), FrameChanges()
    for _ in range(40):
        frame = _frame(rng)
        if rng.random() < 0.1:
            changes.forget()
        whole.feed(frame)
        reduced.feed(changes.reduced(frame))
        assert reduced.cells == whole.cells
        assert reduced.cursor == whole.cursor == (2, 3)


def test_a_frame_that_changes_nothing_costs_a_move() -> None:
    changes, frame = FrameChanges(), _frame(np.random.default_rng(1))
    assert len(changes.reduced(frame)) > 20
    assert changes.reduced(frame) == "\x1b[3;4H"
    changes.forget()
    assert len(changes.reduced(frame)) > 20


def test_one_changed_cell_is_sent_alone() -> None:
    changes = FrameChanges()
    changes.reduced("\x1b[2;1H\x1b[1mloss 0.4231 of grpo\x1b[0m\x1b[1;1H")
    sent = changes.reduced("\x1b[2;1H\x1b[1mloss 0.4239 of grpo\x1b[0m\x1b[1;1H")
    assert sent == "\x1b[2;11H\x1b[1m9\x1b[0m\x1b[1;1H"


def test_other_output_passes_and_the_next_frame_is_whole() -> None:
    changes, frame = FrameChanges(), "\x1b[1;1Hwords\x1b[1;1H"
    first = changes.reduced(frame)
    for harmless in ("\x1b[?2026h", "\x1b[?2026l"):
        assert changes.reduced(harmless) == harmless
    assert changes.reduced(frame) == "\x1b[1;1H"
    for other in ("\x1b[?1049h", "\x1b]52;c;d29yZHM=\x07", "\x1b[2J"):
        assert changes.reduced(other) == other
        assert changes.reduced(frame) == first
    unknown = "\x1b[1;1Hwords\x1b[5X\x1b[1;1H"
    assert changes.reduced(unknown) == unknown
    assert changes.reduced(frame) == first


@pytest.mark.parametrize("words", ["数学", "e\u0301", "🙂", "\u200d", "a🇩🇪b"])
def test_text_of_uncertain_width_is_always_sent(words: str) -> None:
    changes = FrameChanges()
    frame = f"\x1b[1;1Hab\x1b[1m{words}\x1b[0mcd\x1b[1;1H"
    changes.reduced(frame)
    assert words in changes.reduced(frame)
