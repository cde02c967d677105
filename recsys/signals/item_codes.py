"""What the item table says of items, as numbers: codes of its categorical columns, and groups of like items."""

from dataclasses import dataclass, replace
from typing import Any, Self

import narwhals as nw
import numpy as np

from recsys import schema

#: A column with more distinct values than this share of the items names items, it does not describe them.
MAX_DISTINCT_SHARE = 0.5
#: Items of a group, at least, where the group is to say what may stand in for what.
MIN_GROUP_SIZE = 20
#: Columns whose values are categories of items, at most: each costs a little at every query.
MAX_CATEGORIES = 4

#: column → value → code
Codebook = dict[str, dict[str, int]]


@dataclass(frozen=True)
class ItemCodes:
    """Codes of V = n_items + 1 items (row 0 is padding) by a codebook, which keeps its meaning as items are added."""

    attributes: np.ndarray  # (V, A) int64, counted over all columns from 1; 0 says that nothing is known
    groups: np.ndarray  # (V,) int64 what a user takes in place of an item, or beside it
    categories: np.ndarray  # (V, C) int64, the columns with the smallest groups, finest first
    codebook: Codebook
    group_column: str | None  # None: every item is a group of its own
    category_columns: tuple[str, ...]

    @classmethod
    def from_items(cls, items: nw.DataFrame[Any]) -> Self:
        """Choose the columns of an item table that describe items, and number their values.

        A value that no other item has says nothing. Left out are columns that name an item (a description, a name),
        those with a single value, and those that say again what a column before said (a number beside its name).
        """
        codebook = _codebook(items)
        attributes = _apply(codebook, items)
        names = list(codebook)
        columns = [_groups(column) for column in attributes.T]
        # Groups are those of the column with the smallest that are large enough.
        large = [place for place, (_, met) in enumerate(columns) if met >= MIN_GROUP_SIZE]
        group = min(large, key=lambda place: columns[place][1], default=None)
        # Categories are columns whose groups hold 2 items at least on average, and a tenth of all at most.
        usable = [(met, place) for place, (_, met) in enumerate(columns) if 2 <= met <= len(attributes) / 10]
        chosen = [place for _, place in sorted(usable)[:MAX_CATEGORIES]]
        groups = np.arange(len(attributes)) if group is None else columns[group][0]
        category_columns = tuple(names[place] for place in chosen)
        group_column = None if group is None else names[group]
        return cls(attributes, groups, attributes[:, chosen], codebook, group_column, category_columns)

    @property
    def n_category_codes(self) -> int:
        """The largest code of a category plus 1; 0 where no item has one."""
        return int(self.categories.max()) + 1 if self.categories.size else 0

    def extended(self, items: nw.DataFrame[Any]) -> Self:
        """Return the codes of these items and of ``items`` (n rows) behind them, by the same codebook."""
        names = list(self.codebook)
        attributes = np.concatenate([self.attributes, _apply(self.codebook, items)[1:]])
        column = None if self.group_column is None else attributes[:, names.index(self.group_column)]
        groups = np.arange(len(attributes)) if column is None else _groups(column)[0]
        categories = attributes[:, [names.index(name) for name in self.category_columns]]
        return replace(self, attributes=attributes, groups=groups, categories=categories)


def _codebook(items: nw.DataFrame[Any]) -> Codebook:
    codebook: Codebook = {}
    first, partitions = 1, set()
    for name in items.columns:
        if name == schema.ITEM_ID or items[name].dtype.is_float() or items[name].dtype.is_nested():
            continue
        values = _texts(items[name])
        distinct, place, count = np.unique(values, return_inverse=True, return_counts=True)
        if not 2 <= len(distinct) <= MAX_DISTINCT_SHARE * len(values):
            continue
        is_shared = (count >= 2) & (distinct != "")
        partition = _partition(np.where(is_shared[place], place, -1))
        if partition in partitions:
            continue
        partitions.add(partition)
        codebook[name] = {str(value): first + code for code, value in enumerate(distinct[is_shared])}
        first += int(is_shared.sum())
    return codebook


def _texts(column: nw.Series[Any]) -> np.ndarray:
    return column.cast(nw.String).fill_null("").to_numpy().astype(str)


def _apply(codebook: Codebook, items: nw.DataFrame[Any]) -> np.ndarray:
    """Return the codes (n + 1, A) int64 of the ``items`` (n rows), padding first; 0 for what the codebook lacks."""
    codes = np.zeros((len(items) + 1, len(codebook)), dtype=np.int64)
    for column, (name, values) in enumerate(codebook.items()):
        if name in items.columns and len(items):
            distinct, place = np.unique(_texts(items[name]), return_inverse=True)
            codes[1:, column] = np.array([values.get(str(value), 0) for value in distinct], dtype=np.int64)[place]
    return codes


def _partition(code: np.ndarray) -> bytes:
    """Return what is equal for two columns of codes (n,) that group the rows alike, whatever the groups are called."""
    return np.where(code < 0, -1, _by_appearance(code)[0]).tobytes()


def _groups(column: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the group (V,) int64 of each item by a column of codes (code 0: its own), and the mean size of these."""
    group, size = _by_appearance(np.where(column > 0, column, -1 - np.arange(len(column))))
    return group, float(size[group].mean())


def _by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number (n,) int64 of each value, that met first has 0, and how often each number occurs."""
    _, first, place, count = np.unique(values, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return np.argsort(order)[place], count[order]
