"""The footer of a screen with its keys."""

from __future__ import annotations

from textual.widgets import Footer


class Keys(Footer):
    """Textual's footer, without references to the keys that it showed before.

    The footer creates its keys again when a screen returns, but keeps notifying the old ones. That keeps them in memory
    (textual 8: 0.3 MiB for each switch of screens). A mutation of the reactive drops those that are closed.
    """

    async def recompose(self) -> None:
        """Create the keys again, and drop the references to the closed ones."""
        await super().recompose()
        self.mutate_reactive(Footer.compact)
