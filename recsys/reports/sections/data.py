"""The section on the data."""

from markupsafe import Markup

from recsys.config import Config
from recsys.data.days import day_date
from recsys.data.sources import all_sources
from recsys.reports.glossary import flattened
from recsys.reports.sections.base import Context, Section, fill
from recsys.storage import read_json


def source_note(config: Config) -> str:
    """Return where the data come from and what must be said wherever they are used."""
    source = all_sources().get(config.data.source)
    return config.data.source if source is None else source.note


def _render(context: Context) -> Markup:
    data = context.data
    path = data.folder and data.folder / "report.json"
    report = list(flattened(read_json(path))) if path is not None and path.is_file() else []
    days = [day_date(day).isoformat() for day in (data.first_day, data.last_day)]
    note = source_note(context.run.config)
    return fill("sections/data.html.j2", note=note, context=context, days=days, report=report)


SECTION = Section("data", "Data", 90, _render)
