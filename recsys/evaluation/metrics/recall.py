"""Recall: the share of the relevant items that are in the list."""

import numpy as np

from recsys.evaluation.metrics.base import Metric, ratio


def recall_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return recall@k (U,): hits among the first ``k``, over *all* relevant items, so that it can stay below 1."""
    return ratio(hits_UK[:, :k].sum(axis=1), n_relevant_U)


MEANING = "Share of a customer's purchased products that stood in the list, averaged over customers."
METRIC = Metric("recall", "Recall", MEANING, recall_at_k, position=4, printed=True, is_share=True)
