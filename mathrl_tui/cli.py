"""The command line: commands, and one-line errors with an exit status.

Commands import inside their functions, so that `--help` answers before a database or NumPy is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType

import typer

from mathrl_tui.commands.attach import attach
from mathrl_tui.commands.bench import bench
from mathrl_tui.commands.compare import compare
from mathrl_tui.commands.control import checkpoint, kill, pause, resume, stop
from mathrl_tui.commands.demo import demo
from mathrl_tui.commands.doctor import doctor
from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.export import export
from mathrl_tui.commands.gc import gc
from mathrl_tui.commands.grade import grade
from mathrl_tui.commands.profiles import profiles
from mathrl_tui.commands.rm import rm
from mathrl_tui.commands.run import run
from mathrl_tui.commands.runs import runs, status
from mathrl_tui.commands.samples import samples
from mathrl_tui.commands.serve import serve
from mathrl_tui.commands.sql import sql
from mathrl_tui.streams import safe_streams
from profiles.errors import UserError
from store.disk_refusal import refusal
from store.wording import abridged

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
# Maximum characters of an error; user input can have any length.
LONGEST_LINE = 1500

_HELP = frozenset({"-h", "--help"})
_ANYWHERE = "Anywhere: --debug for a traceback. Exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted."

app = typer.Typer(
    name="mathrl-tui",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": sorted(_HELP)},
    epilog=_ANYWHERE,
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(demo, run, stop, kill, pause, resume, checkpoint, runs, status, attach),
    *(export, compare, samples, grade, sql, serve, rm, gc, doctor, bench),
)
for command in _COMMANDS:
    app.command(epilog=_ANYWHERE)(command)
app.add_typer(profiles, name="profiles", epilog=_ANYWHERE)


@app.callback(invoke_without_command=True)
def console(context: typer.Context) -> None:
    """Does GRPO beat SFT on a small model? Run it, watch it, compare it.

    Without a command: opens the console. --home DIR: directory of runs and results ($MATHRL_HOME, else
    ./artifacts).
    """
    if context.invoked_subcommand is None:
        from mathrl_tui.terminal import console_fault

        if fault := console_fault():
            raise WrongInput(fault)
        from mathrl_tui.app import run_console
        from store.home import default_home

        run_console(default_home())


def main() -> None:
    """Run the command in `sys.argv` and exit with its status."""
    safe_streams()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    with _OneLineErrors(debug=len(arguments) < len(sys.argv) - 1):
        if _HELP.intersection(arguments):
            status = _print_help(arguments)
        else:
            status = app(_without_leading_home(arguments), standalone_mode=False)
        sys.stdout.flush()
        raise SystemExit(status if isinstance(status, int) else DONE)


def _print_help(arguments: list[str]) -> int:
    """Print the help of the command in `arguments` without parsing them.

    Typer's parser loads pydantic first.
    """
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name=app.info.name)
    for word in arguments:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]  # type: ignore[attr-defined]  # a group, as it has commands
            context = command.context_class(command, info_name=word, parent=context)
    print(command.get_help(context))
    return DONE


def _without_leading_home(arguments: list[str]) -> list[str]:
    """Move a leading `--home DIR` into the environment.

    Every command reads its default there. As an option of the group, `mathrl-tui --home` would have another
    default than the commands.
    """
    option, equals, folder = (arguments[0] if arguments else "").partition("=")
    if option != "--home":
        return arguments
    rest = arguments[1:] if equals else arguments[2:]
    folder = folder if equals else "".join(arguments[1:2])
    if not folder:
        raise WrongInput("--home: give a folder: --home DIR")
    from store.home import home_at

    os.environ["MATHRL_HOME"] = str(home_at(folder))
    return rest


class _OneLineErrors:
    """Context that turns any failure into one line and an exit status.

    The line goes to stderr; `debug` adds the traceback.
    """

    def __init__(self, debug: bool) -> None:
        self._debug = debug

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        # The reader of the pipe has closed it.
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(FAILED)
        if self._debug:
            import traceback

            traceback.print_exception(error)
        status, line = explained(error)
        if line:
            print(line, file=sys.stderr)
        raise SystemExit(status)


def explained(error: BaseException) -> tuple[int, str]:
    """Return exit status and the one-line message for a failure."""
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED, ""
    if isinstance(error, UserError):
        return error.exit_status, _one_line(error)
    if isinstance(error, typer.TyperException):
        return WRONG, _one_line(error)
    if isinstance(error, OSError):
        return FAILED, _one_line(error)
    fault = f"{type(error).__name__}: {_one_line(error)}"
    return FAILED, f"internal error: {fault}; run it again with --debug and report the traceback"


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and (refused := refusal(error)):
        return refused
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error)
    if isinstance(error, typer.TyperException):
        text = f"{error.format_message().rstrip('.')}; see --help"
    return abridged(" ".join(text.split()), LONGEST_LINE)
