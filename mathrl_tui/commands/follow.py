"""Follow a run in the foreground: print its events as lines.

On a terminal, a status line stands below them, and Ctrl-C asks what to do. The run belongs to its supervisor,
which has its own session. So it continues, whatever happens to this process.
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
# Return to the start of the line, and erase it.
NEW_LINE = "\r\x1b[K"
INTERRUPTED = 130
QUESTION = "[s]top the run after this step, [l]eave it running, or Enter to keep watching? "

Wish = Literal["stop", "leave", "watch"]


class LiveView:
    """Printed lines and, on a terminal, one line below them that is redrawn."""

    def __init__(self) -> None:
        self.live = can_redraw()

    def write(self, line: str) -> None:
        """Print a line that stays."""
        if self.live:
            emit(NEW_LINE)
        print(line, flush=True)

    def show(self, status: str) -> None:
        """Redraw the status line; '' removes it."""
        if self.live:
            width = shutil.get_terminal_size().columns
            emit(NEW_LINE)
            print(clip(status, width - 1), end="", flush=True)


def follow(home: Path, run_id: str, start: Position = START, past: Sequence[Record] = ()) -> None:
    """Print a run's events until it has ended.

    The records `past` come first, then those from position `start` on.
    Raises: EndedWithFailures if parts of the run failed, CommandFailed if it was not completed, and typer.Exit
    with status 130 if the user leaves or stops the run.
    """
    folder, screen = RunFolder(home, run_id), LiveView()
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
    _raise_unless_done(folder, feed)


def _watch(folder: RunFolder, tail: LiveTail, feed: Feed, screen: LiveView) -> None:
    """Print new records until the supervisor has exited.

    Everything that it wrote is then shown.
    """
    while True:
        # Check before the poll, so that the last records of a supervisor that has just exited are shown.
        live = is_live(folder)
        for line in feed.take(tail.poll()):
            screen.write(line)
        if not live:
            screen.show("")
            return
        screen.show(feed.status())
        time.sleep(LOOK_SECONDS)


def _wish(screen: LiveView) -> Wish:
    """Ask the user what Ctrl-C was meant to do.

    Without a terminal to ask on, and after a second Ctrl-C, the answer is "leave".
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "leave"
    # The second Ctrl-C may come as soon as the question is on the screen.
    try:
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
    """Return the next line of the terminal; '' if it was closed.

    `input()` would ignore a Ctrl-C between its prompt and its read until the next line.
    """
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        pass
    return os.read(sys.stdin.fileno(), 1024).decode(errors="replace")


def _raise_unless_done(folder: RunFolder, feed: Feed) -> None:
    state, reason = feed.state, feed.reason
    if state == "done":
        return
    if state in LIVE_STATES or not state:
        state, reason = "interrupted", f"its supervisor is gone, see {folder.logs / 'supervisor.log'}"
    if state == "done_with_failures":
        repeats = f"`mathrl-tui run --resume {folder.run_id}` repeats only what failed"
        raise EndedWithFailures(f"run {folder.run_id}: {reason}; {repeats}")
    remedy = f"`mathrl-tui run --resume {folder.run_id}` continues from the last checkpoint"
    raise CommandFailed(f"run {folder.run_id}: {state}: {reason}; {remedy}")
