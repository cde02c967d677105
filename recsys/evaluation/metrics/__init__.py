"""What the numbers mean: ranking metrics as plain NumPy, one value per user, means taken separately.

Each file of this folder holds one metric, ``METRIC``, and is found by listing the folder.

Shapes: U users, Q users of a fold, K length of a list, V items + 1 (position 0 is padding), n targets.
``hits_UK`` says for each rank whether the item there was bought; ``n_relevant_U`` how many distinct items the user
bought, listed or not.

Decisions that change the numbers:

- A user without targets has no value (NaN). Leave such users out of a mean, and say how many they are.
- A user without recommendations, or with a short list, is not left out: missing ranks are misses.
- An item repeated in a list counts once, at its best rank.
- Average precision divides by ``min(k, n_relevant)``: k right answers of more than k relevant items score 1, as in
  Kaggle's MAP@12. The ideal DCG stops at ``min(k, n_relevant)`` too. Recall divides by all relevant items.
"""

from importlib import import_module
from pkgutil import iter_modules

import numpy as np

from recsys.evaluation.metrics.average_precision import average_precision_at_k
from recsys.evaluation.metrics.base import Metric, UserMetric
from recsys.evaluation.metrics.coverage import catalogue_coverage_at_k
from recsys.evaluation.metrics.hit_rate import hit_rate_at_k
from recsys.evaluation.metrics.hits import align_lists, hits_of
from recsys.evaluation.metrics.ndcg import ndcg_at_k
from recsys.evaluation.metrics.novelty import novelty_at_k
from recsys.evaluation.metrics.recall import recall_at_k
from recsys.evaluation.metrics.reciprocal_rank import reciprocal_rank_at_k
from recsys.evaluation.splits import Fold

__all__ = [
    "Metric",
    "UserMetric",
    "align_lists",
    "all_metrics",
    "average_precision_at_k",
    "average_precisions",
    "catalogue_coverage_at_k",
    "hit_rate_at_k",
    "hits_of",
    "mean_average_precision",
    "ndcg_at_k",
    "novelty_at_k",
    "recall_at_k",
    "reciprocal_rank_at_k",
    "user_metrics",
    "user_values",
]


def all_metrics() -> dict[str, Metric]:
    """Return all metrics by name, in the order in which files and tables show them."""
    files = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = [file.METRIC for file in files if hasattr(file, "METRIC")]
    return {metric.name: metric for metric in sorted(found, key=lambda metric: (metric.position, metric.name))}


def user_metrics() -> dict[str, UserMetric]:
    """Return what a user's list is worth, by the name in files: ``map@12`` is the mean of ``map`` at k = 12."""
    return {name: metric.compute for name, metric in all_metrics().items() if metric.compute is not None}


def user_values(hits_UK: np.ndarray, n_relevant_U: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return every user metric at every cutoff, one value (U,) per user, by names such as ``map@12``.

    >>> sorted(user_values(np.array([[True]]), np.array([1]), (1,)))
    ['hit_rate@1', 'map@1', 'mrr@1', 'ndcg@1', 'recall@1']
    """
    return {
        f"{name}@{k}": metric(hits_UK, n_relevant_U, k)
        for name, metric in user_metrics().items()
        for k in sorted(cutoffs)
    }


def mean_average_precision(lists_item_UK: np.ndarray, fold: Fold, user_index: np.ndarray, k: int) -> float:
    """Return MAP@k of lists, the mean of :func:`average_precisions`."""
    return float(np.mean(average_precisions(lists_item_UK, fold, user_index, k)))


def average_precisions(lists_item_UK: np.ndarray, fold: Fold, user_index: np.ndarray, k: int) -> np.ndarray:
    """Return AP@k (Q,) of all users of a fold; those without a list score 0, lists of others do not count.

    ``lists_item_UK`` holds item_index in rank order, padded with 0, for the distinct users ``user_index`` (U,).
    """
    lists = align_lists(lists_item_UK, user_index, fold.user_index)
    hits = hits_of(lists, fold.target_offsets, fold.target_item)
    return average_precision_at_k(hits, np.diff(fold.target_offsets), k)
