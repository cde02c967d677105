"""What all commands share: options, one-line errors, and talk on stderr so that stdout holds only data."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recsys.errors import RecsysError

#: In a notebook talk is plain text: Rich would want ipywidgets for its bars there, and warn of them at each one.
_PLAIN = {"force_jupyter": False, "force_terminal": False} if "ipykernel" in sys.modules else {}
TALK_SETTINGS: dict[str, Any] = {"stderr": True, **_PLAIN}

talk = Console(highlight=False, soft_wrap=True, **TALK_SETTINGS)

#: What is called with how much is done, and of how much.
Advance: TypeAlias = Callable[[int, int], None]

ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file that names a whole run.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Say model.n_layers=4.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
DateOption = Annotated[
    str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Date asked; else the day after the data.")
]
RunOption = Annotated[str | None, typer.Option("--run", help="Run folder, or its name in models/; else the newest.")]
SparkOption = Annotated[
    str | None, typer.Option("--spark", metavar="URL", help="Cluster: spark://host:7077, yarn, sc://host:15002, …")
]

#: What typer raises for an option that does not exist or does not fit; it has no public name of its own.
_CommandLineError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


def progress() -> Progress:
    """Return a progress bar on stderr: description, bar, count, elapsed and remaining time."""
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times, console=talk)


def unheard(done: int, total: int) -> None:
    """Tell nobody how much is done."""


@contextmanager
def counted(title: str) -> Iterator[Advance]:
    """Yield what shows a bar once it is called."""
    bar = progress()
    task = bar.add_task(title)

    def advance(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def run(app: typer.Typer, arguments: list[str] | None = None) -> None:
    """Run a command; print an error of ours as one line and exit with its code (traceback under ``--verbose``)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in arguments
    arguments = [argument for argument in arguments if argument != "--verbose"]
    try:
        code = app(arguments, standalone_mode=False)
    except RecsysError as error:
        if verbose:
            traceback.print_exc()
        _say(str(error))
        sys.exit(error.exit_code)
    except _CommandLineError as error:
        message = error.format_message()
        if "\n" in message or not message:  # the help, where a verb needs more words
            error.show()
        else:
            command = error.ctx.command_path if error.ctx else "recsys"
            _say(f"{message.replace('Value error, ', '').rstrip('.')} (see `{command} --help`)")
        sys.exit(error.exit_code)
    except typer.Abort:
        _say("interrupted")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(error: str) -> None:
    talk.print(f"error: {error}", style="bold red", markup=False)
