"""The section on the data."""

from markupsafe import Markup

from recsys.reports import method
from recsys.reports.sections.base import Context, Section, fill
from recsys.storage import read_json

_TEMPLATE = """
{% from "tables.html.j2" import pairs %}
<p class="note">{{ note }}</p>
{{ pairs("What the decoder and the rules saw.", facts) }}
{% if report %}
{{ pairs("What was found when the raw purchases were read, and what was dropped by which rule.", report) }}
{% endif %}
"""


def _render(context: Context) -> Markup:
    folder = context.data.folder
    path = None if folder is None else folder / "report.json"
    return fill(
        _TEMPLATE,
        note=method.source_note(context.run.config),
        facts=method.data_facts(context.data, context.run.config),
        report=list(method.flattened(read_json(path))) if path is not None and path.is_file() else [],
    )


SECTION = Section("data", "Data", 90, _render)
