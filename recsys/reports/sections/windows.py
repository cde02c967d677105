"""The section that shows each held-out window."""

from functools import partial

from markupsafe import Markup

from recsys.data.item_names import long_date
from recsys.reports import charts
from recsys.reports.glossary import system
from recsys.reports.score_tables import Row, best_value, score_cell
from recsys.reports.sections.base import Context, Section, fill
from recsys.reports.shell import draw_chart
from recsys.schema import DECODER

_TEMPLATE = """
{% from "chart.html.j2" import chart %}
{% from "tables.html.j2" import scores %}
<p class="lede">A result that holds in one window only is luck. Each panel is one window, by the day it begins.</p>
{{ chart(folds, metric ~ " of each system in each window, in the order of the table above.") }}
{{ scores(metric ~ " in each window.", names, rows) }}
"""


def _render(context: Context) -> Markup | None:
    if not context.is_weekly:
        return None
    scores, metric = context.scores, context.scores.main_metric
    best = [best_value(fold.systems, metric) for fold in scores.folds]
    rows = [
        Row(
            system(name),
            [score_cell(fold.systems.get(name, {}), metric, top) for fold, top in zip(scores.folds, best, strict=True)],
            highlight=name == DECODER,
        )
        for name in charts.ranking(scores)
    ]
    alt = f"{context.metric} of each system in each window."
    return fill(
        _TEMPLATE,
        metric=context.metric,
        folds=draw_chart("folds", alt, partial(charts.folds_figure, scores)),
        names=[long_date(fold.start) for fold in scores.folds],
        rows=rows,
    )


SECTION = Section("windows", "Week by week", 20, _render)
