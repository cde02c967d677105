"""The page of a run's report: a headline, key figures, and the sections that have something to show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from recsys.data.item_names import long_date
from recsys.data.purchases import Purchases
from recsys.evaluation.results import METRICS_FILE, Scores
from recsys.reports import method
from recsys.reports.charts import Log
from recsys.reports.customers import Gallery
from recsys.reports.glossary import ordinary, per_hundred, verdict
from recsys.reports.sections import all_sections
from recsys.reports.sections.base import Context, Section
from recsys.reports.shell import environment, page_style
from recsys.runs import Run
from recsys.schema import DECODER

PAGE_FILE = "index.html"


@dataclass(frozen=True)
class ShownSection:
    """A section as the page holds it."""

    name: str
    title: str
    heading: str
    html: Markup


def build_page(
    run: Run,
    data: Purchases,
    scores: Scores,
    log: Log,
    gallery: Gallery,
    today: date,
    beside: Sequence[Run] = (),
) -> str:
    """Return the HTML of a run's report: one page with everything it needs inside.

    Training and maps of the runs ``beside`` are shown too: a text transformer recommends nothing, and has no report.
    """
    context = Context(run, data, scores, log, gallery, today, beside)
    template = environment().get_template("report.html.j2")
    return template.render(
        run=run,
        style=page_style(),
        verdict=verdict(scores, method.windows(run.config.split, len(scores.folds))),
        cards=_cards(run, data, scores),
        today=long_date(today.isoformat()),
        sections=[shown for section in all_sections() if (shown := _shown(section, context)) is not None],
        file=METRICS_FILE,
    )


def _shown(section: Section, context: Context) -> ShownSection | None:
    html = section.render(context)
    if html is None:
        return None
    heading = section.title if section.heading is None else section.heading(context)
    return ShownSection(section.name, section.title, heading, html)


def _cards(run: Run, data: Purchases, scores: Scores) -> list[tuple[str, str]]:
    weeks = run.config.split.protocol == "weekly"
    tested = f"{'weeks' if run.config.split.horizon_days == 7 else 'windows'} tested, none of them learned from"
    cards = [
        (ordinary(data.n_users), "customers"),
        (ordinary(data.n_events), "purchases in their histories"),
        (ordinary(data.n_items), "products to choose from"),
        (str(len(scores.folds)), tested if weeks else "held-out part tested"),
    ]
    hits = scores.same_cutoff("hit")
    rate = scores.systems.get(DECODER, {}).get(hits) if hits else None
    if rate is not None:
        words = f"of 100 customers who bought found at least one purchase among the decoder's {scores.k} suggestions"
        cards.insert(0, (per_hundred(rate.value), words))
    return cards
