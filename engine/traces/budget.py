"""Tokens and money: what was spent, what the requests in flight may cost at most, and what the whole will cost."""

from __future__ import annotations

from profiles.schema import Traces

MILLION = 1_000_000
_TYPICAL_COMPLETION = (
    700  # tokens, where nothing is known yet: R1 on grade-school questions, thinking included
)
_OVERHEAD = 64  # tokens around a prompt


class Budget:
    """Dollars against the spending cap. A request is reserved at its dearest, so that the cap holds whatever comes."""

    def __init__(
        self, settings: Traces, prompt_tokens: int = 0, completion_tokens: int = 0, answers: int = 0
    ) -> None:
        self._settings = settings
        self.prompt_tokens, self.completion_tokens, self.answers = prompt_tokens, completion_tokens, answers
        self.reserved = 0.0

    @property
    def spent(self) -> float:
        """Dollars so far, by the profile's prices."""
        return self.cost(self.prompt_tokens, self.completion_tokens)

    @property
    def typical_completion(self) -> int:
        """Tokens that a completion has taken on average."""
        return (
            self.completion_tokens // self.answers
            if self.answers
            else min(_TYPICAL_COMPLETION, self._settings.max_tokens)
        )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Dollars for so many tokens."""
        prices = self._settings.price_input, self._settings.price_output
        return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / MILLION

    def estimate(self, prompt_characters: int, questions: int) -> float:
        """Dollars that `questions` more are expected to cost."""
        prompt_tokens = prompt_characters // 4 + _OVERHEAD * questions
        return self.cost(prompt_tokens, self.typical_completion * questions)

    def reserve(self, prompt_characters: int) -> float | None:
        """Sets aside the most that one request may cost; None where the cap does not allow it."""
        most = self.cost(prompt_characters + _OVERHEAD, self._settings.max_tokens)
        if self.spent + self.reserved + most > self._settings.spending_cap:
            return None
        self.reserved += most
        return most

    def settle(self, reserved: float, prompt_tokens: int, completion_tokens: int) -> None:
        """Puts what a request cost in the place of what was set aside for it."""
        self.reserved -= reserved
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.answers += completion_tokens > 0
