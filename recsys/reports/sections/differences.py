"""The section on the decoder's lead over each other system."""

from markupsafe import Markup

from recsys.reports import charts
from recsys.reports.glossary import amount, bounds, side
from recsys.reports.sections.base import Context, ScoreCell, Section, draw_chart, fill

_SAID = {1: "decoder better", -1: "decoder worse", 0: "cannot be told apart"}


def _render(context: Context) -> Markup | None:
    scores, metric = context.scores, context.scores.main_metric
    chart = draw_chart("difference", charts.differences_figure, scores)
    if chart is None:
        return None
    rows = []
    for name, lead in reversed(charts.ranked(scores.differences, metric).items()):  # the hardest rival first
        cell = ScoreCell(amount(metric, lead.value, signed=True), bounds(metric, lead, signed=True))
        rows.append((name, [cell, ScoreCell(_SAID[side(lead)])]))
    return fill("sections/differences.html.j2", context=context, difference=chart, rows=rows)


SECTION = Section("differences", "Differences", 30, _render, heading=lambda _: "The decoder against each other system")
