"""Which recommended items were bought, from lists and targets.

Shapes: U users of the lists, Q users of a fold, K length of a list, n targets. Position 0 of the items is padding.
"""

import numpy as np


def hits_of(lists_item_UK: np.ndarray, target_offsets: np.ndarray, target_item: np.ndarray) -> np.ndarray:
    """Return (U, K) bool: whether the item at each rank is one of the user's targets, at its first occurrence.

    Args:
        lists_item_UK: (U, K) item_index in rank order; rows are padded with 0, which is never a hit.
        target_offsets: (U+1,) targets of row u are ``target_item[target_offsets[u]:target_offsets[u + 1]]``.
        target_item: (n,) item_index, in any order within a user.

    >>> lists = np.array([[7, 5, 7], [5, 9, 0]])
    >>> hits_of(lists, np.array([0, 2, 3]), np.array([5, 7, 4])).astype(int)
    array([[1, 1, 0],
           [0, 0, 0]])
    """
    n_rows, length = lists_item_UK.shape
    if not lists_item_UK.size or not len(target_item):
        return np.zeros((n_rows, length), dtype=bool)
    span = max(int(lists_item_UK.max()), int(target_item.max())) + 1
    rows = np.arange(n_rows, dtype=np.int64)
    wanted = np.sort(np.repeat(rows, np.diff(target_offsets)) * span + target_item)
    listed = rows[:, None] * span + lists_item_UK
    nearest = np.minimum(np.searchsorted(wanted, listed.ravel()), len(wanted) - 1).reshape(n_rows, length)
    hits: np.ndarray = (wanted[nearest] == listed) & (lists_item_UK > 0) & ~_repeated(lists_item_UK)
    return hits


def _repeated(lists_item_UK: np.ndarray) -> np.ndarray:
    """Return (U, K) bool: whether the item stood at an earlier rank of the same row already."""
    order = np.argsort(lists_item_UK, axis=1, kind="stable")
    ordered = np.take_along_axis(lists_item_UK, order, axis=1)
    again = np.zeros(ordered.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated


def align_lists(lists_item_UK: np.ndarray, user_index: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the rows of the users ``wanted`` (Q,), in that order; users without a row get padding.

    >>> align_lists(np.array([[5, 6], [7, 8]]), np.array([3, 1]), np.array([1, 2]))
    array([[7, 8],
           [0, 0]])
    """
    order = np.argsort(user_index)
    aligned = np.zeros((len(wanted), lists_item_UK.shape[1]), dtype=lists_item_UK.dtype)
    if len(order):
        row = order[np.minimum(np.searchsorted(user_index, wanted, sorter=order), len(order) - 1)]
        known = user_index[row] == wanted
        aligned[known] = lists_item_UK[row[known]]
    return aligned
