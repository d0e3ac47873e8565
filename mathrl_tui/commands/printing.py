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
    """Print `value` as indented JSON.

    Types that JSON lacks (times, decimals) become text; numbers that it lacks become null. Control characters
    become JSON escapes: a parser restores them, and a terminal does not see them.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str, allow_nan=False)
    print(text.translate(_JSON_ESCAPES))


def print_notice(line: str) -> None:
    """Print `line` to stderr.

    It is for a waiting user, not for a program that reads stdout.
    """
    print(line, file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return aligned columns, two spaces apart.

    The first `left` columns are flush left, the others flush right.
    """
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
