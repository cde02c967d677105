"""What the numbers mean: ranking metrics as plain NumPy, one value per user, means taken separately.

Each file of this folder holds one metric, ``METRIC``, and is found by listing the folder.

A user without targets has no value (NaN): leave such users out of a mean, and say how many they are. Who has a short
list, or none, is not left out: missing ranks are misses. ``docs/evaluation.md`` defines each metric.
"""

from importlib import import_module
from pkgutil import iter_modules

import numpy as np

from recsys.evaluation.metrics.average_precision import average_precision_at_k
from recsys.evaluation.metrics.base import Metric, hits_of
from recsys.evaluation.splits import Fold


def all_metrics() -> dict[str, Metric]:
    """Return all metrics by name, in the order in which files and tables show them."""
    files = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = [file.METRIC for file in files if hasattr(file, "METRIC")]
    return {metric.name: metric for metric in sorted(found, key=lambda metric: (metric.position, metric.name))}


def user_values(hits_UK: np.ndarray, n_relevant_U: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return every user metric at every cutoff, one value (U,) per user, by names such as ``map@12``."""
    return {
        f"{metric.name}@{k}": metric.compute(hits_UK, n_relevant_U, k)
        for metric in all_metrics().values()
        if metric.compute is not None
        for k in sorted(cutoffs)
    }


def average_precisions(lists_item_QK: np.ndarray, fold: Fold, k: int) -> np.ndarray:
    """Return AP@k (Q,) of lists of the fold's users: item_index in rank order, padded with 0."""
    hits = hits_of(lists_item_QK, fold.target_offsets, fold.target_item)
    return average_precision_at_k(hits, np.diff(fold.target_offsets), k)
