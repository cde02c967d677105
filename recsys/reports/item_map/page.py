"""The map for exploring: one HTML page without a network, drawn by WebGL, so that 100,000 points stay smooth."""

import base64
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from recsys.reports.item_map.attributes import Attribute
from recsys.reports.item_map.layout import Layout
from recsys.reports.item_map.picture import COLOURS, N_CATEGORIES
from recsys.reports.shell import fill


def render(
    layout: Layout, names: Sequence[str], legend: Attribute, attributes: Sequence[Attribute], *, title: str
) -> str:
    """Return the page, its points coloured by ``legend`` at first, and by any of the ``attributes`` at choice."""
    all_attributes = {one.name: one for one in (legend, *attributes)}
    distinct, code = np.unique(np.array(names), return_inverse=True)
    data = {
        "points": {name: _packed(column, "<f4") for name, column in layout.columns().items()},
        "names": _column(distinct.tolist(), code),
        "attributes": [{"name": one.title} | _column(one.values, one.code) for one in all_attributes.values()],
        "colours": COLOURS,
        "largest": N_CATEGORIES,
    }
    return fill("map.html.j2", title=title, data=data, plotly=get_plotlyjs(), n_items=len(names))


def _column(values: Sequence[str], code: np.ndarray) -> dict[str, Any]:
    """Return distinct texts once, and the place of each item's among them; Plotly reads tags in what it shows."""
    return {"values": [html.escape(value) for value in values], "code": _packed(code, "<i4")}


def _packed(column: np.ndarray, dtype: str) -> str:
    return base64.b64encode(column.astype(dtype).tobytes()).decode()
