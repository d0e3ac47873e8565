"""The line of keys at the foot of a screen."""

from __future__ import annotations

from textual.widgets import Footer


class Keys(Footer):
    """Textual's footer, but for the keys that it showed before.

    It makes them anew whenever a screen comes back, and goes on telling the old ones of every change, which keeps them
    in memory (textual 8: 0.3 MiB a switch of screens). A change that is told drops those that are closed.
    """

    async def recompose(self) -> None:
        await super().recompose()
        self.mutate_reactive(Footer.compact)
