"""Entries of the command palette: actions of the screen and the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from mathrl_tui import actions
from mathrl_tui.widgets.literal import LiteralMatcher, literal


class ActionProvider(Provider):
    """Finds actions of the screen and the app by their label and help text."""

    async def discover(self) -> Hits:
        """Yield every action, for an empty search."""
        for action in self._actions():
            words = Content(action.label)
            yield DiscoveryHit(words, self._runner(action), action.label, _described(action))

    async def search(self, query: str) -> Hits:
        """Yield the actions with a label or help text that matches `query`."""
        matcher = LiteralMatcher(query, match_style=self.match_style)
        for action in self._actions():
            words = f"{action.label}: {action.help}"
            if (score := matcher.match(words)) > 0:
                shown = matcher.highlight(words)
                yield Hit(score, shown, self._runner(action), words, _described(action))

    def _actions(self) -> tuple[actions.Action, ...]:
        name = getattr(self.screen, "NAME", "")
        return (*actions.actions(name), *actions.actions(actions.APP))

    def _runner(self, action: actions.Action) -> Callable[[], Awaitable[bool]]:
        target = self.app if actions.APP in action.where else self.screen
        return lambda: self.app.run_action(action.name, default_namespace=target)


def _described(action: actions.Action) -> str:
    return literal(f"{action.help}  [{actions.shown_keys(action)}]")
