"""A metric of a run as a text chart with all arms (`status --plot`)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from mathrl_tui.commands.errors import WrongInput

if TYPE_CHECKING:
    from store.query import Store

BUCKETS = 2000
# Cells, cells, lines.
NARROWEST, WIDEST, HEIGHT = 20, 120, 20


def plotted(store: Store, run_id: str, metric: str) -> str:
    """Plot a metric of the run.

    Args:
        metric: a full name (sft/train/loss), or a name without its arm (train/loss) for all arms.
    Raises: WrongInput, with similar names and all metrics, if the run does not have it.
    """
    from mathrl_tui.core.curve import Curve
    from mathrl_tui.core.panels import Panel, split
    from mathrl_tui.core.plot import plot

    known = store.metrics(run_id)
    chosen = [metric] if metric in known else [name for name in known if split(name)[1] == metric]
    if not chosen:
        raise WrongInput(
            f"--plot {metric}: run {run_id} has no such metric; {_near(metric, known)}{_listed(known)}"
        )
    arms = store.config(run_id).arms
    chosen.sort(key=lambda name: arms.index(split(name)[0]) if split(name)[0] in arms else len(arms))
    curves = {}
    for name in chosen:
        series = store.series(run_id, name, BUCKETS)
        curves[split(name)[0]] = Curve.of_series(series)
    panel = Panel(split(chosen[0])[1], "", tuple(curves))
    title = f"{panel.metric} by {'second' if panel.by_clock else 'step'}"
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    return plot(title, curves, width, HEIGHT, percent=panel.percent)


def _near(metric: str, known: list[str]) -> str:
    """Return the known names similar to `metric`, as a question.

    Returns: empty without one.
    """
    import difflib

    from mathrl_tui.core.panels import split

    names = [*dict.fromkeys(split(name)[1] for name in known), *known]
    near = difflib.get_close_matches(metric, names, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}? " if near else ""


def _listed(known: list[str]) -> str:
    """Return all metrics by group, and their arms.

    Example: `train/: loss, grad_norm; val/: pass_at_1`.
    """
    from mathrl_tui.core.panels import split

    if not known:
        return "it has none yet"
    groups: dict[str, dict[str, None]] = {}
    for name in known:
        group, _, rest = split(name)[1].rpartition("/")
        groups.setdefault(f"{group}/" if group else "", {})[rest] = None
    parts = [f"{group}{{{', '.join(rest)}}}" if group else ", ".join(rest) for group, rest in groups.items()]
    arms = dict.fromkeys(split(name)[0] for name in known)
    count = sum(len(rest) for rest in groups.values())
    return f"it has {count}, each also by its source ({', '.join(arms)}): {'; '.join(parts)}"
