"""What the item table says of items, as numbers: codes of its categorical columns, and groups of like items."""

from typing import Any

import narwhals as nw
import numpy as np

from recsys import schema

#: A column with more distinct values than this share of the items names items, it does not describe them.
MAX_DISTINCT_SHARE = 0.5
#: Items of a group, at least, where the group is to say what may stand in for what.
MIN_GROUP_SIZE = 20


def attribute_codes(items: nw.DataFrame[Any]) -> np.ndarray:
    """Return codes (V, A) int64 of the categorical columns of an item table; row 0 is padding.

    A code counts over all columns from 1; 0 says that nothing is known: the value is missing, or no other item has it.
    Columns that name an item rather than describe it (a description, a name) are left out, as are those with a single
    value.

    Shapes: V = n_items + 1 rows, A columns, possibly none.
    """
    columns, first = [], 1
    for name in items.columns:
        if name == schema.ITEM_ID or items[name].dtype.is_float() or items[name].dtype.is_nested():
            continue
        values = items[name].cast(nw.String).fill_null("").to_numpy().astype(str)
        distinct, code, count = np.unique(values, return_inverse=True, return_counts=True)
        if not 2 <= len(distinct) <= MAX_DISTINCT_SHARE * len(values):
            continue
        told = (count >= 2) & (distinct != "")
        numbered = np.where(told, np.cumsum(told) + first - 1, 0)
        columns.append(np.concatenate([[0], numbered[code]]))
        first += int(told.sum())
    return np.stack(columns, axis=1) if columns else np.zeros((len(items) + 1, 0), dtype=np.int64)


def item_groups(codes: np.ndarray) -> np.ndarray:
    """Return the group (V,) int64 of each item: what a customer takes in place of it, or beside it.

    The column of ``codes`` (V, A) with the smallest groups of at least ``MIN_GROUP_SIZE`` items, as an item meets them:
    the size of the group of an item drawn at random, on average. An item of which it says nothing, and every item where
    there is no such column, is a group of its own.

    >>> item_groups(np.zeros((3, 0), dtype=np.int64))
    array([0, 1, 2])
    """
    rows = np.arange(len(codes))
    best, smallest = rows, np.inf
    for column in codes.T:
        _, group, size = np.unique(np.where(column > 0, column, -1 - rows), return_inverse=True, return_counts=True)
        met = float(size[group].mean())
        if MIN_GROUP_SIZE <= met < smallest:
            best, smallest = group, met
    return best.astype(np.int64)
