"""The section that shows each held-out window."""

from markupsafe import Markup

from recsys.reports import charts
from recsys.reports.sections.base import Context, Section, draw_chart, fill, score_rows


def _render(context: Context) -> Markup | None:
    if not context.is_weekly:
        return None
    scores, metric = context.scores, context.scores.main_metric
    folds = draw_chart("folds", charts.folds_figure, scores)
    rows = score_rows([(fold.systems, metric) for fold in scores.folds], list(charts.ranked(scores.systems, metric)))
    return fill("sections/windows.html.j2", context=context, folds=folds, rows=rows)


SECTION = Section("windows", "Week by week", 20, _render)
