"""MRR: the mean of one over the rank of the first hit."""

import numpy as np

from recsys.evaluation.metrics.base import Metric, ranks, ratio


def reciprocal_rank_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return (U,) one over the rank of the first hit among the first ``k``, 0 without a hit; its mean is MRR@k.

    >>> reciprocal_rank_at_k(np.array([[False, True], [False, False]]), np.array([1, 1]), 2)
    array([0.5, 0. ])
    """
    hits = hits_UK[:, :k]
    return ratio((hits / ranks(hits)).max(axis=1, initial=0.0), n_relevant_U > 0)


MEANING = "One divided by the rank of the first hit (0 without one), averaged over customers."
METRIC = Metric("mrr", "MRR", MEANING, reciprocal_rank_at_k, position=5)
