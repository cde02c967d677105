"""What is known of items, as categories: which columns a map is coloured by, judged by and labelled with."""

from itertools import islice
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from recsys import schema
from recsys.errors import UsageError

#: Columns a map is judged by, as far as the items have them.
_JUDGED = ("product_type_name", "index_name", "colour_group_name", "department", "product_category", "brand")
#: Columns a map is coloured by, best first.
_COLOURED = ("index_name", "department", "index_group_name", "product_group_name")
#: How columns end that number what another column names.
CODES = ("_no", "_code", "_id")
_N_JUDGED = 3
MISSING = "not known"
OTHERS = "all others"


class Attribute(NamedTuple):
    """A column as categories, those of most items first."""

    name: str
    values: list[str]
    code: np.ndarray  # (n_items,) integers, position in values

    @property
    def title(self) -> str:
        """The column's name as a reader sees it."""
        return self.name.removesuffix("_name").replace("_", " ")

    def largest(self, n: int) -> "Attribute":
        """Return the same with all but the ``n`` largest categories put together, where there are more than n + 1."""
        if len(self.values) <= n + 1:
            return self
        return Attribute(self.name, [*self.values[:n], OTHERS], np.minimum(self.code, n))


def judged(items: nw.DataFrame[Any]) -> list[Attribute]:
    """Return at most three attributes to compare neighbours by, known names first; UsageError where there is none."""
    names = dict.fromkeys([*(name for name in _JUDGED if name in items.columns), *items.columns])
    found = (read(items, name) for name in names if name != schema.ITEM_ID and not name.endswith(CODES))
    fitting = list(islice((one for one in found if 2 <= len(one.values) <= max(len(items) / 5, 2)), _N_JUDGED))
    if not fitting:
        raise UsageError(
            f"no column makes categories to colour a map by; found {', '.join(items.columns)}, expected one of words "
            "that many items share"
        )
    return fitting


def coloured(items: nw.DataFrame[Any], column: str | None, others: list[Attribute]) -> Attribute:
    """Return the attribute of the legend: ``column``, else a known one, else that of ``others`` with fewest values."""
    if column is not None and (column not in items.columns or column == schema.ITEM_ID):
        raise UsageError(f"the items have no column {column} to colour by; found {', '.join(items.columns)}")
    name = column or next((name for name in _COLOURED if name in items.columns), None)
    return min(others, key=lambda one: len(one.values)) if name is None else read(items, name)


def read(items: nw.DataFrame[Any], name: str) -> Attribute:
    """Return the column ``name`` as categories; null and blanks are :data:`MISSING`."""
    texts = np.array([str(value if value is not None else "").strip() or MISSING for value in items[name].to_list()])
    values, code, count = np.unique(texts, return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")
    return Attribute(name, values[order].tolist(), np.argsort(order).astype(np.int32)[code])
