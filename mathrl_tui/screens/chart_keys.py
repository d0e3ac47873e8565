"""Actions on the charts of a screen: view, choice of charts, cursor."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.widgets import Input

from mathrl_tui.core.chart import SMOOTHING, X_AXES, View
from mathrl_tui.screens.searching import Searching
from mathrl_tui.widgets.chart_wall import ChartWall


class ChartKeys(Searching):
    """Actions on the wall of charts of a subclass.

    The subclass has a SearchField.
    """

    # The search field would take the keys.
    AUTO_FOCUS = ""

    @property
    def wall(self) -> ChartWall:
        """Return the wall of charts."""
        return self.query_one(ChartWall)

    def _look(self, view: View) -> None:
        self.wall.look(view)

    def action_smoother(self) -> None:
        """Increase smoothing by one notch."""
        self._look(replace(self.wall.view, memory=min(self.wall.view.memory + 1, len(SMOOTHING) - 1)))

    def action_rougher(self) -> None:
        """Decrease smoothing by one notch."""
        self._look(replace(self.wall.view, memory=max(self.wall.view.memory - 1, 0)))

    def action_next_axis(self) -> None:
        """Select the next x-axis: steps, time, tokens, cyclically."""
        place = (X_AXES.index(self.wall.view.x) + 1) % len(X_AXES)
        self._look(replace(self.wall.view, x=X_AXES[place], cross=None, anchor=None))

    def action_log_x(self) -> None:
        """Switch the x-axis between linear and logarithmic."""
        self._look(replace(self.wall.view, log_x=not self.wall.view.log_x))

    def action_cross(self, by: int) -> None:
        """Move the crosshair by `by` columns; it starts at the newest value."""
        self.wall.move_cross(by)

    def action_zoom(self, by: int) -> None:
        """Halve (1) or double (−1) the window."""
        self.wall.zoom(by)

    def action_pan(self, by: int) -> None:
        """Move the window by a quarter of its width to the left (−1) or right (1)."""
        view = self.wall.view
        span = 1 / 2**view.zoom
        self._look(replace(view, offset=min(max(view.offset - by * span / 4, 0.0), 1.0 - span)))

    def action_whole(self) -> None:
        """Show the whole x-axis and follow the run."""
        self._look(replace(self.wall.view, zoom=0, offset=0.0))

    def action_log_scale(self) -> None:
        """Switch the selected chart's y-axis between logarithmic and linear."""
        self.wall.toggle_log()

    def action_next_group(self) -> None:
        """Show the charts of the next group."""
        self.wall.next_group()

    def action_favourite(self) -> None:
        """Add the selected chart to the favourites, or remove it."""
        self.wall.toggle_favourite()

    def searched(self) -> None:
        """Return None: the charts have no focus."""

    @on(Input.Changed, "#search")
    def _searched(self, event: Input.Changed) -> None:
        self.wall.choose(replace(self.wall.choice, search=event.value.strip()))

    def key_escape(self) -> None:
        """Remove the crosshair.

        Without one, show all charts.
        """
        if self.wall.view.cross is not None:
            self._look(replace(self.wall.view, cross=None, anchor=None))
        else:
            self.action_clear_search()

    def action_clear_search(self) -> None:
        """Close the search field and show all charts."""
        super().action_clear_search()
        self.wall.choose(replace(self.wall.choice, search="", group="all"))

    def action_chart(self, by: int) -> None:
        """Move the cursor by `by` charts."""
        self.wall.move(by)

    def action_page(self, by: int) -> None:
        """Move by `by` pages of charts."""
        self.wall.page(by)

    def action_maximise(self) -> None:
        """Switch between the selected chart alone and all charts."""
        self.wall.toggle_maximised()
