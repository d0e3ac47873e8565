"""The console's terminal: sends changed cells, survives stray input."""

from __future__ import annotations

import os
import sys
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

from mathrl_tui.core.frame_changes import FrameChanges


class TerminalDriver(LinuxDriver):
    """Sends the cells that changed, and survives input that is not UTF-8.

    Terminals send legacy mouse reports after a tmux re-attach.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._changes = FrameChanges()
        self._shown_size = (0, 0)

    def write(self, data: str) -> None:
        """Send the cells of `data` that differ from the screen."""
        size = _terminal_size()
        if size != self._shown_size:
            # A terminal moves its content when its size changes.
            self._shown_size = size
            self._changes.forget()
        super().write(self._changes.reduced(data))

    def send_all_again(self) -> None:
        """Send all cells of the next frame.

        Call it when another program has written to the terminal.
        """
        self._changes.forget()

    def run_input_thread(self) -> None:
        """Read keys; after undecodable bytes start again with the next input."""
        while not self.exit_event.is_set():
            try:
                super().run_input_thread()
            except UnicodeDecodeError:
                continue
            except Exception as error:  # noqa: BLE001  # the thread's edge: the app reports it as its own
                self._app.call_later(self._app._handle_exception, error)
                return


def _terminal_size() -> tuple[int, int]:
    """Return columns and rows of the terminal; (0, 0) without one."""
    stream = sys.__stderr__
    if stream is None:
        return 0, 0
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 0, 0
    return size.columns, size.lines
