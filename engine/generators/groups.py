"""Dynamic sampling: which groups of a job to use, and when to use spares.

A group has no advantage to learn from if its completions are all correct or all wrong. Each such group adds
the next spare, in prompt order. The kept groups are the first `wanted` others, in prompt order. They follow
from the verdicts alone, in whatever order the completions finish.
Source: DAPO, arXiv 2503.14476, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from engine.protocol.messages import Job, Prompt


class Groups:
    """Follows the groups of one job, and decides which spares it needs."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._wanted = job.wanted or len(job.prompts)
        self._spares = iter(job.prompts[self._wanted :])
        self._verdicts: dict[int, list[bool]] = {}

    def first(self) -> Iterator[Prompt]:
        """Yield the prompts to generate first.

        These are the first `wanted` of the job; all if `wanted` is 0.
        """
        return islice(self._job.prompts, self._wanted)

    def finished(self, prompt: int, correct: bool) -> Prompt | None:
        """Record whether a completion of question `prompt` is correct.

        Returns: the next spare question if one must be generated now: the group is complete, and all its
        completions are right or all wrong. None if no spare is needed or left.
        """
        verdicts = self._verdicts.setdefault(prompt, [])
        verdicts.append(correct)
        if len(verdicts) == self._job.samples and self._is_flat(prompt):
            return next(self._spares, None)
        return None

    def kept(self) -> tuple[int, ...]:
        """Return the indices of the groups to use, in prompt order.

        If there are too few spares, groups without advantage complete the number.
        """
        asked = [prompt.index for prompt in self._job.prompts if prompt.index in self._verdicts]
        if not self._job.wanted:
            return tuple(asked)
        varied = [index for index in asked if not self._is_flat(index)]
        flat = [index for index in asked if self._is_flat(index)]
        chosen = {*varied[: self._wanted], *flat[: max(0, self._wanted - len(varied))]}
        return tuple(index for index in asked if index in chosen)

    def _is_flat(self, prompt: int) -> bool:
        return len(set(self._verdicts[prompt])) == 1
