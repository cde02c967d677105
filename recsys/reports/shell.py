"""What all pages share: templates, and figures in two widths of which a page shows the one that fits."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from recsys.data.item_names import long_date
from recsys.reports import figures
from recsys.reports.glossary import metric_name, ordinary, per_hundred, segment, system

REPORT_FILE = "index.html"
_WIDE, _NARROW = 8.4, 3.9  # inches


class Chart(NamedTuple):
    """A figure as SVG in two widths, for the macro of ``chart.html.j2``."""

    wide: str
    compact: str


@cache
def _environment() -> Environment:
    """Return what reads templates; it escapes what they are given, and refuses names that they are not given."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    texts = (long_date, metric_name, ordinary, per_hundred)
    found.filters.update({function.__name__: function for function in texts})
    found.globals.update(segment=segment, system=system)
    return found


def fill(template: str, **values: Any) -> Markup:  # noqa: ANN401 - whatever a template can show
    """Return a Jinja template, a text or the name of a file in ``templates``, filled with ``values``, now escaped.

    >>> fill("<p>{{ name }}</p>", name="Bits & Bobs")
    Markup('<p>Bits &amp; Bobs</p>')
    """
    named = template.endswith(".html.j2")
    found = _environment().get_template(template) if named else _environment().from_string(template)
    return Markup(found.render(values))  # noqa: S704 - the environment escapes


def draw_chart(name: str, draw: Callable[..., Figure | None], *given: Any) -> Chart | None:  # noqa: ANN401
    """Return what ``draw`` makes of ``given`` for a width in inches, its ids beginning with ``name``; None for none."""
    wide, compact = draw(*given, width=_WIDE), draw(*given, width=_NARROW)
    if wide is None or compact is None:
        return None
    return Chart(figures.to_svg(wide, name), figures.to_svg(compact, f"{name}-narrow"))
