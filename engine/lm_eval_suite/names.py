"""Check that the suite of a profile exists, without loading lm-eval.

Problems are reported before a run starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from engine.lm_eval_suite.overlays import MATH_SUBJECTS, SINGLE_TASKS, definitions
from profiles.schema import Eval

# Tasks with rows that a local folder may hold.
LOCAL = frozenset({*SINGLE_TASKS, "hendrycks_math", "mmlu"})
# After a key, or alone in a list: tasks of a group, or tags of a task.
_NAME = re.compile(
    r"""^\s*(?:- )?['"]?(?:task|group|tag)['"]?:[ \t]*['"]?([^\s'"#\[]+)|^\s*- ['"]?([^\s'":#]+)['"]?\s*$""",
    re.MULTILINE,
)


def faults(settings: Eval) -> Iterator[str]:
    """Yield each problem of eval.suite and eval.suite_data, as one line."""
    if not settings.suite:
        return
    known = {*LOCAL, *(f"hendrycks_math_{subject}" for subject in MATH_SUBJECTS.values())}
    unknown = [name for name in settings.suite if name not in known]
    if unknown:
        index = _index()
        for name in [name for name in unknown if name not in index]:
            near = get_close_matches(name, sorted(known)) or get_close_matches(name, sorted(index), 1)
            hint = f"; did you mean {near[0]}?" if near else "; `lm-eval ls tasks` lists them"
            yield f"eval.suite: lm-eval has no task {name}{hint}"
    if settings.suite_data:
        yield from _missing_rows(settings)


def _missing_rows(settings: Eval) -> Iterator[str]:
    data = Path(settings.suite_data).expanduser()
    if not data.is_dir():
        yield f"eval.suite_data {settings.suite_data}: no such folder; leave it empty to take the rows from the hub"
        return
    for name in settings.suite:
        if name in LOCAL and not any(path.stat().st_size for path in (data / name).glob("**/*.jsonl")):
            yield (
                f"eval.suite_data {settings.suite_data}: holds no rows for {name} ({name}/…/SPLIT.jsonl); "
                "add them or leave the task out of eval.suite"
            )


def _index() -> set[str]:
    """Return every name of a task, group or tag in lm-eval's own definitions.

    It includes some words that are not names. Definitions include files without a suffix, and tags in these
    files belong to the definitions.
    """
    return {
        behind_key or in_list
        for path in definitions().rglob("*")
        if path.suffix in ("", ".yaml") and path.is_file()
        for behind_key, in_list in _NAME.findall(path.read_text(encoding="utf-8", errors="replace"))
    }
