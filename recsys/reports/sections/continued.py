"""The section on continued histories, which :mod:`recsys.reports.generated` shows on a page of its own too."""

from markupsafe import Markup

from recsys.reports.generated import load_continued
from recsys.reports.sections.base import Context, Section, fill


def _render(context: Context) -> Markup | None:
    continued = load_continued(context.run, context.data)
    return None if continued is None else fill("sections/continued.html.j2", run=context.run, continued=continued)


SECTION = Section("continued", "Histories continued", 80, _render)
