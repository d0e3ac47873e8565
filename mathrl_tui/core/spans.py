"""Coloured text: functions build it, widgets draw it."""

from __future__ import annotations

# Text, style.
Span = tuple[str, str]
Row = list[Span]
