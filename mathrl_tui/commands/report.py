"""An experiment's results as text: rates, differences, verdicts.

`results` reports one run; `pooled_results` reports several runs of one experiment, one for each seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mathrl_tui.commands.printing import table
from mathrl_tui.core.measure import amount, change, detectable, value
from mathrl_tui.core.text import NOTHING, count, harmless, percent, points

if TYPE_CHECKING:
    from store.comparison import Comparison
    from store.query import Store
    from store.results import EvalSummary
    from store.run_config import RunConfig
    from store.verdict import Watched


def results(store: Store, run_id: str) -> str:
    """Return a run's evaluations, comparisons, verdicts and watch.

    Returns: "" if nothing was evaluated.
    """
    from store.comparison import run_comparisons
    from store.verdict import run_watch, verdicts

    evaluations = store.evaluations(run_id)
    if not evaluations:
        return ""
    comparisons = run_comparisons(store, run_id)
    parts = [subject_line(store.config(run_id)), evaluation_table(evaluations)]
    if comparisons:
        parts += [
            comparison_table(comparisons),
            "\n".join(verdicts(comparisons)),
            _explanation(comparisons, _ALONE),
        ]
    watched = run_watch(comparisons, store.config(run_id).evaluation)
    if watched:
        parts.append(watch_table(watched))
    shots = [event.message for event in store.events(run_id, kinds=["input"]) if event.stage == "eval"]
    return "\n\n".join(parts + (["\n".join(dict.fromkeys(shots))] if shots else []))


def rates_alone(store: Store, run_id: str) -> str:
    """Return a run's rates without comparisons.

    Returns: "" if nothing was evaluated.
    """
    evaluations = store.evaluations(run_id)
    return f"{subject_line(store.config(run_id))}\n\n{evaluation_table(evaluations)}" if evaluations else ""


def pooled_results(store: Store, run_ids: Sequence[str]) -> str:
    """Return the report of several seeds of one experiment.

    It has rates by seed, pooled comparisons and verdicts.

    Raises: InputError if the runs do not belong together.
    """
    from store.pooling import pooled_comparisons
    from store.verdict import run_watch, verdicts

    run_ids = list(dict.fromkeys(store.resolve(run) for run in run_ids))
    comparisons = pooled_comparisons(store, run_ids)
    configs = [store.config(run_id) for run_id in run_ids]
    parts = [
        subject_line(configs[0], [config.seed for config in configs]),
        _rates_by_seed(store, run_ids),
        comparison_table(comparisons),
        "\n".join(verdicts(comparisons)),
        _explanation(comparisons, _POOLED),
    ]
    watched = run_watch(comparisons, configs[0].evaluation)
    return "\n\n".join(parts + ([watch_table(watched)] if watched else []))


def subject_line(config: RunConfig, seeds: Sequence[int] = ()) -> str:
    """Return the subject of a report: model, profile and seeds.

    Example: `model Qwen2.5-Math-1.5B, profile demo* (2 settings changed), seed 0`.
    """
    from store.subject import model_name, profile_name

    changed = config.changed
    count = f" ({len(changed)} setting{'s' * (len(changed) > 1)} changed)" if changed else ""
    trained = f"seeds {', '.join(map(str, seeds))}" if seeds else f"seed {config.seed}"
    model = harmless(model_name(config.model_source))
    return f"model {model}, profile {profile_name(config.profile_name, changed)}{count}, {trained}"


def sides(store: Store, a: str, b: str, pool: Sequence[str]) -> str:
    """Return model, profile and seeds of two arms as text, one line for each.

    The seeds are those of the runs of `a` and `b` and of the runs in `pool`.
    """
    from store.comparison import parse_address

    others = [store.resolve(run) for run in pool]
    lines = []
    for side, address in zip("ab", (a, b), strict=True):
        run_id = store.resolve(parse_address(address).run)
        runs = dict.fromkeys([run_id, *others]) if others else ()
        seeds = [store.config(run).seed for run in runs]
        lines.append(f"{side}: {address}, {subject_line(store.config(run_id), seeds)}")
    return "\n".join(lines)


def _rates_by_seed(store: Store, run_ids: Sequence[str]) -> str:
    """Return a line for each arm and task that all runs have.

    It has the mean over the seeds, and each seed's rate.
    """
    from store.comparison import newest

    by_run = [{(row.arm, row.task): row for row in newest(store.evaluations(run_id))} for run_id in run_ids]
    rows = []
    for key, first in by_run[0].items():
        found = [run[key] for run in by_run if key in run]
        if len(found) < len(by_run):
            continue
        rates = [row.rate for row in found]
        mean = value(sum(rates) / len(rates), first.measure)
        rows.append((*key, str(first.n), mean, *(value(rate, first.measure) for rate in rates)))
    seeds = (f"seed {store.config(run_id).seed}" for run_id in run_ids)
    return table(("arm", "task", "questions", "mean", *seeds), rows, left=2)


def evaluation_table(rows: Sequence[EvalSummary]) -> str:
    """Return a line for each arm and task, with the rate's 95 % interval.

    A value that does not apply is `–`. Columns without any value are left out: pass@k and majority need
    several samples a question, words a document need perplexities, window and cut prompts need suite tasks.
    """
    several = any(row.samples > row.n for row in rows)
    documents = any(row.mean_words is not None for row in rows)
    suite = any(row.window_tokens is not None for row in rows)
    return table(
        (
            *("arm", "task", "step", "questions", "rate", "95 % interval"),
            *(("samples", "pass@k", "majority") if several else ()),
            *("tokens", "cut off", "no answer"),
            *(("words",) if documents else ()),
            *(("window", "prompts cut") if suite else ()),
        ),
        [
            (
                row.arm,
                row.task,
                str(row.step),
                str(row.n),
                value(row.rate, row.measure),
                f"{value(row.low, row.measure)} to {value(row.high, row.measure)}",
                *(_samples(row) if several else ()),
                _mean(row.mean_tokens),
                count(row.cut_off),
                count(row.no_answer),
                *((_mean(row.mean_words),) if documents else ()),
                *((count(row.window_tokens), count(row.prompts_cut)) if suite else ()),
            )
            for row in rows
        ],
        left=2,
    )


def _samples(row: EvalSummary) -> tuple[str, str, str]:
    return f"{row.samples / row.n:g}", percent(row.pass_at_k), percent(row.majority)


def _mean(length: float | None) -> str:
    return NOTHING if length is None else f"{length:,.0f}"


def comparison_table(rows: Sequence[Comparison]) -> str:
    """Return a line for each pair and task.

    Differences are b − a in percentage points; for perplexities, in percent of a's.
    """
    return table(
        (
            "a",
            "b",
            "task",
            "n",
            "rate of a",
            "rate of b",
            "b − a",
            "interval",
            "p",
            "p (Holm)",
            "detectable",
            "a only",
            "b only",
        ),
        [
            (
                row.a,
                row.b,
                row.task or "–",
                str(row.n),
                value(row.a_rate, row.measure),
                value(row.b_rate, row.measure),
                change(row.difference, row.measure),
                f"{points(row.ci_low)} to {points(row.ci_high)}",
                _p(row.p_value),
                _p(row.p_value_holm),
                detectable(row.minimum_detectable_effect, row.measure).removesuffix(" points"),
                str(row.a_only),
                str(row.b_only),
            )
            for row in rows
        ],
        left=3,
    )


def watch_table(rows: Sequence[Watched]) -> str:
    """Return a line for each watched task.

    It has the observed change, and the largest loss inside the interval.
    """
    return table(
        ("task", "arm", "change", "loss at most", "margin", "standing"),
        [
            (
                row.task or "–",
                row.arm,
                change(row.loss if row.measure == "perplexity" else -row.loss, row.measure),
                amount(max(row.largest_loss, 0.0), row.measure),
                amount(row.margin, row.measure),
                row.standing,
            )
            for row in rows
        ],
        left=2,
    )


_ALONE = (
    "paired {confidence} intervals over the questions; p: mid-p McNemar, of mean scores a sign-flip test",
    "One training seed: the intervals do not cover the variance between seeds; `mathrl-tui compare "
    "--pool RUN --pool RUN` pools the runs of several seeds.",
)
_POOLED = (
    "{confidence} intervals over training seeds and questions; p: t-test with Satterthwaite's degrees of freedom",
    "Several training seeds: the intervals cover the variance between seeds. With few seeds they are wide.",
)


def _explanation(rows: Sequence[Comparison], kind: tuple[str, str]) -> str:
    """Return what the intervals hold and what they do not."""
    method, seeds = kind
    return (
        f"Differences in percentage points, with {method.format(confidence=f'{rows[0].confidence * 100:g} %')}; "
        "detectable: the true difference that would have been found 4 times in 5 (none: too little data). "
        f"Perplexities (ppl): change in percent, by document.\n{seeds}"
    )


def _p(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"
