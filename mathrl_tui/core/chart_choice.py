"""Which charts are shown, in which order: group, search, favourites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mathrl_tui.core.panels import GROUPS, Panel

ALL, FAVOURITES = "all", "favourites"


@dataclass(frozen=True, slots=True)
class ChartChoice:
    """The user's choice of charts.

    `group` is one of GROUPS, ALL or FAVOURITES. All words of `search` must be in a chart's title, metric or
    group. `favourites` are keys of charts, in the order in which they were chosen; they come first.
    """

    group: str = ALL
    search: str = ""
    favourites: tuple[str, ...] = ()

    def chosen(self, panels: Sequence[Panel]) -> tuple[Panel, ...]:
        """Return the charts to show; all others keep their order."""
        shown = [one for one in panels if self._has(one)]
        first = {key: place for place, key in enumerate(self.favourites)}
        return tuple(sorted(shown, key=lambda one: first.get(one.key, len(first))))

    def _has(self, panel: Panel) -> bool:
        in_group = self.group in (ALL, panel.group) or (
            self.group == FAVOURITES and panel.key in self.favourites
        )
        words = f"{panel.title} {panel.metric} {panel.group}".lower()
        return in_group and all(word in words for word in self.search.lower().split())

    def next_group(self, panels: Sequence[Panel]) -> ChartChoice:
        """Return the choice of the next group that has charts, cyclically."""
        present = {one.group for one in panels}
        keys = {one.key for one in panels}
        groups = [
            ALL,
            *([FAVOURITES] if keys & set(self.favourites) else []),
            *(name for name in GROUPS if name in present),
        ]
        place = groups.index(self.group) + 1 if self.group in groups else 0
        return replace(self, group=groups[place % len(groups)])

    def toggled(self, panel: Panel) -> ChartChoice:
        """Return the choice with `panel` as the last favourite, or without it."""
        others = tuple(key for key in self.favourites if key != panel.key)
        is_new = len(others) == len(self.favourites)
        return replace(self, favourites=(*others, panel.key) if is_new else others)
