"""Coloured text, as the console's functions build it and its widgets draw it."""

from __future__ import annotations

# Text, style.
Span = tuple[str, str]
Row = list[Span]
