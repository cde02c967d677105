"""The section that looks at some customers or purchases at a time."""

from markupsafe import Markup

from recsys.reports import charts
from recsys.reports.sections.base import Context, Section, draw_chart, fill, score_cells
from recsys.schema import DECODER


def _render(context: Context) -> Markup | None:
    scores, metric = context.scores, context.scores.main_metric
    if not scores.segments:
        return None
    # At first sight: the decoder, its best rival, the best sellers.
    rivals = [name for name in charts.ranked(scores.systems, metric) if name != DECODER][:1]
    few = dict.fromkeys([DECODER, *rivals, "popularity_week", "popularity"])
    tables = {"few": [name for name in few if name in scores.systems][:3], "all": list(scores.systems)}
    drawn = draw_chart("segment", charts.segments_figure, scores, tables["few"])
    rows = {
        name: [(segment, score_cells(table, metric, systems)) for segment, table in scores.segments.items()]
        for name, systems in tables.items()
    }
    return fill("sections/segments.html.j2", context=context, drawn=drawn, systems=tables, rows=rows)


SECTION = Section("segments", "For whom it works", 40, _render)
