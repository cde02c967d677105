"""How far a mean over customers can be trusted: the paired bootstrap.

Customers are drawn with replacement, not rows: a customer drawn twice counts twice in every fold, for every system
and metric. Systems are compared on the same draws, so that what is easy about a customer cancels in differences.
"""

from typing import Final

import numpy as np

from recsys.evaluation.metrics.base import ratio

#: Share of the resamples inside an interval: the field's usual 95 %, so intervals of all reports compare.
CONFIDENCE: Final = 0.95
#: What draws the customers. It is no setting, so the same lists have the same intervals everywhere.
RESAMPLING_SEED: Final = 0
#: Draws (R, U) held at once.
MAX_DRAWN = 8_000_000


def bootstrap(
    user_index: list[np.ndarray], values: list[np.ndarray], n_resamples: int, seed: int = RESAMPLING_SEED
) -> np.ndarray:
    """Return means over customers (1 + R, F, M): as measured, then as they are on R redrawn sets of customers.

    Of each of F folds: distinct customers ``user_index`` (Q,) and their ``values`` (Q, M), a column for each system and
    metric. A value that is NaN is left out; the mean of none is NaN.
    """
    everyone = np.unique(np.concatenate(user_index))
    position = [np.searchsorted(everyone, users) for users in user_index]
    known = [np.isfinite(one) for one in values]
    filled = [np.where(is_known, one, 0.0) for is_known, one in zip(known, values, strict=True)]
    # Where all values are known, as of most metrics, counting customers takes half the time.
    counted = [None if is_known.all() else is_known.astype(float) for is_known in known]

    def means(times_RU: np.ndarray) -> np.ndarray:
        by_fold = []
        for at, filled_QM, counted_QM in zip(position, filled, counted, strict=True):
            times_RQ = times_RU[:, at]
            total = times_RQ.sum(axis=1, keepdims=True) if counted_QM is None else times_RQ @ counted_QM
            by_fold.append(ratio(times_RQ @ filled_QM, total))
        return np.stack(by_fold, axis=1)

    generator, n_users = np.random.default_rng(seed), len(everyone)
    blocks, block = [means(np.ones((1, n_users)))], max(1, MAX_DRAWN // n_users)
    for start in range(0, n_resamples, block):
        n_drawn = min(block, n_resamples - start)
        drawn = [np.bincount(generator.integers(n_users, size=n_users), minlength=n_users) for _ in range(n_drawn)]
        blocks.append(means(np.stack(drawn).astype(float)))
    return np.concatenate(blocks)


def interval(resampled: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Return the percentile interval that holds :data:`CONFIDENCE` of the means (R,) that are known, if any is."""
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def mean_of_folds(values: np.ndarray) -> np.ndarray:
    """Return the mean over the folds (second to last axis) that have a value; NaN where none has.

    >>> mean_of_folds(np.array([[1.0, np.nan], [3.0, np.nan]]))
    array([ 2., nan])
    """
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-2), known.sum(axis=-2))
