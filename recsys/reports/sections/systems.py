"""The section that compares the systems."""

from markupsafe import Markup

from recsys.evaluation.metrics import all_metrics
from recsys.reports import charts
from recsys.reports.sections.base import Context, Section, draw_chart, fill, score_rows


def _render(context: Context) -> Markup:
    scores = context.scores
    ranked = list(charts.ranked(scores.systems, scores.main_metric))
    names = list(dict.fromkeys([*ranked, *scores.systems]))
    # Shown at first: all known metrics at the cutoff of the main one.
    known = [name for base in all_metrics() for name in (base, f"{base}@{scores.k}")]
    shown = [name for name in known if name in scores.metrics] or scores.metrics[:6]
    few = score_rows([(scores.systems, metric) for metric in shown], names)
    tables = {"systems": few, "all_systems": score_rows([(scores.systems, metric) for metric in scores.metrics], names)}
    forest = draw_chart("forest", charts.systems_figure, scores)
    return fill("sections/systems.html.j2", context=context, ranked=ranked, metrics=shown, forest=forest, **tables)


SECTION = Section("systems", "Systems compared", 10, _render)
