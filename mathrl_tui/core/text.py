"""Numbers, times and counts as words that fit a terminal cell."""

from __future__ import annotations

import math
import time

from store.wording import harmless, human, signed

__all__ = ["harmless"]

NOTHING = "–"


def duration(seconds: float | None) -> str:
    """Format seconds: `0:42`, `3:05`, `1:12:05`, `2d 03:10`.

    Returns: a dash if unknown.
    """
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def number(value: float | None) -> str:
    """Format a quantity in at most eight cells.

    Examples: `0.4231`, `12.35`, `−0.00254`, `1.5e-06`, `48.2k`.
    """
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
    """Format a whole number with thousands separators."""
    return NOTHING if value is None else f"{value:,}"


def part(name: str, arm: str, done: int, total: int) -> str:
    """Format the progress of one task: `base mmlu 3,120/14,042`.

    Without a total it is `base mmlu starts`.
    """
    label = f"{arm} {name}".strip()
    return f"{label} {done:,}/{total:,}" if total else f"{label} starts"


def percent(rate: float | None, digits: int = 1) -> str:
    """Format a rate in [0, 1] as percent: `34.2 %`."""
    return NOTHING if rate is None or math.isnan(rate) else human(f"{100 * rate:.{digits}f} %")


def points(difference: float) -> str:
    """Format a difference of two rates in points: `+3.4`.

    It has a sign unless it is zero.
    """
    return signed(difference)


def p_value(p: float) -> str:
    """Format a p-value in at most five cells: `.032`, `1`, `<.001`.

    NaN gives a dash.
    """
    if math.isnan(p):
        return NOTHING
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0") if p < 1 else "1"


def moment(ts: float | None) -> str:
    """Format Unix seconds as a time of day, with the date if it is not today."""
    if not ts:
        return NOTHING
    then = time.localtime(ts)
    today = time.localtime()
    same_day = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%d %b %H:%M", then)


def bar(fraction: float | None, width: int) -> str:
    """Fill `fraction` of `width` cells, to an eighth of a cell.

    The rest is a thin line.
    """
    share = 0.0 if fraction is None or math.isnan(fraction) else min(max(fraction, 0.0), 1.0)
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    edge = " ▏▎▍▌▋▊▉"[part] if part else ""
    return "█" * full + edge + "─" * (width - full - len(edge))


def clip(text: str, width: int) -> str:
    """Return `text` on one harmless line of at most `width` characters.

    An ellipsis marks a cut end.
    """
    line = one_line(text)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def one_line(text: str) -> str:
    """Return `text` on one harmless line; white space becomes single blanks."""
    return harmless(" ".join(text.split()))


def flowing(words: str) -> str:
    """Join the lines of each paragraph; the terminal wraps them.

    Empty lines are kept.
    """
    return "\n\n".join(" ".join(part.split("\n")) for part in words.split("\n\n"))


def ends(text: str, width: int, share: float = 0.5) -> str:
    """Cut the middle of `text` to fit `width` characters.

    Names differ at their ends. `share` is the fraction of the space for the front.
    """
    if len(text) <= width:
        return text
    front = int((width - 1) * share)
    return f"{text[:front]}…{text[len(text) - (width - 1 - front) :]}"


def run_name(run_id: str, width: int) -> str:
    """Cut a run's id to `width` characters.

    Its end, with seed, day and time, differs between runs.
    """
    return ends(run_id, width, 0.3)


def tail(text: str, width: int) -> str:
    """Return the last `width` characters of `text`.

    If something is cut, an ellipsis comes first.
    """
    return text if len(text) <= width else "…" + text[-(width - 1) :]
