"""`compare`: two arms, two files, or all arms of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.ingested import ingested_store, warn_of_damage
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json

if TYPE_CHECKING:
    from store.comparison import Comparison
    from store.query import Store


def compare(
    home: Home,
    a: Annotated[
        str, typer.Argument(help="RUN/ARM, RUN/ARM@STEP, or a JSONL file with `id` and `correct`")
    ] = "",
    b: Annotated[str, typer.Argument(help="the other arm or file; differences are b − a")] = "",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="coverage of the intervals")] = 0.95,
    resamples: Annotated[int, typer.Option(min=1000, help="bootstrap resamples")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="seed of the bootstrap")] = 0,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="pool with the same arms of this run, which has another seed; repeatable. Without A and B: "
            "pool all arms of these runs",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="also list the tasks on which b lost more than this fraction"),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compare two arms, or two files, on the same questions.

    Prints interval, test and detectable effect for each task.
    """
    if not a:
        _compare_seeds(home, pool or [], as_json)
        return
    if not b:
        raise WrongInput(f"Missing argument 'b': give what to compare {a} with; see --help")
    found = (
        _pooled(home, a, b, pool, confidence) if pool else _compared(home, a, b, confidence, resamples, seed)
    )
    if as_json:
        print_json({"comparisons": [row.to_json() for row in found]})
        return
    from mathrl_tui.commands.report import comparison_table, sides, watch_table
    from store.query import Store
    from store.verdict import regression_watch, verdict

    if not _is_file(a):
        print(f"{sides(Store(home), a, b, pool or [])}\n")
    print(comparison_table(found))
    print(f"\n{verdict(found)}")
    if margin:
        print(f"\n{watch_table(regression_watch(found, margin))}")


def _compare_seeds(home: Path, runs: list[str], as_json: bool) -> None:
    """Compare all arms of several seeds, pooled."""
    from mathrl_tui.commands.report import pooled_results
    from store.pooling import pooled_comparisons

    if len(runs) < 2:
        raise WrongInput(
            "Missing argument 'a': give two arms or files, or --pool RUN for each of several seeds"
        )
    store = ingested_store(home)
    warn_of_damage(store, [store.resolve(run) for run in runs])
    if as_json:
        print_json({"comparisons": [row.to_json() for row in pooled_comparisons(store, runs)]})
    else:
        print(pooled_results(store, runs))


def _compared(home: Path, a: str, b: str, confidence: float, resamples: int, seed: int) -> list[Comparison]:
    from store.comparison import compare_arms, compare_files

    files = [_is_file(text) for text in (a, b)]
    if all(files):
        return compare_files(Path(a), Path(b), confidence, resamples, seed)
    if any(files):
        raise WrongInput(f"{a} and {b}: one is a file and one is not; give two files or two arms (RUN/ARM)")
    return compare_arms(_warning_store(home, (a, b)), a, b, confidence, resamples, seed)


def _is_file(text: str) -> bool:
    return Path(text).is_file() or text.endswith(".jsonl")


def _pooled(home: Path, a: str, b: str, runs: list[str], confidence: float) -> list[Comparison]:
    from store.pooling import compare_pooled

    return compare_pooled(_warning_store(home, (a, b), runs), a, b, runs, confidence)


def _warning_store(home: Path, addresses: Sequence[str], others: Sequence[str] = ()) -> Store:
    """Return the store, after a warning for each run with a damaged journal."""
    from store.comparison import parse_address

    store = ingested_store(home)
    named = [*(parse_address(address).run for address in addresses), *others]
    warn_of_damage(store, [store.resolve(run) for run in named])
    return store
