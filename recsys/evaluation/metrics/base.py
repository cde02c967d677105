"""What a metric is, and what the files of this folder share.

Shapes: U users, K length of a list. ``hits_UK`` says for each rank whether the item there was bought; ``n_relevant_U``
how many distinct items the user bought, listed or not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

UserMetric = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric, and what reports call it."""

    #: Name in ``metrics.json``, before the cutoff: ``map`` of ``map@12``.
    name: str
    #: Name in print.
    title: str
    #: What it means, in a sentence for a reader who runs a shop.
    meaning: str
    #: Returns one value (U,) per user from ``hits_UK``, ``n_relevant_U`` and k; its mean is reported. None where hits
    #: do not say it: :mod:`recsys.evaluation.scoring` computes that metric from the lists.
    compute: UserMetric | None = None
    #: Its place among all metrics in files and tables, in rising order.
    position: int = 100
    #: Whether ``recsys evaluate`` prints it; files and reports hold it in any case.
    printed: bool = False
    #: Whether it is a share, which reports write in percent.
    is_share: bool = False


def ranks(hits_UK: np.ndarray) -> np.ndarray:
    """Return the ranks (K,) of a list, from 1."""
    return np.arange(1, hits_UK.shape[1] + 1)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, of the numerator's shape, NaN where the denominator is 0."""
    result: np.ndarray = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return result
