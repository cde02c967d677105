"""The command line: ``recsys <verb>`` is ``python -m recsys.<module>``.

A verb's module is imported only when it is asked for, so that ``recsys --help`` answers at once and without torch.
"""

import sys
from importlib import import_module
from typing import NamedTuple

import typer

from recsys import __version__
from recsys.console import run


class Verb(NamedTuple):
    """A verb of the command line: the module that does it and one line of help."""

    module: str
    help: str


VERBS = {
    "inspect": Verb("recsys.inspect", "Say what a shop's files hold, and write the configuration that reads them."),
    "run": Verb("recsys.run", "Do everything on a shop's files: inspect, prepare, train, score, lists, report."),
    "dataset": Verb("recsys.dataset", "Turn raw purchases into sequences; download or synthesize raw data."),
    "features": Verb("recsys.features", "Write what is counted about items at a date as a folder of its own."),
    "train": Verb("recsys.modeling.train", "Train the decoder on prepared sequences."),
    "predict": Verb("recsys.modeling.predict", "Write recommendations, or Kaggle's submission, for a date."),
    "generate": Verb("recsys.modeling.generate", "Continue customers' histories item by item, beside the real ones."),
    "evaluate": Verb("recsys.evaluation.evaluate", "Score recommendations against what was bought."),
    "backtest": Verb("recsys.modeling.backtest", "Go through the last weeks: train, recommend, score."),
    "plots": Verb("recsys.plots", "Draw the curves of a run and the comparison of its systems."),
    "report": Verb("recsys.report", "Write one self-contained HTML page about a run."),
    "explore": Verb("recsys.serving.browse", "Look at a run in the browser: customers, lists, why, rules, the map."),
    "serve": Verb("recsys.serving.serve", "Serve a run over HTTP, with live events and a page."),
}


def build_app(loaded_verb: str | None) -> typer.Typer:
    """Return the application with the verb ``loaded_verb`` loaded and the others as names with help."""
    about = "Recommend what each customer will buy next. --verbose shows the traceback of an error."
    app = typer.Typer(name="recsys", help=about, no_args_is_help=True, add_completion=False)
    app.callback()(_options)
    for name, verb in VERBS.items():
        if name != loaded_verb:
            app.command(name, help=verb.help)(_not_loaded)
            continue
        inner: typer.Typer = import_module(verb.module).app
        if len(inner.registered_commands) == 1 and inner.registered_callback is None:
            app.command(name)(inner.registered_commands[0].callback)  # type: ignore[type-var]
        else:
            app.add_typer(inner, name=name, help=verb.help)
    return app


def _not_loaded() -> None:
    raise RuntimeError("a verb is loaded before it is run")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"recsys {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    loaded_verb = next((argument for argument in sys.argv[1:] if argument in VERBS), None)
    try:
        run(build_app(loaded_verb))
    except KeyboardInterrupt:  # while a verb's module was still being loaded
        sys.exit("error: interrupted")


if __name__ == "__main__":
    main()
