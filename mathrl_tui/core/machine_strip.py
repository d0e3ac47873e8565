"""The run's GPUs, and how much trainer and worker wait."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mathrl_tui.core import canvas, palette, text
from mathrl_tui.core.curve import Curve, columns
from mathrl_tui.core.panels import GPU_METRIC
from mathrl_tui.core.run import RunSnapshot, Value
from mathrl_tui.core.spans import Row
from store.run_progress import StepProgress

# Cells before a history: the GPU's number.
_NUMBER = 4


def gpu_metrics(latest: Mapping[str, Value]) -> list[str]:
    """Return the metrics whose history the strip shows."""
    return sorted(name for name in latest if (match := GPU_METRIC.match(name)) and match[2] == "utilisation")


def gpu_rows(latest: Mapping[str, Value], curves: Mapping[str, Curve], width: int) -> list[Row]:
    """Return two lines for each GPU: last values, history of utilisation.

    The second line needs two samples of the GPU in `curves`.
    Returns: no lines without samples.
    """
    found: dict[int, dict[str, float]] = {}
    for name, value in latest.items():
        if match := GPU_METRIC.match(name):
            found.setdefault(int(match[1]), {})[match[2]] = value.value
    rows: list[Row] = []
    for index, use in sorted(found.items()):
        words = [
            f"{use[name]:{form}} {unit}"
            for name, form, unit in (
                ("utilisation", "3.0f", "%"),
                ("memory_gib", "5.1f", "GiB"),
                ("power_w", ".0f", "W"),
                ("temperature_c", ".0f", "°C"),
            )
            if name in use
        ]
        rows.append([(f" {index:>2} ", palette.INK), ("  ".join(words)[: width - _NUMBER], palette.INK)])
        history = curves.get(f"gpu/{index}/utilisation")
        if history is not None and len(history) > 1:
            rows.append(
                [(" " * _NUMBER, ""), (sparkline(history, width - _NUMBER - 1, 100.0), palette.ACCENT)]
            )
    return rows


def sparkline(curve: Curve, width: int, most: float) -> str:
    """Return the mean of a curve as one row of `width` braille cells.

    Each column is filled from zero to its value; a full one is `most`.
    """
    dots = 2 * width
    low, high = columns(curve.step, curve.mean, curve.mean, float(curve.step[0]), float(curve.step[-1]), dots)
    middle = (low + high) / (2 * most)
    known = np.flatnonzero(~np.isnan(middle))
    if not len(known):
        return " " * width
    filled = np.interp(np.arange(dots), known, middle[known])
    bits = canvas.cells(canvas.band(np.zeros(dots), filled, 4))[0]
    return "".join(chr(0x2800 + int(bit)) if bit else " " for bit in bits)


def step_seconds(step: StepProgress) -> float | None:
    """Return the seconds of one unit of a step, at its pace so far.

    Returns: None before a pace is known.
    """
    if step.report is None or step.first is None or step.report.reached <= step.first[1]:
        return None
    return (step.reported - step.first[0]) / (step.report.reached - step.first[1])


def waiting_rows(run: RunSnapshot, width: int) -> list[Row]:
    """Return the shares of a step in which trainer and worker wait.

    The trainer computes for tokens / (tokens per second); the worker reports its idle seconds.

    Returns: no lines unless the live arm has reported both.
    """
    whole = step_seconds(run.current) if run.current is not None and run.live_arm else None
    if not whole or whole <= 0:
        return []
    known = {
        name: value.value
        for name in ("train/tokens", "train/tokens_per_second", "worker/idle_seconds")
        if (value := run.latest.get(f"{run.live_arm}/{name}")) is not None
    }
    shares = {}
    if known.get("train/tokens_per_second", 0.0) > 0 and "train/tokens" in known:
        shares["trainer"] = 1.0 - known["train/tokens"] / known["train/tokens_per_second"] / whole
    if "worker/idle_seconds" in known:
        shares["worker"] = known["worker/idle_seconds"] / whole
    words = ", ".join(
        f"{name} {text.percent(min(max(share, 0.0), 1.0), 0)}" for name, share in shares.items()
    )
    if not words:
        return []
    forms = (f" idle: {words} of a step of {whole:.3g} s", f" idle: {words}")
    return [[(next((form for form in forms if len(form) < width), forms[1][: width - 1]), palette.DIM)]]
