"""The page of a run's report: a headline, key figures, and the sections that have something to show."""

from collections.abc import Sequence
from datetime import date

from recsys.data.item_names import long_date
from recsys.data.purchases import Purchases
from recsys.evaluation.results import METRICS_FILE, Scores
from recsys.reports import method
from recsys.reports.charts import Log
from recsys.reports.customers import Gallery
from recsys.reports.glossary import ordinary, per_hundred, verdict
from recsys.reports.sections import all_sections
from recsys.reports.sections.base import Context
from recsys.reports.shell import environment, page_style
from recsys.runs import Run

PAGE_FILE = "index.html"


def build_page(
    run: Run, data: Purchases, scores: Scores, log: Log, gallery: Gallery, today: date, beside: Sequence[Run] = ()
) -> str:
    """Return the HTML of a run's report: one page with everything it needs inside.

    Training and maps of the runs ``beside`` are shown too: a text transformer recommends nothing, and has no report.
    """
    context = Context(run, data, scores, log, gallery, today, beside)
    sections = [
        (section, section.heading(context) if section.heading else section.title, html)
        for section in all_sections()
        if (html := section.render(context)) is not None
    ]
    template = environment().get_template("report.html.j2")
    return template.render(
        run=run,
        style=page_style(),
        verdict=verdict(scores, method.windows(run.config.split, len(scores.folds))),
        cards=_cards(run, data, scores),
        today=long_date(today.isoformat()),
        sections=sections,
        file=METRICS_FILE,
    )


def _cards(run: Run, data: Purchases, scores: Scores) -> list[tuple[str, str]]:
    weeks = run.config.split.protocol == "weekly"
    tested = f"{'weeks' if run.config.split.horizon_days == 7 else 'windows'} tested, none of them learned from"
    cards = [
        (ordinary(data.n_users), "customers"),
        (ordinary(data.n_events), "purchases in their histories"),
        (ordinary(data.n_items), "products to choose from"),
        (str(len(scores.folds)), tested if weeks else "held-out part tested"),
    ]
    rate = scores.hit_rate
    if rate is not None:
        words = f"of 100 customers who bought found at least one purchase among the decoder's {scores.k} suggestions"
        cards.insert(0, (per_hundred(rate.value), words))
    return cards
