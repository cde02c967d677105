"""Write one self-contained HTML page about a run: ``recsys report --run R``."""

from collections.abc import Sequence
from datetime import date
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any

import typer

from recsys.console import ForceOption, RunOption, run, talk
from recsys.data.purchases import Purchases
from recsys.evaluation.results import METRICS_FILE, Scores, load_scores
from recsys.evaluation.splits import Split, make_split
from recsys.reports import sections
from recsys.reports.charts import Log, read_log
from recsys.reports.customers import Gallery, Why, load_customers
from recsys.reports.glossary import verdict, windows
from recsys.reports.sections.base import Context
from recsys.reports.shell import REPORT_FILE, fill
from recsys.runs import CHOICE_FILE, LOG_FILE, Run, find_run
from recsys.storage import read_json, require_absent, write_text

app = typer.Typer()


@app.command()
def main(
    run_name: RunOption = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="Say below each suggestion what carried it.")] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Show its training and maps."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write reports/<run>/index.html: one page that opens from disk, made to be shown to whoever runs the shop."""
    found = find_run(run_name)
    path = found.report_folder / REPORT_FILE
    require_absent(path, force=force)
    scores = load_scores(found.report_folder / METRICS_FILE, found.name)
    log = read_log(found.folder / LOG_FILE)
    data = found.open_data()
    split = make_split(data, found.config.split)
    gallery = load_customers(found, data, split, _why(found, data, split) if reasons else None)
    others = [find_run(name) for name in beside or ()]
    write_text(path, build_page(found, data, scores, log, gallery, date.today(), others))
    talk.print(f"Report written; open it in a browser ({path.stat().st_size / 1e6:.1f} MB, works offline):")
    typer.echo(path)


def build_page(
    run: Run, data: Purchases, scores: Scores, log: Log, gallery: Gallery, today: date, beside: Sequence[Run] = ()
) -> str:
    """Return the HTML of a run's report: a headline, key figures, and the sections that have something to show."""
    context = Context(run, data, scores, log, gallery, today, beside)
    files = [import_module(f"{sections.__name__}.{module.name}") for module in iter_modules(sections.__path__)]
    found = [file.SECTION for file in files if hasattr(file, "SECTION")]
    shown = [
        (section, section.heading(context) if section.heading else section.title, html)
        for section in sorted(found, key=lambda section: (section.position, section.name))
        if (html := section.render(context)) is not None
    ]
    chosen = run.report_folder / CHOICE_FILE
    choice = read_json(chosen) if chosen.is_file() else {}
    said = verdict(scores, windows(run.config.split, len(scores.folds)))
    about: dict[str, Any] = {"today": today.isoformat(), "verdict": said, "file": METRICS_FILE}
    about |= {"choice": choice if choice.get("made_by") == run.identity else None}
    return fill("report.html.j2", run=run, data=data, scores=scores, sections=shown, **about)


def _why(run: Run, log: Purchases, split: Split) -> Why | None:
    """Return what says why the decoder recommends in the last test window; None, with a word, where it has no terms."""
    lists = import_module("recsys.modeling.lists")  # loads torch, which a report without reasons needs not
    if run.config.family != "decoder":
        talk.print(f"no reasons are shown: there are none of {lists.TITLES[run.config.family]}")
        return None
    say_reasons = import_module("recsys.modeling.explain.sentences").say_reasons
    return partial(say_reasons, lists.load_decoder(run, split.tests[-1].everybody(log)))


if __name__ == "__main__":
    run(app)
