"""How far a mean over customers can be trusted: the paired bootstrap.

Customers are drawn with replacement, not rows: a customer drawn twice counts twice in every fold, for every system
and metric. Systems are compared on the same draws, so that what is easy about a customer cancels in differences.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.evaluation.metrics.base import ratio

#: Share of the resamples inside an interval: the field's usual 95 %, so intervals of all reports compare.
CONFIDENCE: Final = 0.95
#: What draws the customers. It is no setting, so the same lists have the same intervals everywhere.
RESAMPLING_SEED: Final = 0
#: Draws (R, U) held at once.
MAX_DRAWN = 8_000_000


@dataclass(frozen=True)
class Sample:
    """Values of the customers of one fold.

    Shapes: Q customers, M columns (one for each system and metric). NaN: the customer has no value and is left out.
    """

    user_index: np.ndarray  # (Q,) distinct
    values: np.ndarray  # (Q, M) float


@dataclass(frozen=True)
class Bootstrap:
    """Means over customers, as measured and as they would be with other customers.

    Shapes: F folds, M columns, R resamples. NaN where no customer has a value.
    """

    measured: np.ndarray  # (F, M)
    resampled: np.ndarray  # (R, F, M)


def bootstrap(samples: list[Sample], n_resamples: int, seed: int) -> Bootstrap:
    """Return the means of each fold's columns on the customers measured and on ``n_resamples`` redrawn sets of them.

    >>> sample = Sample(np.array([3, 8]), np.array([[0.0], [1.0]]))
    >>> bootstrap([sample], 4, seed=0).measured
    array([[0.5]])
    """
    everyone = np.unique(np.concatenate([sample.user_index for sample in samples]))
    positions = [np.searchsorted(everyone, sample.user_index) for sample in samples]
    means_of = [_means_of(sample.values) for sample in samples]
    measured = np.stack([means(np.ones((1, len(at))))[0] for means, at in zip(means_of, positions, strict=True)])
    resampled = [
        np.stack([means(times_RU[:, at]) for means, at in zip(means_of, positions, strict=True)], axis=1)
        for times_RU in _draws(len(everyone), n_resamples, seed)
    ]
    return Bootstrap(measured, np.concatenate(resampled))


def interval(resampled: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Return the percentile interval that holds ``confidence`` of the resampled means (R,); None without any."""
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_of_folds(values: np.ndarray) -> np.ndarray:
    """Return the mean over the folds (second to last axis) that have a value; NaN where none has.

    >>> mean_of_folds(np.array([[1.0, np.nan], [3.0, np.nan]]))
    array([ 2., nan])
    """
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-2), known.sum(axis=-2))


def _draws(n_users: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each customer is drawn, (rows, n_users), in blocks of bounded size."""
    generator = np.random.default_rng(seed)
    block = max(1, MAX_DRAWN // n_users)
    for start in range(0, n_resamples, block):
        drawn = [
            np.bincount(generator.integers(n_users, size=n_users), minlength=n_users)
            for _ in range(min(block, n_resamples - start))
        ]
        yield np.stack(drawn).astype(float)


def _means_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives the means (R, M) of values (Q, M) for weights (R, Q)."""
    known = np.isfinite(values)
    filled, is_known = np.where(known, values, 0.0), None if known.all() else known.astype(float)

    def means(weight_RQ: np.ndarray) -> np.ndarray:
        total = weight_RQ.sum(axis=1, keepdims=True) if is_known is None else weight_RQ @ is_known
        return ratio(weight_RQ @ filled, total)

    return means
