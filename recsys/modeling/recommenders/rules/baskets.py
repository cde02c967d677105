"""What the rules that read baskets share: which items each basket holds, and how weights of baskets become scores."""

import numpy as np
from scipy.sparse import csr_matrix

from recsys.data.purchases import Histories
from recsys.modeling.recommenders.scored_pairs import Pairs

#: Items of a basket that are read: bounds the work, which grows with their square.
MAX_BASKET_ITEMS = 100


def baskets_of(histories: Histories, n_rows: int, since: int | None = None) -> tuple[csr_matrix, np.ndarray]:
    """Return which items below ``n_rows`` each basket holds, (baskets, n_rows) float32 of ones, and its row (baskets,).

    Rows ascend, baskets of a row are in time order; those ``since`` a day alone.
    """
    log = histories.log
    row, position = histories.events()
    if since is not None:
        recent = log.day[position] >= since
        row, position = row[recent], position[recent]
    number = log.basket[position]
    begins = np.ones(len(row), dtype=bool)
    begins[1:] = (row[1:] != row[:-1]) | (number[1:] != number[:-1])
    first, basket, item = np.flatnonzero(begins), np.cumsum(begins) - 1, log.item[position]
    kept = (np.arange(len(row)) - first[basket] < MAX_BASKET_ITEMS) & (item < n_rows)
    held = csr_matrix((np.ones(kept.sum(), np.float32), (basket[kept], item[kept])), shape=(len(first), n_rows))
    held.data[:] = 1  # what was bought twice is held once
    return held, row[first]


def baskets_back(owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of its ``owner``'s baskets (B,), ascending, came after each basket, and how many there are."""
    begin, end = np.searchsorted(owner, owner), np.searchsorted(owner, owner, side="right")
    return end - 1 - np.arange(len(owner)), end - begin


def summed(weight: np.ndarray, row: np.ndarray, column: np.ndarray, n_rows: int, table: csr_matrix) -> csr_matrix:
    """Return the sum (n_rows, V) float32 of ``weight`` times the rows ``column`` of ``table``, for each ``row``."""
    return csr_matrix((weight.astype(np.float32), (row, column)), shape=(n_rows, table.shape[0])) @ table


def pairs_of(scores: csr_matrix, last: np.ndarray | None = None) -> Pairs:
    """Return the entries of a sparse (Q, V) as pairs; of equals that of the higher ``last`` wins."""
    row = np.repeat(np.arange(scores.shape[0], dtype=np.int64), np.diff(scores.indptr))
    return Pairs(row, scores.indices, scores.data, np.zeros(len(row), dtype=np.int64) if last is None else last)


def highest(table: csr_matrix, n: int) -> csr_matrix:
    """Return ``table`` without what is not among the ``n`` highest of its row; it may be changed in place."""
    for row in np.flatnonzero(np.diff(table.indptr) > n):
        of_row = table.data[table.indptr[row] : table.indptr[row + 1]]
        of_row[np.argpartition(of_row, len(of_row) - n)[:-n]] = 0
    table.eliminate_zeros()
    return table
