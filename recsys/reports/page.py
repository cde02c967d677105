"""The page of a run's report: a headline, key figures, and the sections that have something to show."""

from collections.abc import Sequence
from datetime import date
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from recsys.data.purchases import Purchases
from recsys.evaluation.results import METRICS_FILE, Scores
from recsys.reports import sections
from recsys.reports.charts import Log
from recsys.reports.customers import Gallery
from recsys.reports.glossary import verdict, windows
from recsys.reports.sections.base import Context
from recsys.reports.shell import fill
from recsys.runs import CHOICE_FILE, Run
from recsys.storage import read_json

PAGE_FILE = "index.html"


def build_page(
    run: Run, data: Purchases, scores: Scores, log: Log, gallery: Gallery, today: date, beside: Sequence[Run] = ()
) -> str:
    """Return the HTML of a run's report: one page with everything it needs inside.

    Training and maps of the runs ``beside`` are shown too: a text transformer recommends nothing, and has no report.
    """
    context = Context(run, data, scores, log, gallery, today, beside)
    files = [import_module(f"{sections.__name__}.{module.name}") for module in iter_modules(sections.__path__)]
    found = [file.SECTION for file in files if hasattr(file, "SECTION")]
    shown = [
        (section, section.heading(context) if section.heading else section.title, html)
        for section in sorted(found, key=lambda section: (section.position, section.name))
        if (html := section.render(context)) is not None
    ]
    return fill(
        "report.html.j2",
        run=run,
        data=data,
        scores=scores,
        verdict=verdict(scores, windows(run.config.split, len(scores.folds))),
        today=today.isoformat(),
        sections=shown,
        choice=_choice(run),
        file=METRICS_FILE,
    )


def _choice(run: Run) -> dict[str, Any] | None:
    """Return which system serves the shop, where one was chosen for this very training."""
    path = run.report_folder / CHOICE_FILE
    about: dict[str, Any] = read_json(path) if path.is_file() else {}
    return about if about.get("made_by") == run.identity else None
