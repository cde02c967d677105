"""The section on the decoder's lead over each other system."""

from functools import partial

from markupsafe import Markup

from recsys.evaluation.results import Scores
from recsys.reports import charts
from recsys.reports.glossary import amount, bounds, side, system
from recsys.reports.score_tables import Row, ScoreCell
from recsys.reports.sections.base import Context, Section, fill
from recsys.reports.shell import draw_chart

_TEMPLATE = """
{% from "chart.html.j2" import chart %}
{% from "tables.html.j2" import scores %}
<p class="lede">Right of the dashed line the decoder is better. Where a line crosses it, these customers cannot tell the
two apart.</p>
{{ chart(difference, "Difference in " ~ metric ~ ", customer by customer, with its interval.") }}
{{ scores("Decoder minus the system named, " ~ metric ~ ".", ["Difference in " ~ metric, "What that says"], rows) }}
"""


def _render(context: Context) -> Markup | None:
    alt = f"Decoder minus each other system, {context.metric}."
    chart = draw_chart("difference", alt, partial(charts.differences_figure, context.scores))
    if chart is None:
        return None
    return fill(_TEMPLATE, metric=context.metric, difference=chart, rows=_rows(context.scores))


def _rows(scores: Scores) -> list[Row]:
    """Return a row a baseline, the hardest rival first: the decoder's lead over it, and what that says."""
    metric, rows = scores.main_metric, []
    for name, interval in reversed(charts.ranked(scores.differences, metric)):
        says = {1: "decoder better", -1: "decoder worse", 0: "cannot be told apart"}[side(interval)]
        lead = ScoreCell(amount(metric, interval.value, signed=True), bounds(metric, interval, signed=True))
        rows.append(Row(system(name), [lead, ScoreCell(says, "")]))
    return rows


SECTION = Section("differences", "Differences", 30, _render, heading=lambda _: "The decoder against each other system")
