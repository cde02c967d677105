"""What all pages of a run share: templates, style, figures in two widths of which the page shows the one that fits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from recsys.reports import figures

_TEMPLATES = Path(__file__).parent / "templates"
_WIDE, _NARROW = 8.4, 3.9  # inches


@dataclass(frozen=True)
class Chart:
    """A figure in two widths, and what it shows in words."""

    wide: Markup
    compact: Markup
    alt: str


def environment() -> Environment:
    """Return the templates, which escape what they are given and refuse what they are not."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_style() -> Markup:
    """Return the style sheet that every page holds inside."""
    return Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def draw_chart(name: str, alt: str, draw: Callable[..., Figure | None]) -> Chart | None:
    """Return what ``draw`` gives for a width in inches, its ids beginning with ``name``; None where it gives none."""
    wide, compact = draw(width=_WIDE), draw(width=_NARROW)
    if wide is None or compact is None:
        return None
    return Chart(_svg(wide, name), _svg(compact, f"{name}-narrow"), alt)


def _svg(figure: Figure, name: str) -> Markup:
    return Markup(figures.to_svg(figure, name))  # noqa: S704 - Matplotlib escapes the text it draws
