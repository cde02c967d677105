"""What a section is, what it is given, and what sections share: templates, charts, tables of scores."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

from markupsafe import Markup

from recsys.data.purchases import Purchases
from recsys.evaluation.results import Scores, Table
from recsys.reports.charts import Log
from recsys.reports.customers import Gallery
from recsys.reports.glossary import amount, bounds, metric_name
from recsys.reports.shell import draw_chart, fill
from recsys.runs import Run

__all__ = ["Context", "ScoreCell", "Section", "draw_chart", "fill", "score_cells", "score_rows"]


class Context(NamedTuple):
    """What the page is about."""

    run: Run
    data: Purchases
    scores: Scores
    log: Log
    gallery: Gallery
    today: date
    beside: Sequence[Run] = ()

    @property
    def metric(self) -> str:
        """The main metric as it is printed."""
        return metric_name(self.scores.main_metric)

    @property
    def is_weekly(self) -> bool:
        """Whether whole windows are held out."""
        return self.run.config.split.protocol == "weekly"


class Section(NamedTuple):
    """A section of the page."""

    name: str  # its address in the page
    title: str  # in the list of sections; its heading too, unless ``heading`` gives another
    position: int  # on the page, in rising order
    #: Returns its HTML below the heading, as :func:`fill` makes it; None where there is nothing to show.
    render: Callable[[Context], Markup | None]
    heading: Callable[[Context], str] | None = None


class ScoreCell(NamedTuple):
    """A value in a table, its interval, and whether it is the best of those beside it."""

    value: str
    bounds: str = ""
    best: bool = False


def score_cells(table: Table, metric: str, systems: Sequence[str]) -> list[ScoreCell | None]:
    """Return a cell a system, None where it has no value; the highest is the best, unless all are equal."""
    found = [table.get(name, {}).get(metric) for name in systems]
    values = {one.value for one in found if one}
    best = max(values) if len(values) > 1 else None
    return [
        ScoreCell(amount(metric, one.value), bounds(metric, one), one.value == best) if one else None for one in found
    ]


def score_rows(
    columns: Sequence[tuple[Table, str]], systems: Sequence[str]
) -> list[tuple[str, tuple[ScoreCell | None, ...]]]:
    """Return a row a system: its name, and its cell of each column, which is of a table and a metric."""
    cells = [score_cells(table, metric, systems) for table, metric in columns]
    return list(zip(systems, zip(*cells, strict=True), strict=True))
