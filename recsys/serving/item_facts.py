"""What the log says of one item: what stands before it, after it and beside it in baskets, and its sales by week."""

from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from recsys.data.order import event_positions
from recsys.data.purchases import Purchases
from recsys.runs import Run
from recsys.schema import ITEM_ID, RANK, USER_ID

#: The lists of the day after the data, in the report folder of a run.
_LISTS: Final = "recommendations.parquet"


class Around(NamedTuple):
    """How many baskets held each item (V,) int64 around one item."""

    before: np.ndarray  # the basket before one with the item
    beside: np.ndarray
    after: np.ndarray


def around(log: Purchases, item: int) -> Around:
    """Return what its buyers bought in the baskets before, with and after ``item``, each basket counted once."""
    users = np.unique(np.searchsorted(log.offsets, np.flatnonzero(log.item == item), side="right") - 1)
    row, position = event_positions(log.offsets[users], log.offsets[users + 1])
    items, basket = log.item[position], row * (int(log.basket.max(initial=0)) + 3) + log.basket[position] + 1
    holding = np.unique(basket[items == item])

    def counted(shift: int) -> np.ndarray:
        chosen = np.isin(basket, holding + shift) & (items != item)
        pairs = np.unique(np.stack([basket[chosen], items[chosen]]), axis=1)
        return np.bincount(pairs[1], minlength=log.n_items + 1)

    return Around(counted(-1), counted(0), counted(1))


def weekly_sales(log: Purchases, item: int) -> np.ndarray:
    """Return how often ``item`` was bought in each week (W,) int64 up to the last day, oldest first."""
    n_weeks = (log.last_day - log.first_day) // 7 + 1
    weeks_ago = (log.last_day - log.day[log.item == item]) // 7
    return np.bincount(weeks_ago, minlength=n_weeks)[::-1]


def recommended_to(run: Run, item_id: str, n_shown: int) -> dict[str, Any] | None:
    """Return how many of the run's newest lists hold an item, at which ranks, and some customers; else None."""
    path = run.report_folder / _LISTS
    if not path.is_file():
        return None
    table = pq.read_table(path, columns=[USER_ID, RANK], filters=[(ITEM_ID, "=", item_id)]).sort_by(RANK)
    ranks = np.bincount(table[RANK].to_numpy(), minlength=2)[1:]
    return {"n_lists": len(table), "ranks": ranks.tolist(), "customers": table[USER_ID].to_pylist()[:n_shown]}
