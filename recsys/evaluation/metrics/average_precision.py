"""MAP: the mean of the average precision."""

import numpy as np

from recsys.evaluation.metrics.base import Metric, ranks, ratio


def average_precision_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return AP@k (U,): the mean of the precisions at the ranks of the hits, over ``min(k, n_relevant)``.

    Its mean over users is MAP@k as Kaggle's H&M competition defines it.

    >>> average_precision_at_k(np.array([[True, False, True]]), np.array([2]), 3)  # (1/1 + 2/3) / 2
    array([0.83333333])
    """
    hits = hits_UK[:, :k]
    precision = np.cumsum(hits, axis=1) / ranks(hits)
    return ratio((precision * hits).sum(axis=1), np.minimum(n_relevant_U, k))


MEANING = (
    "How near the top of the list the purchases stand, from 0 to 1: the mean, over customers, of the precision "
    "at each hit, divided by the smaller of the list's length and the number of products bought."
)
METRIC = Metric("map", "MAP", MEANING, average_precision_at_k, position=1, printed=True)
