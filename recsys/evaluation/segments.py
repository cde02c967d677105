"""Which purchases and customers are looked at apart. Every segment is a choice of targets, known at the fold's date.

A customer counts who has a target in it, and only those targets count as relevant; ``docs/evaluation.md`` defines them.
"""

from typing import Final

import numpy as np

from recsys.data.purchases import Purchases
from recsys.evaluation.splits import Fold

_HISTORY_LENGTHS: Final = {
    "without_history": (0, 0),
    "history_1-4": (1, 4),
    "history_5-19": (5, 19),
    "history_20-99": (20, 99),
    "history_100+": (100, np.inf),
}
LAUNCH_DAYS: Final = 28
HEAD_SHARE: Final = 0.8


def target_segments(data: Purchases, fold: Fold) -> dict[str, np.ndarray]:
    """Return, for each segment, which of the fold's targets (n,) bool belong to it."""
    _, position = fold.everybody(data).events()
    known = data.item[position]
    first_day = np.full(data.n_items + 1, fold.start_day, dtype=np.int64)  # where it was not sold before the date
    np.minimum.at(first_day, known, data.day[position])
    launched = first_day >= fold.start_day - LAUNCH_DAYS
    repeated = bought_before(data, fold)
    n_of_target = np.repeat(fold.histories(data).n_events, np.diff(fold.target_offsets))
    return {
        "repeated": repeated,
        "new": ~repeated,
        **{name: (least <= n_of_target) & (n_of_target <= most) for name, (least, most) in _HISTORY_LENGTHS.items()},
        "newly_launched": launched[fold.target_item],
        "tail": ~_head_items(np.bincount(known, minlength=data.n_items + 1))[fold.target_item],
    }


def _head_items(counts_V: np.ndarray) -> np.ndarray:
    """Return (V,) bool: the fewest best sellers that together make 80 % of the sales, ties by item_index.

    >>> _head_items(np.array([0, 70, 10, 10, 10])).astype(int)
    array([0, 1, 1, 0, 0])
    """
    order = np.argsort(-counts_V, kind="stable")
    sold = counts_V[order]
    head = np.zeros(len(counts_V), dtype=bool)
    head[order] = (np.cumsum(sold) - sold < HEAD_SHARE * counts_V.sum()) & (sold > 0)
    return head


def bought_before(data: Purchases, fold: Fold) -> np.ndarray:
    """Return which of the fold's targets (n,) bool the customer had bought before."""
    row, position = fold.histories(data).events()
    span = data.n_items + 1
    row_of_target = np.repeat(np.arange(len(fold.user_index)), np.diff(fold.target_offsets))
    return np.isin(row_of_target * span + fold.target_item, row * span + data.item[position])
