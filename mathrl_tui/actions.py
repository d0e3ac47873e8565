"""The table of all console actions.

Keys, footer, command palette and help are generated from it.
`name` is a Textual action: `action_NAME` of the screens in `where`, or of the app if that is 'app'.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType

from mathrl_tui.widgets.literal import literal

APP = "app"
# The screens: name and sentence. Each is the class NameScreen in mathrl_tui/screens/NAME.py, and its key is its place.
_SCREENS = (
    ("runs", "All runs of this home folder"),
    ("run", "Stages and live charts of the chosen run"),
    ("evaluation", "Rates of every arm with their intervals"),
    ("comparison", "Paired differences of arms, and a verdict"),
    ("samples", "Read completions with question and answer"),
    ("logs", "Events of the run, and logs of its processes"),
    ("watch", "Tasks that training should not have harmed"),
    ("config", "The run's settings, against another run's"),
)
SCREENS = tuple(name for name, _ in _SCREENS)
RUNS, RUN, EVALUATION, COMPARISON, SAMPLES, LOGS, WATCH, CONFIG = SCREENS[:8]


@dataclass(frozen=True, slots=True)
class Action:
    """A user action, as keys, footer, help and palette show it.

    Attributes:
        name: `action_NAME` is the method.
        keys: key names, separated by commas.
        label: a word for the footer.
        help: a sentence for help and palette.
        where: the screens that have it, or APP.
        key_display: the key as shown; None for the first of `keys`.
    """

    name: str
    keys: str
    label: str
    help: str
    where: tuple[str, ...]
    footer: bool = False
    key_display: str | None = None
    # The action opens a field, and the next keys are for it, however fast they come.
    opens: bool = False


_CONTROL = (RUNS, RUN)
_RESULTS = (EVALUATION, COMPARISON, WATCH)

ACTIONS: tuple[Action, ...] = (
    *(
        Action(f"go('{name}')", str(place), name.capitalize(), sentence, (APP,))
        for place, (name, sentence) in enumerate(_SCREENS, 1)
    ),
    Action("export", "e", "Export", "Write the results as CSV and Markdown", (APP,)),
    Action("redraw", "ctrl+l", "Redraw", "Draw the whole screen again", (APP,), False, "^L"),
    Action("alarms", "A", "Alarms", "The alarms of all live runs, since when", (APP,)),
    Action("help", "question_mark,f1", "Help", "Every key, and what the marks mean", (APP,), True, "?"),
    Action("quit", "q,ctrl+q", "Quit", "Close the console; runs keep running", (APP,), True, "q"),
    Action("open", "enter", "Open", "Open the run under the cursor", (RUNS,), True, "⏎"),
    Action(
        "mark", "space", "Mark", "Draw and compare the run with the other marked runs", (RUNS,), False, "␣"
    ),
    Action(
        "filter",
        "slash",
        "Filter",
        "Only runs that match: state:failed gsm8k>0.7 -tag:old",
        (RUNS,),
        True,
        "/",
        opens=True,
    ),
    Action("sort(1)", "greater_than_sign", "Sort", "Sort by the next column", (RUNS,), False, ">"),
    Action("sort(-1)", "less_than_sign", "Sort", "Sort by the previous column", (RUNS,), False, "<"),
    Action("reverse", "r", "Reverse", "Reverse the order of the runs", (RUNS,)),
    Action("unmark", "u", "Unmark", "Remove all marks", (RUNS,)),
    Action("pin", "P", "Pin", "Pin the run to the top of the list, or release it", (RUNS,)),
    Action("tags", "t", "Tags", "Set the tags of the run", (RUNS,), opens=True),
    Action("note", "N", "Note", "Write a note on the run", (RUNS,), opens=True),
    Action("hide", "h", "Hide", "Hide the run from the list, or show it again", (RUNS,)),
    Action("show_hidden", "H", "Hidden", "List the hidden runs too, or leave them out", (RUNS,)),
    Action("maximise", "z", "Maximise", "The list alone, or with charts and overview", (RUNS,)),
    Action("differences", "d", "Diff", "The settings that differ from another run's", _CONTROL, True),
    Action(
        "new_run", "n", "New run", "Choose profile, stages, seeds and overrides, and start", (RUNS,), True
    ),
    Action("stop", "s", "Stop", "End after the current step, with a checkpoint", _CONTROL, True),
    Action("pause", "p", "Pause", "Pause after the current step, or continue", _CONTROL, True),
    Action("checkpoint", "c", "Save", "Write a checkpoint after the current step", _CONTROL),
    Action(
        "resume_run",
        "R",
        "Resume",
        "Resume a run that was stopped, interrupted or failed",
        _CONTROL,
        True,
    ),
    Action("add_stages", "a", "Stages", "Start further stages in this run", _CONTROL, True),
    Action("kill", "K", "Kill", "End the run's processes at once (asks first)", _CONTROL),
    Action("smoother", "right_square_bracket", "Smoother", "Smooth the curves more", (RUN,), False, "]"),
    Action("rougher", "left_square_bracket", "Rougher", "Smooth the curves less", (RUN,), False, "["),
    Action("next_axis", "x", "X-axis", "Steps, time or tokens along the x-axis", (RUN,)),
    Action("log_scale", "l", "Log", "Logarithmic y-axis for the chart under the cursor", (RUN,)),
    Action("log_x", "X", "Log x", "Logarithmic x-axis for all charts", (RUN,)),
    Action(
        "cross(-1)",
        "comma",
        "Crosshair",
        "Values at a step: move the crosshair left; Esc ends",
        (RUN,),
        False,
        ",",
    ),
    Action("cross(1)", "full_stop", "Crosshair", "Move the crosshair right", (RUN,), False, "."),
    Action(
        "cross(-10)", "less_than_sign", "Crosshair", "Move the crosshair ten columns left", (RUN,), False, "<"
    ),
    Action(
        "cross(10)",
        "greater_than_sign",
        "Crosshair",
        "Move the crosshair ten columns right",
        (RUN,),
        False,
        ">",
    ),
    Action("zoom(1)", "plus,equals_sign", "Zoom in", "Halve the window of the x-axis", (RUN,), False, "+"),
    Action("zoom(-1)", "minus", "Zoom out", "Double the window of the x-axis", (RUN,), False, "-"),
    Action("pan(-1)", "left", "Earlier", "Move the window a quarter to the left", (RUN,), False, "←"),
    Action("pan(1)", "right", "Later", "Move the window a quarter to the right", (RUN,), False, "→"),
    Action("whole", "0", "Whole", "Show the whole x-axis again and follow the run", (RUN,)),
    Action("chart(1)", "tab,down", "Next chart", "Move the cursor to the next chart", (RUN,), False, "⇥"),
    Action(
        "chart(-1)",
        "shift+tab,up",
        "Previous chart",
        "Move the cursor to the previous chart",
        (RUN,),
        False,
        "⇧⇥",
    ),
    Action("page(1)", "pagedown", "More charts", "The next page of charts", (RUN,), False, "PgDn"),
    Action("page(-1)", "pageup", "Fewer charts", "The previous page of charts", (RUN,), False, "PgUp"),
    Action(
        "next_group", "g", "Group", "Charts of one group: train, reward, validation, … or all", (RUN,), True
    ),
    Action(
        "favourite",
        "asterisk",
        "Favourite",
        "The chart under the cursor comes first, or not",
        (RUN,),
        False,
        "*",
    ),
    Action("together", "m", "Mean", "Mean and range over all runs of this profile", (RUN,), True),
    Action("maximise", "z", "Maximise", "The chart under the cursor alone, or all again", (RUN,), True),
    Action(
        "copy",
        "y",
        "Copy",
        "Copy what is shown to the clipboard (OSC 52)",
        (RUN, EVALUATION, COMPARISON, SAMPLES, LOGS, WATCH, CONFIG),
        True,
    ),
    Action("read", "enter", "Read", "Read the completions behind the row", _RESULTS, True, "⏎"),
    Action("flips('only here right')", "b", "Only b", "Read what only b has right", (COMPARISON,), True),
    Action("flips('only there right')", "a", "Only a", "Read what only a has right", (COMPARISON,), True),
    Action("next_task", "t", "Task", "The next task", (SAMPLES,), True),
    Action("next_arm", "a", "Arm", "The next arm", (SAMPLES,), True),
    Action("next_other", "o", "Against", "The arm to compare with, for flips", (SAMPLES,), True),
    Action("next_filter", "f", "Show", "All, wrong, correct, cut off, no answer, or flips", (SAMPLES,), True),
    Action("next_run(1)", "o", "Against", "The next run to compare with", (CONFIG,), True),
    Action("next_run(-1)", "O", "Against", "The previous run to compare with", (CONFIG,)),
    Action("everything", "f", "Show", "All settings, or only those that differ", (CONFIG,), True),
    Action("next_source", "f", "Source", "Events of the run, or the log of one process", (LOGS,), True),
    Action(
        "search",
        "slash",
        "Search",
        "Show only lines with a given text",
        (SAMPLES, LOGS),
        True,
        "/",
        opens=True,
    ),
    Action(
        "search",
        "slash",
        "Search",
        "Show only charts whose name has a given text",
        (RUN,),
        True,
        "/",
        opens=True,
    ),
    Action("follow", "end", "Follow", "Jump to the newest line and stay there", (LOGS,), True, "End"),
)


def actions(where: str) -> tuple[Action, ...]:
    """Return the actions of the screen `where`, or of the app if it is `APP`."""
    return tuple(action for action in ACTIONS if where in action.where)


def bindings(where: str) -> list[BindingType]:
    """Return the Textual bindings for `where`, from the table."""
    return [_binding(action) for action in actions(where)]


def _binding(action: Action) -> Binding:
    return Binding(
        action.keys,
        action.name,
        action.label,
        show=action.footer,
        key_display=action.key_display,
        tooltip=literal(action.help),
        # Overrides the table's own Enter, so that the footer shows it. A key that opens a field must be carried
        # out before the app sends the next key to a widget.
        priority=action.keys == "enter" or action.opens,
    )


def shown_keys(action: Action) -> str:
    """Return the action's first key as shown to users."""
    return action.key_display or action.keys.split(",")[0]
