"""Tables of scores as pages show them: rows of values with their intervals, the best of a column marked."""

from dataclasses import dataclass

from recsys.evaluation.metrics import all_metrics
from recsys.evaluation.results import Scores, Table, Values
from recsys.reports.charts import ranking
from recsys.reports.glossary import Term, amount, bounds, system
from recsys.schema import DECODER


@dataclass(frozen=True)
class ScoreCell:
    """A value in a table, its interval, and whether it is the best of its column."""

    value: str
    bounds: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, and a cell a column (None where there is no value)."""

    term: Term
    cells: list[ScoreCell | None]
    highlight: bool = False


def shown_metrics(scores: Scores) -> list[str]:
    """Return the metrics of the first table: all known ones, at the cutoff of the main one."""
    names = [name for known in all_metrics() for name in (known, f"{known}@{scores.k}")]
    return [name for name in names if name in scores.metrics] or scores.metrics[:6]


def score_rows(scores: Scores, metrics: list[str]) -> list[Row]:
    """Return a row a system, the best by the main metric first, the best value of each column marked."""
    table = scores.systems
    best = {metric: best_value(table, metric) for metric in metrics}
    rows = []
    for name in dict.fromkeys([*ranking(scores), *table]):
        cells = [score_cell(table[name], metric, best[metric]) for metric in metrics]
        rows.append(Row(system(name), cells, highlight=name == DECODER))
    return rows


def score_cell(values: Values, metric: str, best: float | None) -> ScoreCell | None:
    """Return the cell of a metric, marked where its value is ``best``; None where there is no value."""
    interval = values.get(metric)
    if interval is None:
        return None
    return ScoreCell(amount(metric, interval.value), bounds(metric, interval), best=interval.value == best)


def best_value(table: Table, metric: str) -> float | None:
    """Return the highest value of a metric; None where all systems are equal, for then none is best."""
    values = {row[metric].value for row in table.values() if metric in row}
    return max(values) if len(values) > 1 else None
