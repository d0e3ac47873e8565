"""Reports on stdout: plain aligned tables and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from store.wording import CONTROL, harmless

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in CONTROL}


def print_json(value: Any) -> None:
    """Print `value` as indented JSON; what JSON does not know (times, decimals) as text, null for what is no number.

    Control characters are JSON's escapes: a parser gets them as they are, a terminal does not.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str, allow_nan=False)
    print(text.translate(_JSON_ESCAPES))


def print_notice(line: str) -> None:
    """Print `line` to stderr: it is for a person who waits, not for a program that reads stdout."""
    print(line, file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return columns two spaces apart: the first `left` of them flush left, the others flush right."""
    rows = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    lines = []
    for row in (headers, *rows):
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
