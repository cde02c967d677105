"""What a metric is, and what the files of this folder share.

``hits_UK`` says for each user and rank whether the item there was bought; ``n_relevant_U`` how many distinct items the
user bought, listed or not.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Metric(NamedTuple):
    """A metric, and what reports call it."""

    name: str  # in ``metrics.json``, before the cutoff: ``map`` of ``map@12``
    title: str  # in print
    meaning: str  # in a sentence for a reader who runs a shop
    #: Returns one value (U,) per user from ``hits_UK``, ``n_relevant_U`` and k; its mean is reported. None where hits
    #: do not say it: :mod:`recsys.evaluation.scoring` computes that metric from the lists.
    compute: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None
    position: int = 100  # among all metrics in files and tables, in rising order
    printed: bool = False  # by ``recsys evaluate``; files and reports hold it in any case
    is_share: bool = False  # which reports write in percent


def ranks(hits_UK: np.ndarray) -> np.ndarray:
    """Return the ranks (K,) of a list, from 1."""
    return np.arange(1, hits_UK.shape[1] + 1)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, of the numerator's shape, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def hits_of(lists_item_UK: np.ndarray, target_offsets: np.ndarray, target_item: np.ndarray) -> np.ndarray:
    """Return (U, K) bool: whether the item at each rank is one of the user's targets, at its first occurrence.

    Lists (U, K) are padded with 0, which is never a hit; targets are those of a ``Fold``, in any order within a user.

    >>> hits_of(np.array([[7, 5, 7], [5, 9, 0]]), np.array([0, 2, 3]), np.array([5, 7, 4])).tolist()
    [[True, True, False], [False, False, False]]
    """
    n_rows, length = lists_item_UK.shape
    if not lists_item_UK.size or not len(target_item):
        return np.zeros((n_rows, length), dtype=bool)
    span = max(int(lists_item_UK.max()), int(target_item.max())) + 1
    rows = np.arange(n_rows, dtype=np.int64)
    wanted = np.repeat(rows, np.diff(target_offsets)) * span + target_item
    bought = np.isin(rows[:, None] * span + lists_item_UK, wanted)
    order = np.argsort(lists_item_UK, axis=1, kind="stable")
    ordered = np.take_along_axis(lists_item_UK, order, axis=1)
    again = np.diff(ordered, axis=1, prepend=-1) == 0
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return bought & (lists_item_UK > 0) & ~repeated
