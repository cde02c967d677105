"""The section on item maps of the run, and of runs beside it."""

from markupsafe import Markup

from recsys.reports import charts
from recsys.reports.item_map.files import load_maps
from recsys.reports.sections.base import Context, Section, draw_chart, fill
from recsys.runs import LOG_FILE


def _render(context: Context) -> Markup | None:
    maps, beside = load_maps(context.run), []
    for number, run in enumerate(context.beside):
        curves = draw_chart(f"beside{number}", charts.curves_figure, charts.read_log(run.folder / LOG_FILE))
        beside.append((run, curves, load_maps(run, context.run)))
    return fill("sections/maps.html.j2", maps=maps, beside=beside) if maps or beside else None


SECTION = Section("maps", "Maps of the items", 70, _render)
