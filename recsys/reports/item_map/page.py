"""The map for exploring: one HTML page without a network, drawn by WebGL, so that 100,000 points stay smooth."""

import base64
import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recsys.reports.item_map.attributes import Attribute
from recsys.reports.item_map.layout import Layout
from recsys.reports.item_map.picture import COLOURS, N_CATEGORIES
from recsys.reports.shell import fill


def render(
    layout: Layout, names: Sequence[str], legend: Attribute, attributes: Sequence[Attribute], *, title: str, note: str
) -> str:
    """Return the page, its points coloured by ``legend`` at first, and by any of the ``attributes`` at choice.

    All of these and the name of the item are shown of the point under the pointer. ``note`` stands below the title.
    """
    all_attributes = {one.name: one for one in (legend, *attributes)}
    data = {
        "points": {name: _packed(column, "<f4") for name, column in layout.columns().items()},
        "names": _dictionary(names),
        "attributes": [_attribute(one) for one in all_attributes.values()],
        "colours": COLOURS,
        "largest": N_CATEGORIES,
    }
    plotly = Markup(get_plotlyjs())  # noqa: S704 - the library itself, out of its package
    return fill("map.html.j2", title=title, note=note, data=in_script(data), plotly=plotly, n_items=len(names))


def in_script(value: Any) -> Markup:  # noqa: ANN401 - whatever JSON can hold
    r"""Return ``value`` as JSON that may stand inside a ``<script>``: no tag can begin in it.

    >>> print(in_script("</script>"))
    "\u003c/script>"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def _packed(column: np.ndarray, dtype: str = "<i4") -> str:
    return base64.b64encode(column.astype(dtype).tobytes()).decode()


def _dictionary(texts: Sequence[str]) -> dict[str, Any]:
    """Return distinct texts once, and the place of each item's among them; Plotly reads tags in what it shows."""
    values, code = np.unique(np.array(texts), return_inverse=True)
    return {"values": [html.escape(value) for value in values.tolist()], "code": _packed(code)}


def _attribute(one: Attribute) -> dict[str, Any]:
    label = one.name.removesuffix("_name").replace("_", " ")
    return {"name": label, "values": [html.escape(value) for value in one.values], "code": _packed(one.code)}
