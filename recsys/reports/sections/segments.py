"""The section that looks at some customers or purchases at a time."""

from functools import partial

from markupsafe import Markup

from recsys.evaluation.results import Scores
from recsys.reports import charts
from recsys.reports.glossary import ordinary, segment, system
from recsys.reports.score_tables import Row, best_value, score_cell
from recsys.reports.sections.base import Context, Section, fill
from recsys.reports.shell import draw_chart
from recsys.schema import DECODER

_TEMPLATE = """
{% from "chart.html.j2" import chart %}
{% from "tables.html.j2" import cell %}
{% macro by_segment(caption, names, rows) %}
<div class="scroll" tabindex="0" role="group" aria-label="{{ caption }}">
<table class="explained">
  <caption>{{ caption }}</caption>
  <thead><tr><th scope="col">Segment</th><th scope="col">Size</th>
    {%- for name in names %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for size, row in rows %}
  <tr><th scope="row">{{ row.term.name }}<small>{{ row.term.meaning }}</small></th><td>{{ size or "–" }}</td>
    {% for one in row.cells %}{{ cell(one) }}{% endfor %}</tr>
  {% endfor %}
  </tbody>
</table>
</div>
{% endmacro %}
<p class="lede">The same lists, looked at for one kind of customer or purchase at a time. Segments overlap;
their size, in brackets below, is how many customers have such a purchase.</p>
{{ chart(segment, metric ~ " in each segment; lines are intervals.") }}
{{ by_segment(metric ~ " by segment. Bold: best of its row.", few_names, few) }}
{% if all_names | length > few_names | length %}
<details class="more all-cutoffs"><summary>All systems by segment</summary>
{{ by_segment(metric ~ " of every system by segment. Bold: best of its row.", all_names, all) }}
</details>
{% endif %}
"""


def _render(context: Context) -> Markup | None:
    scores = context.scores
    if not scores.segments:
        return None
    few, every = _compared(scores), list(scores.systems)
    names = [system(name).name for name in few]
    alt = f"{context.metric} in each segment for {', '.join(names)}."
    return fill(
        _TEMPLATE,
        metric=context.metric,
        segment=draw_chart("segment", alt, partial(charts.segments_figure, scores, few)),
        few_names=names,
        few=_rows(scores, few),
        all_names=[system(name).name for name in every],
        all=_rows(scores, every),
    )


def _compared(scores: Scores) -> list[str]:
    """Return the systems that are shown at first sight: the decoder, its best rival, the best sellers."""
    rivals = [name for name in charts.ranking(scores) if name != DECODER][:1]
    names = dict.fromkeys([DECODER, *rivals, "popularity_week", "popularity"])
    return [name for name in names if name in scores.systems][:3]


def _rows(scores: Scores, systems: list[str]) -> list[tuple[str, Row]]:
    """Return a row a segment with its size, which is empty where it is not known."""
    rows = []
    for name, table in scores.segments.items():
        best = best_value({one: table[one] for one in systems if one in table}, scores.main_metric)
        cells = [score_cell(table.get(one, {}), scores.main_metric, best) for one in systems]
        size = scores.segment_sizes.get(name)
        rows.append(("" if size is None else ordinary(size), Row(segment(name), cells)))
    return rows


SECTION = Section("segments", "For whom it works", 40, _render)
