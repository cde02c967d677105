"""Charts of scores and training logs, drawn with Matplotlib: each function returns a figure of the width asked for.

In the SVG of a page colours are CSS variables, so that it can be shown on a light or a dark ground.
"""

import io
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import matplotlib as mpl
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from recsys.evaluation.results import Interval
from recsys.storage import replacing

T = TypeVar("T")
#: What is drawn, each with its name.
Titled: TypeAlias = Sequence[tuple[str, T]]
#: name of the CSS variable (``--chart-<name>``) → colour on a light ground
PALETTE = {
    "ink": "#1d2730",
    "muted": "#5c6873",
    "grid": "#dde2e6",
    "ground": "#fffefd",
    "accent": "#b4372b",
    "second": "#1f6f8b",
    "third": "#8a6d1d",
    "plain": "#7b8893",
}

#: Inches; below this width labels go above their marks and panels below one another.
NARROW = 5.0

_read_style: Any = mpl.rc_params_from_file  # its stub lists every key by name
_SETTINGS: Any = {
    **_read_style(Path(__file__).with_name("figures.mplstyle"), use_default_template=False),
    **dict.fromkeys(("axes.titlecolor", "legend.labelcolor", "text.color", "ytick.color"), PALETTE["ink"]),
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color"), PALETTE["muted"]),
    "figure.facecolor": PALETTE["ground"],
    "grid.color": PALETTE["grid"],
}
_UNDATED: dict[str, str | None] = {"Date": None, "Creator": None}


class Mark(NamedTuple):
    """One row of a chart: a name, its interval (None: an empty row) and whether it is the one looked at."""

    label: str
    interval: Interval | None
    text: str = ""  # written beside the interval
    highlight: bool = False


class Line(NamedTuple):
    """One curve: ``x`` and ``y`` of equal length (n,), n ≥ 1; ``name_highest`` writes its best value beside it."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str = "accent"
    faint: bool = False
    name_highest: bool = False


#: Lets Matplotlib draw in the project's style as long as it is open, or in a function that it decorates.
style = partial(mpl.rc_context, _SETTINGS)


@style()
def forest(marks: Sequence[Mark], xlabel: str, *, width: float, zero: bool = False) -> Figure:
    """Return one row a mark, its value as a dot, its interval as a line; ``zero`` draws the line of no difference."""
    figure, (axes,) = _panels(1, width, 0.75 + 0.36 * len(marks))
    if zero:
        axes.axvline(0, color=PALETTE["muted"], lw=1, ls="--")
    _rows(axes, marks, xlabel, width)
    if not zero:
        axes.set_xlim(left=0)
    return figure


@style()
def panels(titled: Titled[Sequence[Mark]], xlabel: str, *, width: float) -> Figure:
    """Return one forest a title, on a common axis: beside one another, or below where ``width`` (inches) is narrow."""
    height = 0.9 + 0.28 * max(len(marks) for _, marks in titled)
    figure, axes = _panels(len(titled), width, height, most_beside=3, on_common_axes=True)
    for place, (title, marks) in zip(axes, titled, strict=False):
        _rows(place, marks, xlabel, width)
        place.set_title(title)
    axes[0].set_xlim(left=0)  # of all panels, once all are drawn: it fixes the right end too
    return figure


@style()
def dots(rows: Sequence[str], series: Titled[Sequence[Interval | None]], xlabel: str, *, width: float) -> Figure:
    """Return a row a name with one dot a series, the first series being the one looked at."""
    figure, (axes,) = _panels(1, width, 1.15 + 0.42 * len(rows))
    for number, (label, intervals) in enumerate(series):
        colour, shape = PALETTE[("accent", "second", "third", "plain")[number % 4]], "oDs^"[number % 4]
        offset = (number - (len(series) - 1) / 2) * 0.2
        found = [(row + offset, interval) for row, interval in enumerate(intervals) if interval is not None]
        for place, interval in found:
            axes.plot(interval.bounds, [place] * 2, color=colour, lw=1.6, alpha=0.7)
        values, places = [interval.value for _, interval in found], [place for place, _ in found]
        axes.plot(values, places, shape, color=colour, ms=6, label=label, ls="none")
    axes.set_yticks(range(len(rows)), [_broken(name, width) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _finish(axes, xlabel)
    _legend(figure, width)
    return figure


@style()
def curves(titled: Titled[Sequence[Line]], xlabel: str, *, width: float) -> Figure:
    """Return one panel a title with its curves, and above them a legend of those that share a panel."""
    figure, axes = _panels(len(titled), width, 2.7)
    for place, (title, lines) in zip(axes, titled, strict=True):
        for line in lines:
            colour, (thick, alpha) = PALETTE[line.colour], (0.8, 0.45) if line.faint else (2, 1)
            marker = "o" if len(line.x) < 40 and not line.faint else None
            place.plot(line.x, line.y, color=colour, label=line.label, lw=thick, alpha=alpha, marker=marker, ms=4)
            if line.name_highest:
                best = int(np.argmax(line.y))
                highest, align = (line.x[best], line.y[best]), "right" if best > len(line.x) / 2 else "left"
                place.plot(*highest, "o", color=colour, ms=8)
                beside: dict[str, Any] = {"textcoords": "offset points", "ha": align, "weight": "bold"}
                place.annotate(f"best {line.y[best]:.3f}", highest, (0, 8), **beside)
        place.set_title(title)
        _finish(place, xlabel, axis="both")
        place.margins(y=0.15)
    # Inside a panel a legend would lie on curves: they fill it from one side to the other.
    _legend(figure, width, [place for place in axes if len(place.lines) > 1])
    return figure


@style()
def histograms(titled: Titled[np.ndarray], ylabel: str, *, width: float) -> Figure:
    """Return a panel a title of where its values (n,), n ≥ 1, lie; the last bar holds all above percentile 99."""
    figure, axes = _panels(len(titled), width, 2.7)
    for place, (title, values) in zip(axes, titled, strict=True):
        lowest, highest = values.min(), np.percentile(values, 99, method="higher")
        step = max(int(np.ceil((highest - lowest + 1) / 30)), 1)  # at most thirty bars of equal whole width
        bins = np.arange(np.floor(lowest), highest + step + 1, step) - 0.5
        place.hist(np.minimum(values, highest), bins=bins, color=PALETTE["second"])
        place.set(title=title, ylabel=ylabel)
        _finish(place, f"the last bar: {highest:,.0f} and more" if values.max() > highest else "", axis="both")
    return figure


@style()
def bars(rows: Sequence[str], series: Titled[np.ndarray], ylabel: str, xlabel: str, *, width: float) -> Figure:
    """Return a group of bars a name of ``rows``, one bar a series; values (len(rows),) are shares of 1."""
    figure, (axes,) = _panels(1, width, 3.0)
    thick = 0.8 / len(series)
    for number, (label, values) in enumerate(series):
        left = np.arange(len(rows)) + (number - (len(series) - 1) / 2) * thick
        colour = PALETTE[("accent", "second", "plain")[number % 3]]
        axes.bar(left, values, thick * 0.92, color=colour, label=label)
    shown = range(0, len(rows), -(-len(rows) // (7 if width < NARROW else 15)))
    axes.set_xticks(list(shown), [rows[place] for place in shown])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(True, axis="y", lw=0.8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _legend(figure, width)
    return figure


@style()
def grids(titled: Titled[np.ndarray], names: Sequence[str], ylabel: str, xlabel: str, *, width: float) -> Figure:
    """Return one square of shares (C, C) a title, each row, which says what came before, divided by its sum."""
    narrow = width < NARROW
    figure, axes = _panels(len(titled), width, (width if narrow else width / len(titled)) + 0.9)
    ends, places = (-0.5, len(names) - 0.5), range(len(names))
    for number, (place, (title, share)) in enumerate(zip(axes, titled, strict=True)):
        total = share.sum(axis=1, keepdims=True)
        of_row = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
        for y, x in np.argwhere(of_row > 0):
            side = np.sqrt(of_row[y, x]) * 0.96  # its area says how large it is, on a light and on a dark ground
            place.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, color=PALETTE["second"], lw=0))
        place.set(title=title, xlabel=xlabel, xlim=ends, ylim=ends[::-1], aspect="equal")
        place.tick_params(labelsize=8)
        place.grid(True, lw=0.4)
        place.set_xticks(places, names, rotation=90)
        place.set_yticks(places, names if narrow or not number else [""] * len(names))
    axes[0].set_ylabel(ylabel)
    return figure


@style()
def save(figure: Figure, path: Path, image: Literal["png", "svg"]) -> None:
    """Write ``figure`` to ``path``, whole or not at all; equal figures give equal bytes."""
    with replacing(path) as aside:
        figure.savefig(aside, format=image, dpi=160, metadata=_UNDATED if image == "svg" else None)


@style()
def to_svg(figure: Figure, name: str) -> str:
    """Return ``figure`` as an ``<svg>`` element for a page, its ids prefixed by ``name``, its colours CSS variables."""
    with io.StringIO() as stream:
        figure.savefig(stream, format="svg", transparent=True, metadata=_UNDATED)
        svg = "<svg" + stream.getvalue().partition("<svg")[2]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href").replace("'DejaVu Sans'", "inherit").replace(", sans-serif", "")
    for colour, value in PALETTE.items():
        svg = svg.replace(value, f"var(--chart-{colour})")
    return svg.strip()


def _panels(
    n: int, width: float, height: float, most_beside: int = 9, *, on_common_axes: bool = False
) -> tuple[Figure, np.ndarray]:
    """Return a figure of ``n`` panels of this height beside one another (below where it is narrow), and its axes."""
    columns = 1 if width < NARROW else min(n, most_beside)
    rows = -(-n // columns)
    figure = Figure(figsize=(width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=on_common_axes, sharey=on_common_axes, squeeze=False).ravel()
    for surplus in axes[n:]:
        surplus.remove()
    return figure, axes[:n]


def _legend(figure: Figure, width: float, axes: Sequence[Axes] | None = None) -> None:
    """Draw one legend above the panels ``axes``, each label once; none where nothing has a label."""
    drawn = [place.get_legend_handles_labels() for place in (figure.axes if axes is None else axes)]
    named = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels, strict=True)}
    if named:
        columns = 1 if width < NARROW else len(named)
        figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=columns)


def _broken(label: str, width: float) -> str:
    """Break a label at its middle blank where the figure is too narrow for it."""
    blanks = [place for place, letter in enumerate(label) if letter == " "]
    if width >= NARROW or len(label) < 16 or not blanks:
        return label
    middle = min(blanks, key=lambda place: abs(place - len(label) / 2))
    return f"{label[:middle]}\n{label[middle + 1 :]}"


def _rows(axes: Axes, marks: Sequence[Mark], xlabel: str, width: float) -> None:
    weights = ["bold" if mark.highlight else "normal" for mark in marks]
    for row, mark in enumerate(marks):
        if mark.interval is None:
            continue
        colour, (thick, size) = ("accent", (3.2, 7.5)) if mark.highlight else ("plain", (2.2, 6))
        axes.plot(mark.interval.bounds, [row, row], color=PALETTE[colour], lw=thick, alpha=0.75)
        axes.plot(mark.interval.value, row, "o", color=PALETTE[colour], ms=size, clip_on=False)
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
        written = axes.annotate(mark.text, (mark.interval.bounds[1], row), (7, 0), weight=weights[row], **beside)
        # Over the line of zero.
        written.set_path_effects([effects.withStroke(linewidth=3, foreground=PALETTE["ground"])])
    axes.set_yticks(range(len(marks)), [_broken(mark.label, width) for mark in marks])
    for label, weight in zip(axes.get_yticklabels(), weights, strict=False):  # panels further right have no labels
        label.set_fontweight(weight)
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.margins(x=0.15 if any(mark.text for mark in marks) else 0.06)
    _finish(axes, xlabel)


def _finish(axes: Axes, xlabel: str, *, axis: Literal["x", "both"] = "x") -> None:
    axes.grid(True, axis=axis, lw=0.8)
    axes.set_xlabel(xlabel)
    axes.locator_params(axis="x", nbins=5)
