"""The map for print: one figure whose legend and words can be read at a glance."""

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from recsys.data.item_names import shortened
from recsys.reports.figures import PALETTE, style
from recsys.reports.item_map.attributes import Attribute

#: Colours of categories, told apart by most people with a colour weakness too; the last is for what remains.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e6a700", "#56b4e9", "#7b3fa0", "#8a5a2b", "#c51b4a", "#9aa5ae")
N_CATEGORIES = len(COLOURS) - 1
#: Points up to which each is labelled with its name.
_FEW = 120
_N_WORDS = 24
#: Squares on each side of the plane, among which the fullest with a category gets its name. Finer ones name the
#: tightest of its groups, and leave the largest without.
_N_SQUARES = 14
_EDGE = 8  # pixels at the picture's edge without words


@style()
def picture(plane: np.ndarray, legend: Attribute, words: Attribute, title: str) -> Figure:
    """Return the map ``plane`` (N, 2) coloured by ``legend``, with ``words`` beside points, or where theirs crowd."""
    figure = Figure(figsize=(8.6, 6.2), layout="constrained")
    axes, is_few, shown = figure.subplots(), len(plane) <= _FEW, legend.largest(N_CATEGORIES)
    order = np.random.default_rng(0).permutation(len(plane))  # so that no category lies on top of all others
    size, colours = float(np.clip(16_000 / len(plane), 0.8, 40)), np.array(COLOURS)[shown.code[order]]
    x, y = plane[order].T
    axes.scatter(x, y, s=size, c=colours, alpha=0.9 if is_few else 0.7, linewidths=0, rasterized=True)
    counts = np.bincount(shown.code, minlength=len(shown.values))
    for value, colour, count in zip(shown.values, COLOURS, counts, strict=False):
        if count:
            axes.plot([], [], "o", ms=7, mew=0, color=colour, label=f"{shortened(value, 26)} ({count:,})")
    axes.set(title=title, xticks=[], yticks=[], aspect="equal")
    axes.margins(0.08 if is_few else 0.02)
    axes.spines["bottom"].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", title=legend.title, alignment="left", fontsize=8.5)
    (_name_points if is_few else _write_words)(axes, plane, words)
    return figure


def _name_points(axes: Axes, plane: np.ndarray, words: Attribute) -> None:
    """Write each point's category beside it, right or left, where nothing stands yet; else nowhere."""
    near: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7}
    beside = [
        axes.annotate(shortened(words.values[code], 22), (x, y), (5 * side, 0), ha=align, **near)
        for (x, y), code in zip(plane, words.code, strict=True)
        for side, align in ((1, "left"), (-1, "right"))
    ]
    _keep_apart(axes, beside, plane)


def _write_words(axes: Axes, plane: np.ndarray, words: Attribute) -> None:
    """Write the largest categories where their items are densest, none over another."""
    counts = np.bincount(words.code)
    square = np.floor(plane / (np.ptp(plane, axis=0) / _N_SQUARES)).astype(np.int64)
    bold: dict[str, Any] = {"va": "center", "fontsize": 8.5, "weight": "bold"}
    written: list[Annotation] = []
    for code in np.argsort(-counts, kind="stable")[: 2 * _N_WORDS]:
        if not counts[code]:
            break
        own = words.code == code
        _, member, count = np.unique(square[own], axis=0, return_inverse=True, return_counts=True)
        x, y = plane[own][member == count.argmax()].mean(axis=0)
        # In the middle of its items, or, at the picture's edge or where another stands, to one side of it.
        sides = ("center", "left", "right")
        written += [axes.annotate(shortened(words.values[code], 22), (x, y), ha=align, **bold) for align in sides]
    for text in written:
        text.set_path_effects([effects.withStroke(linewidth=2.6, foreground=PALETTE["ground"])])
    _keep_apart(axes, written, np.zeros((0, 2)))
    for surplus in axes.texts[_N_WORDS:]:
        surplus.remove()


def _keep_apart(axes: Axes, texts: Sequence[Annotation], points: np.ndarray) -> None:
    """Remove texts that touch the edge, lie over the legend, an earlier text or ``points`` (N, 2), or share a place."""
    figure = axes.get_figure(root=True)
    if figure is None:
        return
    for text in texts:
        text.set_in_layout(False)
    figure.draw_without_rendering()
    room = figure.bbox.padded(-_EDGE)
    dots = axes.transData.transform(points) if len(points) else points
    kept: list[Bbox] = [legend.get_window_extent() for legend in figure.legends]
    named: set[tuple[float, float]] = set()
    for text in texts:
        # With room to the next, so that two names are not read as one, and without the line from the text to its point.
        box, place = Text.get_window_extent(text).padded(3), (float(text.xy[0]), float(text.xy[1]))
        low, high = np.array(box.min), np.array(box.max)
        is_whole = bool((low >= room.min).all() and (high <= room.max).all())
        covers_dots = ((dots > low - 3) & (dots < high + 3)).all(axis=1).any()
        is_free = not covers_dots and not any(box.overlaps(other) for other in kept)
        if is_whole and is_free and place not in named:
            kept.append(box)
            named.add(place)
        else:
            text.remove()
