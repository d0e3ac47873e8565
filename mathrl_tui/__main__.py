"""The entry point: `mathrl-tui`, or `python -m mathrl_tui`."""

from __future__ import annotations

from mathrl_tui.cli import main

if __name__ == "__main__":
    main()
