import re
from xml.etree import ElementTree

import numpy as np
import pytest

from recsys.evaluation.results import Interval
from recsys.reports import figures
from recsys.reports.figures import Line, Mark

MARKS = [Mark("Decoder", Interval(0.2, 0.1, 0.3), "0.200", highlight=True), Mark("Buy again", Interval(0.15))]
LINES = [Line("training", np.arange(3.0), np.array([3.0, 2.0, 1.0]))]
DRAWN = {
    "forest": lambda width: figures.forest(MARKS, "MAP@12", width=width),
    "differences": lambda width: figures.forest(MARKS, "MAP@12", width=width, zero=True),
    "panels": lambda width: figures.panels([("a week", MARKS), ("another", MARKS[:1])], "MAP@12", width=width),
    "dots": lambda width: figures.dots(["all", "few"], [("Decoder", [Interval(0.1), None])], "MAP@12", width=width),
    "curves": lambda width: figures.curves([("Loss", LINES), ("MAP", LINES)], "step", width=width),
}


@pytest.mark.parametrize("width", [8.0, 3.9])
@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_becomes_one_svg_element_whose_colours_the_page_decides(name, width):
    svg = figures.to_svg(DRAWN[name](width), name)
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314 - text made a line above
    assert "var(--chart-accent)" in svg
    assert not [colour for colour in figures.PALETTE.values() if colour in svg]


@pytest.mark.parametrize("name", DRAWN)
def test_ids_of_two_figures_on_a_page_never_meet(name):
    first, second = (figures.to_svg(DRAWN[name](8.0), prefix) for prefix in ("a", "b"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', first))
    assert used <= ids[0]


def test_equal_figures_are_equal_bytes(tmp_path):
    for image in ("png", "svg"):
        paths = [tmp_path / f"{number}.{image}" for number in range(2)]
        for path in paths:
            figures.save(DRAWN["forest"](8.0), path, image)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_names_are_escaped_and_dollars_are_no_formula():
    svg = figures.to_svg(figures.forest([Mark("<b> & $5 or $6", Interval(0.1))], "MAP@12", width=8), "x")
    assert "&lt;b&gt; &amp; $5 or $6" in svg


def test_an_interval_is_drawn_from_its_low_end_to_its_high_end():
    axes = figures.forest(MARKS, "MAP@12", width=8).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines[:2]] == [[0.1, 0.3], [0.2]]


def test_a_system_missing_in_one_window_keeps_its_row_there():
    gap = [MARKS[0], Mark("Buy again", None)]
    places = figures.panels([("one", MARKS), ("other", gap)], "MAP@12", width=8).axes
    assert [place.get_ylim() for place in places] == [(1.6, -0.6)] * 2
    assert [len(place.lines) for place in places] == [4, 2]


def test_the_axis_of_all_windows_reaches_from_zero_to_the_highest_of_any():
    higher = [Mark("Decoder", Interval(0.7, 0.6, 0.8))]
    places = figures.panels([("one", MARKS), ("other", higher)], "MAP@12", width=8).axes
    limits = {place.get_xlim() for place in places}
    assert len(limits) == 1
    ((low, high),) = limits
    assert low == 0
    assert 0.8 < high < 1


def test_the_best_point_of_a_curve_is_named_only_where_it_is_asked_for():
    x, y = np.arange(3.0), np.array([0.1, 0.3, 0.2])
    titled = [("MAP", [Line("map", x, y, name_highest=True)]), ("Loss", [Line("loss", x, y)])]
    quality, loss = figures.curves(titled, "step", width=8).axes
    assert [text.get_text() for text in quality.texts] == ["best 0.300"]
    assert not loss.texts


@pytest.mark.parametrize("width", [8.0, 3.9])
def test_the_legend_of_curves_lies_on_no_curve_and_names_each_once(width):
    x = np.arange(50.0)
    lines = [Line("training", x, x), Line("validation", x, 50 - x, colour="second")]
    figure = figures.curves([("Loss", lines), ("Entropy", lines)], "step", width=width)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]
    assert not any(legend.get_window_extent().overlaps(axes.bbox) or axes.get_legend() for axes in figure.axes)


@pytest.mark.parametrize("width", [8.0, 3.9])
def test_every_value_is_in_a_bar_and_the_last_one_holds_those_far_off(width):
    values = np.concatenate([np.repeat([1, 2, 3], 100), [500]])
    near, far = figures.histograms([("near", values[:-1]), ("far", values)], "customers", width=width).axes
    assert [bar.get_height() for bar in near.patches][:3] == [100, 100, 100]
    assert sum(bar.get_height() for bar in far.patches) == 301
    assert [axes.get_xlabel() for axes in (near, far)] == ["", "the last bar: 3 and more"]
