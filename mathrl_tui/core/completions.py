"""Selection of completions, and the layout of one of them.

The layout has question, gold answer and verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mathrl_tui.core import answers, palette, text
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Span
from store.records import LOGLIKELIHOOD, UNANSWERED, Example

MOST_LISTED = 1000
# Tasks with samples from the trainer.
WHILE_TRAINING = ("validation", "train")

OUTCOMES: dict[str, Look] = {
    "correct": Look("✓", palette.GOOD),
    "wrong": Look("✗", palette.BAD),
    "no_answer": Look("∅", palette.WARN),
    "truncated": Look("✂", palette.WARN),
    "error": Look("!", palette.BAD),
    LOGLIKELIHOOD: Look("≈", palette.DIM),
}
_SHARE = Look("≈", palette.ACCENT)


@dataclass(frozen=True, slots=True)
class CompletionPair:
    """A completion, and another arm's on the same question.

    Without another arm, or if it lacks the question, `theirs` has the value None.
    """

    mine: Example
    theirs: Example | None = None

    @property
    def key(self) -> str:
        """Return the key of the pair within its arm and task."""
        return f"{self.mine.step}/{self.mine.ex_id}/{self.mine.sample}"


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """The completions to show: arm, task, other arm, filter and search."""

    arm: str = ""
    task: str = ""
    other: str = ""
    shown: str = "all"
    search: str = ""

    def nearest(self, tasks: Mapping[str, Sequence[str]]) -> CompletionChoice:
        """Return the nearest existing choice; `tasks` is arm → tasks, not empty."""
        arm = self.arm if self.arm in tasks else next(iter(tasks))
        task = self.task if self.task in tasks[arm] else tasks[arm][0]
        others = replace(self, arm=arm, task=task).others(tasks)
        first = others[0] if others and self.shown in NEEDS_OTHER else ""
        other = self.other if self.other in others else first
        shown = self.shown if other or self.shown not in NEEDS_OTHER else "all"
        return replace(self, arm=arm, task=task, other=other, shown=shown)

    def others(self, tasks: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the other arms that have the task."""
        return [arm for arm in tasks if arm != self.arm and self.task in tasks[arm]]


def following(choices: Sequence[str], current: str) -> str:
    """Return the choice after `current`, cyclically."""
    if not choices:
        return current
    return choices[(choices.index(current) + 1) % len(choices)] if current in choices else choices[0]


def _gained(pair: CompletionPair) -> bool:
    return pair.mine.correct and pair.theirs is not None and not pair.theirs.correct


def _lost(pair: CompletionPair) -> bool:
    return not pair.mine.correct and pair.theirs is not None and pair.theirs.correct


FILTERS: dict[str, Callable[[CompletionPair], bool]] = {
    "all": lambda pair: True,
    "wrong": lambda pair: not pair.mine.correct and pair.mine.is_judged,
    "correct": lambda pair: pair.mine.correct,
    "cut off": lambda pair: pair.mine.is_cut_off,
    "no answer": lambda pair: pair.mine.outcome in UNANSWERED,
    "flips": lambda pair: _gained(pair) or _lost(pair),
    "only here right": _gained,
    "only there right": _lost,
}
NEEDS_OTHER = frozenset({"flips", "only here right", "only there right"})


def pairs(
    mine: Sequence[Example], theirs: Sequence[Example], choice: CompletionChoice
) -> list[CompletionPair]:
    """Return the completions that pass filter and search, in order.

    Samples of training and validation are of many steps, and each is paired with one of its own step.
    """
    while_training = choice.task in WHILE_TRAINING

    def place(one: Example) -> tuple[object, ...]:
        return (one.ex_id, one.sample, one.step) if while_training else (one.ex_id, one.sample)

    others = {place(one): one for one in theirs}
    found = (CompletionPair(one, others.get(place(one))) for one in mine)
    words = choice.search.lower()
    return [
        pair for pair in found if FILTERS[choice.shown](pair) and (not words or words in _searched(pair.mine))
    ]


def _searched(example: Example) -> str:
    return "\n".join((example.ex_id, example.prompt, example.output, example.answer, example.gold)).lower()


def outcome(example: Example) -> Span:
    """Return the verdict as mark and word, in its colour."""
    look = _SHARE if example.is_share else OUTCOMES.get(example.outcome, palette.state("?"))
    return (f"{look.mark} {answers.verdict(example)}", look.colour)


def detail(pair: CompletionPair, choice: CompletionChoice) -> list[Span]:
    """Return the pair as styled text: question, gold answer, completions.

    The spans contain the line breaks.
    """
    mine = pair.mine
    spans: list[Span] = [
        (f"{mine.ex_id}", f"bold {palette.INK}"),
        (f"  sample {mine.sample}, step {mine.step}\n\n", palette.DIM),
        *_headed("Question", mine.prompt.strip()),
        *_headed(*_right(mine)),
        *_completion(choice.arm, mine),
    ]
    if pair.theirs is not None:
        spans += _completion(choice.other, pair.theirs)
    return spans


def _right(example: Example) -> tuple[str, str]:
    """Return title and words of the correct answer or choice."""
    is_choice = not example.is_generated and example.outcome not in (LOGLIKELIHOOD, "error")
    return "Right choice" if is_choice else "Gold answer", example.gold or text.NOTHING


def _headed(title: str, body: str) -> list[Span]:
    return [(f"{title}\n", f"bold {palette.ACCENT}"), (f"{text.harmless(body)}\n\n", palette.INK)]


def _completion(arm: str, example: Example) -> list[Span]:
    label, words = answers.labelled(example)[-1]
    about = "   ".join(
        filter(None, (f"{label} {text.harmless(words)}", answers.size(example), answers.prompt_note(example)))
    )
    return [
        (f"{arm}  ", f"bold {palette.ACCENT}"),
        outcome(example),
        (f"   {about}\n", palette.DIM),
        (f"{text.harmless(example.output.strip()) or '(empty)'}\n\n", palette.INK),
    ]


def plain(pair: CompletionPair, choice: CompletionChoice) -> str:
    """Return the text of `detail` without styles, for the clipboard."""
    return "".join(words for words, _ in detail(pair, choice))
