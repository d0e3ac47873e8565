"""Text that Textual shows character for character.

Textual reads strings in several places as markup: a `[s]` vanishes there, and a `[/]` raises an error. `Content`
objects are never read as markup. `literal` is for places that accept only strings.
"""

from __future__ import annotations

from textual.content import Content
from textual.fuzzy import Matcher


def literal(words: str) -> str:
    """Return markup that Textual shows as exactly `words`."""
    return words.replace("[", "\\[")


class LiteralMatcher(Matcher):
    """A fuzzy matcher whose candidates are not markup."""

    def highlight(self, candidate: str) -> Content:
        """Return `candidate` with the matched characters highlighted."""
        content = Content(candidate)
        _, places = self.fuzzy_search.match(self.query, candidate)
        for place in places:
            if not candidate[place].isspace():
                content = content.stylize(self.match_style, place, place + 1)
        return content
