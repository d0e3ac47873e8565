"""The form of a new run.

Its fields are validated while they are typed, before anything starts.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Label, Select, Static

from engine.plan import STAGES
from mathrl_tui import control
from mathrl_tui.core.run_form import CheckedForm, FormError, checked
from mathrl_tui.widgets.tick import Tick
from profiles.load import names as profile_names


class NewRun(ModalScreen[str]):
    """Dialog that returns the id of the last started run.

    Returns: "" if none was started.
    """

    # The app moves the focus before it looks at the next key, so that fast typing reaches the new field.
    BINDINGS = [  # noqa: RUF012
        ("escape", "cancel", "Cancel"),
        ("ctrl+s", "start", "Start"),
        Binding("tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Previous field", show=False, priority=True),
    ]

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home
        self._form: CheckedForm | None = None
        # The key may be pressed again before the first run has started.
        self._starting = False
        # Read by the thread that starts a run; its checks can take a minute.
        self._cancelled = False

    def compose(self) -> ComposeResult:
        """Yield the fields of the form."""
        names = profile_names()
        with Vertical(classes="dialog wide"):
            yield Static("New run", classes="title")
            with Horizontal(classes="field"):
                yield Label("Profile")
                yield Select(
                    [(Content(name), name) for name in names],
                    value=_preferred(names),
                    allow_blank=False,
                    compact=True,
                )
            with Horizontal(classes="field"):
                yield Label("Stages")
                for stage in STAGES:
                    yield Tick(stage, True, id=f"stage-{stage}", compact=True)
            with Horizontal(classes="field"):
                yield Label("Seeds")
                yield Input("0", id="seeds", placeholder="0   or   0 1 2   or   0-4", compact=True)
            with Horizontal(classes="field"):
                yield Label("Name")
                yield Input("", id="name", placeholder="the profile's", compact=True)
            with Horizontal(classes="field"):
                yield Label("Overrides")
                yield Input(
                    "", id="overrides", placeholder="grpo.steps=20 sft.learning_rate=5e-4", compact=True
                )
            yield Static("", id="verdict", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel (Esc)", id="cancel")
                yield Button("Start (Ctrl+S)", id="start", variant="primary")

    def on_mount(self) -> None:
        """Validate the initial values."""
        self._check()

    @on(Select.Changed)
    @on(Checkbox.Changed)
    @on(Input.Changed)
    def _check(self) -> None:
        try:
            self._form = checked(
                str(self.query_one(Select).value),
                self._stages(),
                self._text("seeds"),
                self._text("overrides"),
                self._run_name,
            )
        except FormError as error:
            self._form = None
            self._show_message(str(error), wrong=True)
        else:
            runs = "" if len(self._form.seeds) == 1 else f"{len(self._form.seeds)} runs of "
            self._show_message(f"✓ {runs}{' → '.join(self._form.steps)}", wrong=False)
        self.query_one("#start", Button).disabled = self._form is None

    def _stages(self) -> list[str]:
        return [stage for stage in STAGES if self.query_one(f"#stage-{stage}", Checkbox).value]

    def _text(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value

    @property
    def _run_name(self) -> str:
        return self._text("name").strip()

    def _show_message(self, words: str, *, wrong: bool) -> None:
        line = self.query_one("#verdict", Static)
        line.update(f"✗ {words}" if wrong else words)
        line.set_class(wrong, "wrong")

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Close the dialog; a run that is still being checked is not started."""
        self._cancelled = True
        self.dismiss("")

    @on(Button.Pressed, "#start")
    @on(Input.Submitted)
    def _asked(self) -> None:
        self.action_start()

    @work
    async def action_start(self) -> None:
        """Start one run for each seed.

        If a run cannot be started, the dialog stays open and shows the reason.
        """
        if self._starting:
            return
        # The last keys may not have been checked yet.
        self._check()
        if self._form is None:
            return
        self._starting = True
        form, name = self._form, self._run_name
        self.query_one("#start", Button).disabled = True
        self._show_message("checking the model, then starting…", wrong=False)
        started = ""
        for seed in form.seeds:
            result = await asyncio.to_thread(
                control.start,
                self._home,
                form.profile,
                form.stages,
                seed,
                name,
                form.changed,
                lambda: not self._cancelled,
            )
            if not result.done:
                self._show_message(result.words, wrong=True)
                self.query_one("#start", Button).disabled = self._starting = False
                return
            started = result.run_id
        self.dismiss(started)


class ChooseStages(ModalScreen[tuple[str, ...]]):
    """Dialog that returns the stages to start in an existing run.

    Returns: an empty tuple if cancelled.
    """

    BINDINGS = [("escape", "dismiss(())", "Cancel"), ("ctrl+s", "start", "Start")]  # noqa: RUF012

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def compose(self) -> ComposeResult:
        """Yield one checkbox for each stage, and the buttons."""
        with Vertical(classes="dialog wide"):
            yield Static("Start stages in", classes="title")
            yield Static(self._run_id, markup=False)
            with Horizontal(classes="field"):
                for stage in STAGES:
                    yield Tick(stage, False, id=f"stage-{stage}", compact=True)
            with Horizontal(classes="buttons"):
                yield Button("Cancel (Esc)", id="cancel")
                yield Button("Start (Ctrl+S)", id="start", variant="primary")

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "start":
            self.action_start()
        else:
            self.dismiss(())

    def action_start(self) -> None:
        """Close the dialog with the ticked stages."""
        ticked = [stage for stage in STAGES if self.query_one(f"#stage-{stage}", Checkbox).value]
        self.dismiss(tuple(ticked))


def _preferred(names: list[str]) -> str:
    return "demo" if "demo" in names else names[0]
