"""Coverage: how much of the catalogue is recommended to anyone."""

import numpy as np

from recsys.evaluation.metrics.base import Metric


def catalogue_coverage_at_k(lists_item_UK: np.ndarray, n_candidates: int, k: int) -> float:
    """Return the share of the candidate items that are among the first ``k`` of at least one user."""
    return float(np.count_nonzero(np.unique(lists_item_UK[:, :k])) / n_candidates)


MEANING = "Share of the products for sale that at least one customer is shown."
METRIC = Metric("coverage", "Coverage", MEANING, position=6, printed=True, is_share=True)
