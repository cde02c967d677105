"""The section on how training went."""

from markupsafe import Markup

from recsys.reports import charts
from recsys.reports.sections.base import Context, Section, draw_chart, fill
from recsys.runs import HELD_OUT_FILE
from recsys.storage import read_json


def _render(context: Context) -> Markup:
    config, path = context.run.config, context.run.report_folder / HELD_OUT_FILE
    curves = draw_chart("curves", charts.curves_figure, context.log)
    held_out = read_json(path) if config.original.family is not None and path.is_file() else None
    return fill("sections/training.html.j2", config=config, curves=curves, held_out=held_out)


SECTION = Section("training", "Training", 50, _render)
