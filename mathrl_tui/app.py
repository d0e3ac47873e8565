"""The console: a client of the store and of the runs' supervisors. Closing or killing it changes nothing in a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.drivers.linux_driver import LinuxDriver
from textual.screen import Screen
from textual.theme import Theme

from mathrl_tui import actions
from mathrl_tui.core import palette
from mathrl_tui.reader import Reader, Unreadable
from store.records import LIVE_STATES

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from mathrl_tui.core.alarms import Alarm

THEME = Theme(
    name="mathrl",
    primary=palette.ACCENT,
    secondary="#8aa4c0",
    accent=palette.ACCENT,
    foreground=palette.INK,
    background=palette.GROUND,
    surface="#151c25",
    panel="#1a222c",
    success=palette.GOOD,
    warning=palette.WARN,
    error=palette.BAD,
    dark=True,
    variables={"footer-key-foreground": palette.ACCENT, "footer-background": "#151c25"},
)


class TolerantDriver(LinuxDriver):
    """Outlives bytes that are not UTF-8: legacy mouse reports, which terminals send after a tmux re-attach."""

    def run_input_thread(self) -> None:
        """Reads keys; after undecodable bytes it starts afresh with what comes next."""
        while not self.exit_event.is_set():
            try:
                super().run_input_thread()
            except UnicodeDecodeError:
                continue


def _opener(name: str) -> Callable[[], Screen[None]]:
    """Makes the screen `name` when it is first shown; its module is imported then, not before the first paint."""

    def make() -> Screen[None]:
        module = import_module(f"mathrl_tui.screens.{name}")
        screen: Screen[None] = getattr(module, f"{name.capitalize()}Screen")()
        return screen

    return make


class ActionProvider(Provider):
    """The command palette's entries: the actions of the screen in sight and of the app."""

    async def discover(self) -> Hits:
        for action in self._actions():
            yield DiscoveryHit(action.label, self._runner(action), help=_described(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            words = f"{action.label}: {action.help}"
            if (score := matcher.match(words)) > 0:
                yield Hit(score, matcher.highlight(words), self._runner(action), help=_described(action))

    def _actions(self) -> tuple[actions.Action, ...]:
        name = getattr(self.screen, "NAME", "")
        return (*actions.actions(name), *actions.actions(actions.APP))

    def _runner(self, action: actions.Action) -> Callable[[], Awaitable[bool]]:
        target = self.app if actions.APP in action.where else self.screen
        return lambda: self.app.run_action(action.name, default_namespace=target)


def _described(action: actions.Action) -> str:
    return f"{action.help}  [{actions.shown_keys(action)}]"


class Console(App[None]):
    """Screens over one home folder. `run_id` is the run that they show."""

    TITLE = "mathrl-tui"
    CSS_PATH = "mathrl_tui.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {
        name: _opener(name) for name in actions.SCREENS
    }
    DEFAULT_MODE = actions.RUNS
    BINDINGS = actions.bindings(actions.APP)
    COMMANDS = {ActionProvider}  # noqa: RUF012

    def __init__(self, home: Path) -> None:
        super().__init__(driver_class=TolerantDriver)
        self.home = home
        self.run_id = ""
        self.other_id = ""  # the run to compare settings with; empty: the nearest one
        self.trouble = ""  # why the store does not answer or take in what is new, in one line
        self._states: dict[str, str] = {}  # of each run when it was last seen
        self._alarms: dict[str, set[str]] = {}  # of each run, the topics that were told
        self.reader = Reader(home)
        self.register_theme(THEME)
        self.theme = THEME.name
        self.animation_level = "none"  # every frame crosses an SSH connection

    def on_unmount(self) -> None:
        """Lets the reading thread go."""
        self.reader.close()

    async def reading(self, read: Callable[[], Awaitable[None]]) -> None:
        """Carries out a screen's read; trouble is shown in the top line and the last picture stays."""
        try:
            await read()
            self.trouble = self.reader.problem
        except Unreadable as error:
            self.trouble = str(error)
        show_screens = getattr(self.screen, "show_screens", None)
        if show_screens is not None:
            show_screens()

    def note_state(self, run_id: str, state: str, reason: str) -> None:
        """Rings and tells when a run that was seen alive is so no longer."""
        before = self._states.get(run_id)
        self._states[run_id] = state
        if before in LIVE_STATES and state not in LIVE_STATES:
            self.bell()
            bad = state in ("failed", "interrupted")
            self.notify(
                f"{run_id}: {state} {reason}".strip(), severity="error" if bad else "information", timeout=10
            )

    def note_alarms(self, run_id: str, alarms: Sequence[Alarm]) -> None:
        """Rings and tells what a run that is being watched warns of anew; what it said before stands on its screen."""
        topics = {alarm.topic for alarm in alarms}
        fresh = topics - self._alarms.get(run_id, topics)
        self._alarms.setdefault(run_id, topics).update(topics)
        for alarm in alarms:
            if alarm.topic in fresh:
                self.bell()
                severity: SeverityLevel = "error" if alarm.grave else "warning"
                self.notify(f"{run_id}: {alarm.words}", severity=severity, timeout=10)

    def open_run(self, run_id: str) -> None:
        """Looks at `run_id` on the run screen."""
        self.run_id = run_id
        self.action_go(actions.RUN)

    def open_samples(self, arm: str, task: str, *, other: str = "", shown: str = "all") -> None:
        """Reads an arm's completions on a task, against `other` where flips are wanted."""
        from mathrl_tui.screens.samples import SamplesScreen

        self.action_go(actions.SAMPLES)
        if isinstance(self.screen, SamplesScreen):
            self.screen.choose(arm, task, other, shown)

    def action_go(self, name: str) -> None:
        """Shows the screen `name`."""
        self.switch_mode(name)

    @work(group="export", exclusive=True)
    async def action_export(self) -> None:
        """Writes the chosen run's results as files."""
        run_id = self.run_id
        if not run_id:
            self.notify("no run is chosen: press 1 and choose one", severity="warning")
            return
        try:
            folder = await self.reader.ask(lambda feed: feed.export(run_id))
        except Unreadable as error:
            self.notify(f"export of {run_id}: {error}", severity="error", timeout=10)
        else:
            self.notify(f"{run_id}: results written to {folder}", timeout=10)

    def action_help(self) -> None:
        """Shows every key."""
        from mathrl_tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(getattr(self.screen, "NAME", "")))

    def copy(self, words: str, what: str) -> None:
        """Copies over OSC 52, which reaches the person's own clipboard through SSH and tmux."""
        self.copy_to_clipboard(words)
        self.notify(f"copied {what}", timeout=3)


def run_console(home: Path) -> None:
    """Opens the console over `home` and returns when the person closes it."""
    Console(home).run()
