"""What the item table says of items, as numbers: codes of its categorical columns, and groups of like items."""

from typing import Any

import narwhals as nw
import numpy as np

from recsys import schema

#: A column with more distinct values than this share of the items names items, it does not describe them.
MAX_DISTINCT_SHARE = 0.5
#: Items of a group, at least, where the group is to say what may stand in for what.
MIN_GROUP_SIZE = 20
#: Columns whose values are categories of items, at most: each costs a little at every query.
MAX_CATEGORIES = 4


def attribute_codes(items: nw.DataFrame[Any]) -> np.ndarray:
    """Return codes (V, A) int64 of the categorical columns of an item table; row 0 is padding.

    A code counts over all columns from 1; 0 says that nothing is known: the value is missing, or no other item has it.
    Columns that name an item rather than describe it (a description, a name) are left out, as are those with a single
    value, and those that say again what a column before said (a number beside its name).

    Shapes: V = n_items + 1 rows, A columns, possibly none.
    """
    columns = list(_told_columns(items).values())
    return np.stack(columns, axis=1) if columns else np.zeros((len(items) + 1, 0), dtype=np.int64)


def group_column(items: nw.DataFrame[Any]) -> str | None:
    """Return the column by which :func:`item_groups` groups these items; None where no column does."""
    place = _grouping_place(attribute_codes(items))
    return None if place is None else list(_told_columns(items))[place]


def _told_columns(items: nw.DataFrame[Any]) -> dict[str, np.ndarray]:
    """Return the codes (V,) int64 of each categorical column, as :func:`attribute_codes` counts them."""
    columns, first, partitions = {}, 1, set()
    for name in items.columns:
        if name == schema.ITEM_ID or items[name].dtype.is_float() or items[name].dtype.is_nested():
            continue
        values = items[name].cast(nw.String).fill_null("").to_numpy().astype(str)
        distinct, code, count = np.unique(values, return_inverse=True, return_counts=True)
        if not 2 <= len(distinct) <= MAX_DISTINCT_SHARE * len(values):
            continue
        told = (count >= 2) & (distinct != "")
        partition = _partition(np.where(told[code], code, -1))
        if partition in partitions:
            continue
        partitions.add(partition)
        numbered = np.where(told, np.cumsum(told) + first - 1, 0)
        columns[name] = np.concatenate([[0], numbered[code]])
        first += int(told.sum())
    return columns


def _partition(code: np.ndarray) -> bytes:
    """Return what is equal for two columns of codes (n,) that group the rows alike, whatever the groups are called."""
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    by_appearance: np.ndarray = np.argsort(np.argsort(first))[place]
    return (np.where(code < 0, -1, by_appearance)).tobytes()


def item_groups(codes: np.ndarray) -> np.ndarray:
    """Return the group (V,) int64 of each item: what a customer takes in place of it, or beside it.

    The column of ``codes`` (V, A) with the smallest groups of at least ``MIN_GROUP_SIZE`` items, as an item meets them:
    the size of the group of an item drawn at random, on average. An item of which it says nothing, and every item where
    there is no such column, is a group of its own.

    >>> item_groups(np.zeros((3, 0), dtype=np.int64))
    array([0, 1, 2])
    """
    place = _grouping_place(codes)
    rows = np.arange(len(codes))
    return rows if place is None else _groups(codes[:, place])[0]


def _grouping_place(codes: np.ndarray) -> int | None:
    best, smallest = None, np.inf
    for place, column in enumerate(codes.T):
        group, size = _groups(column)
        met = float(size[group].mean())
        if MIN_GROUP_SIZE <= met < smallest:
            best, smallest = place, met
    return best


def _groups(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the group (V,) int64 of each item by one column of codes, and the size of each group."""
    own = -1 - np.arange(len(column))
    _, group, size = np.unique(np.where(column > 0, column, own), return_inverse=True, return_counts=True)
    return group.astype(np.int64), size


def category_columns(codes: np.ndarray) -> np.ndarray:
    """Return the categories (V, C) int64 of each item: the columns of ``codes`` (V, A) with the smallest groups.

    At most ``MAX_CATEGORIES`` of them, the smallest groups first, as an item meets them; of columns that group all items
    alike, the first. A column that puts nearly every item in a group of its own is none, nor is one whose groups are
    larger than a tenth of the catalogue.

    >>> category_columns(np.zeros((3, 0), dtype=np.int64)).shape
    (3, 0)
    """
    found: dict[bytes, tuple[float, int]] = {}
    for place, column in enumerate(codes.T):
        group, size = _groups(column)
        met = float(size[group].mean())
        if 2 <= met <= len(codes) / 10:
            found.setdefault(group.tobytes(), (met, place))
    chosen = [place for _, place in sorted(found.values())[:MAX_CATEGORIES]]
    return codes[:, chosen]
