"""Hit rate: the share of users with a hit."""

import numpy as np

from recsys.evaluation.metrics.base import Metric, ratio


def hit_rate_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return (U,) 1 where at least one of the first ``k`` items was bought, else 0.

    >>> hit_rate_at_k(np.array([[False, True], [True, True]]), np.array([1, 2]), 1)
    array([0., 1.])
    """
    return ratio(hits_UK[:, :k].any(axis=1).astype(float), n_relevant_U > 0)


MEANING = "Share of customers who bought at least one product of their list."
METRIC = Metric("hit_rate", "Hit rate", MEANING, hit_rate_at_k, position=3, printed=True, is_share=True)
