"""Tokens and money: spent, reserved for requests in flight, and estimated."""

from __future__ import annotations

from profiles.schema import Traces

MILLION = 1_000_000
# Tokens, used while no answer is known: R1 on grade-school questions, including thinking.
_TYPICAL_COMPLETION = 700
# Tokens around a prompt.
_OVERHEAD = 64


class Budget:
    """Tokens and US dollars spent, compared with the spending cap.

    Each request reserves its maximum cost before it is sent, so spending can never exceed the cap.
    """

    def __init__(
        self, settings: Traces, prompt_tokens: int = 0, completion_tokens: int = 0, answers: int = 0
    ) -> None:
        self._settings = settings
        self.prompt_tokens, self.completion_tokens, self.answers = prompt_tokens, completion_tokens, answers
        self.reserved = 0.0

    @property
    def spent(self) -> float:
        """US dollars spent so far, by the profile's prices."""
        return self.cost(self.prompt_tokens, self.completion_tokens)

    @property
    def typical_completion(self) -> int:
        """Average tokens of a completion so far.

        Before the first answer it is an assumed number.
        """
        return (
            self.completion_tokens // self.answers
            if self.answers
            else min(_TYPICAL_COMPLETION, self._settings.max_tokens)
        )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost of these tokens in US dollars."""
        prices = self._settings.price_input, self._settings.price_output
        return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / MILLION

    def estimate(self, prompt_characters: int, questions: int) -> float:
        """Return the expected cost of `questions` further questions, US dollars.

        Args:
            prompt_characters: total length of their prompts.
        """
        prompt_tokens = prompt_characters // 4 + _OVERHEAD * questions
        return self.cost(prompt_tokens, self.typical_completion * questions)

    def reserve(self, prompt_characters: int) -> float | None:
        """Reserve the maximum cost of one request; return it in US dollars.

        None means that the spending cap does not allow the request. Call `settle` when the answer is there.
        """
        most = self.cost(prompt_characters + _OVERHEAD, self._settings.max_tokens)
        if self.spent + self.reserved + most > self._settings.spending_cap:
            return None
        self.reserved += most
        return most

    def settle(self, reserved: float, prompt_tokens: int, completion_tokens: int) -> None:
        """Replace a request's reservation by its actual cost.

        `reserved` is what `reserve` returned, in US dollars. The cost follows from the tokens.
        """
        self.reserved -= reserved
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.answers += completion_tokens > 0
