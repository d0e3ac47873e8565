"""Numbers, times and counts in words that fit a terminal cell."""

from __future__ import annotations

import math
import time

from store.wording import human, signed

NOTHING = "–"
_CONTROL = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n")}
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROL}


def duration(seconds: float | None) -> str:
    """A span of time: `0:42`, `3:05`, `1:12:05`, `2d 03:10`; a dash where it is not known."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def number(value: float | None) -> str:
    """Return a quantity in at most eight cells: `0.4231`, `12.35`, `−0.00254`, `1.5e-06`, `48.2k`."""
    return NOTHING if value is None or math.isnan(value) else human(_short(value))


def _short(value: float) -> str:
    size = abs(value)
    if size >= 1e15 or math.isinf(value):
        return f"{value:.1e}"
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.4g}{suffix}"
    if value == int(value):
        return str(int(value))
    if size < 1e-3:
        return f"{value:.2g}"
    return f"{value:.4g}" if size >= 0.1 else f"{value:.3g}"


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if value is None else f"{value:,}"


def part(name: str, arm: str, done: int, total: int) -> str:
    """How far one task of several is: `base mmlu 3,120/14,042`; `base mmlu starts` while that is not known."""
    label = f"{arm} {name}".strip()
    return f"{label} {done:,}/{total:,}" if total else f"{label} starts"


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate in [0, 1] as per cent: `34.2 %`."""
    return NOTHING if rate is None or math.isnan(rate) else human(f"{100 * rate:.{digits}f} %")


def points(difference: float) -> str:
    """Return a difference of two rates in percentage points, with its sign unless it is zero: `+3.4`."""
    return signed(difference)


def p_value(p: float) -> str:
    """A p-value in five cells; tiny ones as a bound."""
    if math.isnan(p):
        return NOTHING
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0") if p < 1 else "1"


def moment(ts: float | None) -> str:
    """A time of day, with the date where it is not today's."""
    if not ts:
        return NOTHING
    then = time.localtime(ts)
    today = time.localtime()
    same_day = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%d %b %H:%M", then)


def bar(fraction: float | None, width: int) -> str:
    """`fraction` of `width` cells filled, to an eighth of a cell; the rest is a thin line."""
    share = 0.0 if fraction is None or math.isnan(fraction) else min(max(fraction, 0.0), 1.0)
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    edge = " ▏▎▍▌▋▊▉"[part] if part else ""
    return "█" * full + edge + "─" * (width - full - len(edge))


def clip(text: str, width: int) -> str:
    """`text` on one harmless line of at most `width` characters, the end cut with an ellipsis."""
    line = one_line(text)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def one_line(text: str) -> str:
    """`text` on one harmless line, every stretch of white space a blank."""
    return harmless(" ".join(text.split()))


def harmless(text: str) -> str:
    """`text` with its control characters, but for tabs and line breaks, as escapes: no terminal obeys them."""
    return text.translate(_ESCAPES)


def flowing(words: str) -> str:
    """Paragraphs whose lines the terminal breaks: a single line break in `words` is a blank, an empty line stays."""
    return "\n\n".join(" ".join(part.split("\n")) for part in words.split("\n\n"))


def ends(text: str, width: int, share: float = 0.5) -> str:
    """`text` in at most `width` characters, cut in the middle: names differ at their ends. `share` is the front's."""
    if len(text) <= width:
        return text
    front = int((width - 1) * share)
    return f"{text[:front]}…{text[len(text) - (width - 1 - front) :]}"


def run_name(run_id: str, width: int) -> str:
    """A run's id in at most `width` characters: seed, day and time, in which runs differ, are at its end."""
    return ends(run_id, width, 0.3)


def tail(text: str, width: int) -> str:
    """The last `width` characters of `text`, an ellipsis before them where some are left out."""
    return text if len(text) <= width else "…" + text[-(width - 1) :]
