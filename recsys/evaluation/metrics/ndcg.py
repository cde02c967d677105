"""NDCG: hits count the less the lower they stand."""

import numpy as np

from recsys.evaluation.metrics.base import Metric, ranks, ratio


def ndcg_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return NDCG@k (U,): Σ 1 / log2(rank + 1) over hits, over that of an ideal list (Järvelin, Kekäläinen 2002)."""
    hits = hits_UK[:, :k]
    gained = hits @ (1 / np.log2(ranks(hits) + 1))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    return ratio(gained, ideal[np.minimum(n_relevant_U, k)])


MEANING = "Like MAP, but a hit's worth falls with the logarithm of its rank; 1 is a perfect order."
METRIC = Metric("ndcg", "NDCG", MEANING, ndcg_at_k, position=2, printed=True)
