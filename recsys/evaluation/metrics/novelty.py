"""Novelty: how unusual the recommended items are."""

import numpy as np

from recsys.evaluation.metrics.base import Metric, ratio


def novelty_at_k(lists_item_UK: np.ndarray, n_buyers_V: np.ndarray, n_users: int, k: int) -> np.ndarray:
    """Return (U,) the mean of ``-log2(share of the users who bought the item before)`` over the first ``k`` items.

    In bits (mean self-information: Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender
    systems"). Items without buyers count as having one. Users without recommendations have no value (NaN).

    >>> novelty_at_k(np.array([[1, 2], [2, 0]]), np.array([0, 8, 2]), 8, 2)  # (0 + 2) / 2 bits, and 2 bits
    array([1., 2.])
    """
    lists = lists_item_UK[:, :k]
    bits = -np.log2(np.maximum(n_buyers_V, 1) / n_users)
    return ratio((bits[lists] * (lists > 0)).sum(axis=1), (lists > 0).sum(axis=1))


MEANING = "How unusual the shown products are: mean of -log2 of the share of customers who buy them."
METRIC = Metric("novelty", "Novelty", MEANING, position=7)
