"""The choices of a multiple-choice document. Pure functions.

They return the choices' texts, the model's choice, and the right one. lm-eval requests the log-likelihood of
each choice. A choice is a continuation of one context. In tasks with several contexts (WinoGrande), it is the
end of a context before one continuation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LoggedSample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of a multiple-choice document.

    Attributes:
        texts: one for each choice.
        loglikelihoods: (choices,) in nats, given the context.
        unconditional: (choices,) without the context; None unless the measure subtracts them.
    """

    texts: list[str]
    loglikelihoods: NDArray[np.float64]
    unconditional: NDArray[np.float64] | None

    def chosen(self, measure: str) -> int | None:
        """Return the index of the choice that `measure` selects.

        It is the largest log-likelihood, normalised as the measure demands. None means that one is NaN.
        """
        values = self.loglikelihoods
        name = measure.partition("/")[0]
        if name == "acc_norm":
            values = values / [max(len(text), 1) for text in self.texts]
        elif name == "acc_bytes":
            values = values / [max(len(text.encode()), 1) for text in self.texts]
        elif name == "acc_mutual_info" and self.unconditional is not None:
            values = values - self.unconditional
        return None if np.isnan(values).any() else int(values.argmax())

    def right(self, sample: LoggedSample) -> list[int]:
        """Return the indices of the right choices.

        The list is empty if the task's target does not name any of them.
        """
        gold = sample.get("gold", sample.get("target"))
        named = gold if isinstance(gold, (list, tuple)) else [gold]
        found = [self._number(each) for each in named]
        return [number for number in found if number is not None]

    def _number(self, gold: Any) -> int | None:
        """Return the number of the choice that `gold` is or names."""
        text = str(gold).strip()
        if isinstance(gold, str) and text in self.texts:
            return self.texts.index(text)
        return int(text) if text.isdecimal() and int(text) < len(self.texts) else None


def choices_of(sample: LoggedSample) -> Choices | None:
    """Return the choices of a sample of lm-eval; None if it has no choices."""
    answers = [each[0] for each in sample["resps"]]
    if len(answers) < 2 or not all(isinstance(answer, tuple) for answer in answers):
        return None
    values = np.array([float(answer[0]) for answer in answers])
    pairs = [(str(each[0]), str(each[1])) for each in arguments_of(sample)]
    half = len(pairs) // 2
    if len(pairs) % 2 == 0 and half > 1 and all(context == "" for context, _ in pairs[half:]):
        return Choices(_texts(pairs[:half]), values[:half], values[half:])
    return Choices(_texts(pairs), values, None)


def arguments_of(sample: LoggedSample) -> list[tuple[Any, ...]]:
    """Return the arguments of each request.

    lm-eval keeps them as tuples or as mappings.
    """
    arguments = sample["arguments"]
    listed: Sequence[Any] = list(arguments.values()) if isinstance(arguments, Mapping) else list(arguments)
    return [tuple(each.values()) if isinstance(each, Mapping) else tuple(each) for each in listed]


def _texts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the texts that distinguish the choices.

    They are their continuations, or the ends of their contexts from the first different word on.
    """
    continuations = [continuation for _, continuation in pairs]
    if len(set(continuations)) > 1 or len({context for context, _ in pairs}) == 1:
        return [continuation.strip() for continuation in continuations]
    contexts = [context for context, _ in pairs]
    shared = next(
        (n for n, letters in enumerate(zip(*contexts, strict=False)) if len(set(letters)) > 1), None
    )
    start = max((n + 1 for n, letter in enumerate(contexts[0][:shared]) if letter.isspace()), default=0)
    return [context[start:].strip() for context in contexts]
