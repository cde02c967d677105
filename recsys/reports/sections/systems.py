"""The section that compares the systems."""

from functools import partial

from markupsafe import Markup

from recsys.reports import charts
from recsys.reports.glossary import metric_name, system
from recsys.reports.score_tables import score_rows, shown_metrics
from recsys.reports.sections.base import Context, Section, fill
from recsys.reports.shell import draw_chart

_TEMPLATE = """
{% from "chart.html.j2" import chart %}
{% from "tables.html.j2" import scores %}
<p class="lede">Each system gave every customer who was asked a list of products; then we looked at what the customer
bought. {{ metric }} rewards purchases near the top of the list. Anything simpler that does as well is the better choice
for a shop, so the simple rules stand beside the decoder.</p>
{{ scores("Scores" ~ over_all ~ ", best first. Brackets: interval over customers. Bold: best of its column.",
          metrics, systems, true) }}
{{ chart(forest, metric ~ over_all ~ ": dot is the value, line its interval.") }}
<details class="more all-cutoffs"><summary>All metrics and list lengths</summary>
{{ scores("Every metric at every list length" ~ over_all ~ ".", all_metrics, all_systems) }}
</details>
"""


def _render(context: Context) -> Markup:
    scores, metric = context.scores, context.metric
    shown = shown_metrics(scores)
    names = ", ".join(system(name).name for name in charts.ranking(scores))
    return fill(
        _TEMPLATE,
        metric=metric,
        over_all=context.over_all,
        metrics=[metric_name(name) for name in shown],
        systems=score_rows(scores, shown),
        all_metrics=[metric_name(name) for name in scores.metrics],
        all_systems=score_rows(scores, scores.metrics),
        forest=draw_chart(
            "forest", f"{metric} of each system, best first: {names}.", partial(charts.systems_figure, scores)
        ),
    )


SECTION = Section("systems", "Systems compared", 10, _render)
