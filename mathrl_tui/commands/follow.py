"""Following a run in the foreground: plain lines, on a terminal with a status line below them; Ctrl-C asks.

The run belongs to its supervisor, which has a session of its own: whatever happens here, it goes on.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import typer

from mathrl_tui.commands.errors import CommandFailed, EndedWithFailures
from mathrl_tui.commands.feed import Feed
from mathrl_tui.core.text import clip
from mathrl_tui.streams import emit
from mathrl_tui.terminal import can_redraw
from store.home import RunFolder
from store.journal import START, Position
from store.live import LiveTail
from store.records import LIVE_STATES, Record
from store.runs import is_live

LOOK_SECONDS = 0.2
NEW_LINE = "\r\x1b[K"  # back to the line's start, and erase it
INTERRUPTED = 130
QUESTION = "[s]top the run after this step, [l]eave it running, or Enter to go on watching? "

Wish = Literal["stop", "leave", "watch"]


class Screen:
    """Lines, and below them on a terminal one line that is redrawn."""

    def __init__(self) -> None:
        self.live = can_redraw()

    def write(self, line: str) -> None:
        """Prints a line that stays."""
        if self.live:
            emit(NEW_LINE)
        print(line, flush=True)

    def show(self, status: str) -> None:
        """Redraws the status line; '' takes it away."""
        if self.live:
            width = shutil.get_terminal_size().columns
            emit(NEW_LINE)
            print(clip(status, width - 1), end="", flush=True)


def follow(home: Path, run_id: str, start: Position = START, past: Sequence[Record] = ()) -> None:
    """Prints `past`, then what happens to the run from `start` on until it is done.

    Raises EndedWithFailures if parts of it failed and CommandFailed if it ends in another way. Ends the command with
    130 if a person interrupts it.
    """
    folder, screen = RunFolder(home, run_id), Screen()
    tail, feed = LiveTail(folder.journal, start), Feed(run_id, progress_lines=not screen.live)
    stopping = False
    while True:
        try:
            for line in feed.take(past):
                screen.write(line)
            past = ()
            _watch(folder, tail, feed, screen)
            break
        except KeyboardInterrupt:
            wish = _wish(screen)
        if wish == "leave":
            print(
                f"left running; `mathrl-tui attach {run_id}` follows it, `mathrl-tui stop {run_id}` ends it"
            )
            raise typer.Exit(INTERRUPTED)
        if wish == "stop":
            from engine.supervisor.commands import command

            screen.write(command(home, run_id, "stop", "ctrl-c").message)
            stopping = True
    if stopping:
        raise typer.Exit(INTERRUPTED)
    _judge(folder, feed)


def _watch(folder: RunFolder, tail: LiveTail, feed: Feed, screen: Screen) -> None:
    """Until the supervisor is gone and all that it wrote was shown."""
    while True:
        live = is_live(folder)  # before the poll: what a supervisor wrote before it went is then shown
        for line in feed.take(tail.poll()):
            screen.write(line)
        if not live:
            screen.show("")
            return
        screen.show(feed.status())
        time.sleep(LOOK_SECONDS)


def _wish(screen: Screen) -> Wish:
    """What somebody who pressed Ctrl-C wants; with nobody to ask, and at a second Ctrl-C, the run is left alone."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "leave"
    try:  # all of it: the second Ctrl-C may come as soon as there is something to read
        screen.write("")
        print(QUESTION, end="", flush=True)
        answer = typed_line()
    except KeyboardInterrupt:
        answer = ""
    if not answer:
        screen.write("")
        return "leave"
    wishes: dict[str, Wish] = {"s": "stop", "l": "leave"}
    return wishes.get(answer.strip().lower()[:1], "watch")


def typed_line() -> str:
    """The next line of the terminal, '' where it was closed.

    Not input(): a Ctrl-C that reaches it between its prompt and its read is not heard before the next line.
    """
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        pass
    return os.read(sys.stdin.fileno(), 1024).decode(errors="replace")


def _judge(folder: RunFolder, feed: Feed) -> None:
    state, reason = feed.state, feed.reason
    if state == "done":
        return
    if state in LIVE_STATES or not state:
        state, reason = "interrupted", f"its supervisor is gone, see {folder.logs / 'supervisor.log'}"
    if state == "done_with_failures":
        repeats = f"`mathrl-tui run --resume {folder.run_id}` repeats only what failed"
        raise EndedWithFailures(f"run {folder.run_id}: {reason}; {repeats}")
    remedy = f"`mathrl-tui run --resume {folder.run_id}` goes on from the last checkpoint"
    raise CommandFailed(f"run {folder.run_id}: {state}: {reason}; {remedy}")
