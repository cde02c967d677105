"""What each item sold before any day, counted once and read at many days."""

import numpy as np

from recsys.data.purchases import Purchases
from recsys.signals.categories import sold_by_category
from recsys.signals.counts import NEVER, Counts
from recsys.signals.past_items import side_by_side

#: What an item's own sales say of it, and what those of its categories say of one that never sold.
OWN_FEATURES = ("sold_7", "sold_28", "sold_all", "trend", "age", "repeat_share", "never_sold")
ITEM_FEATURES = (*OWN_FEATURES, "category_sold_7")


class Sales:
    """Sales of V items before any day; twice on one day is one sale: asked for is who buys, not how many pieces."""

    def __init__(self, log: Purchases) -> None:
        self.n_rows = log.n_items + 1
        order = np.argsort(log.day, kind="stable")
        self._bought_day, self._bought_item = log.day[order], log.item[order]
        order = order[is_sale(log)[order]]
        self._day, self._item, self._repeated = log.day[order], log.item[order], is_repeat(log)[order]
        self._first_day = np.full(self.n_rows, NEVER, dtype=np.int64)
        np.minimum.at(self._first_day, self._item, self._day)

    def sold(self, begin_day: int, end_day: int) -> np.ndarray:
        """Return how often each item was sold (V,) int64 on days ``begin_day`` … ``end_day`` - 1."""
        begin, end = np.searchsorted(self._day, [begin_day, end_day])
        return np.bincount(self._item[begin:end], minlength=self.n_rows)

    def bought(self, begin_day: int, end_day: int) -> np.ndarray:
        """Return how often each item was bought (V,) int64 on these days: what is no sale counts too."""
        begin, end = np.searchsorted(self._bought_day, [begin_day, end_day])
        return np.bincount(self._bought_item[begin:end], minlength=self.n_rows)

    def counts(self, day: int) -> Counts:
        """Return what :func:`sales_features` reads at the start of ``day``, (V,) int64 each: sums over users.

        But for ``first_day``, on which an item was first sold.
        """
        end = np.searchsorted(self._day, day)
        repeats = np.bincount(self._item[:end], self._repeated[:end], self.n_rows)
        return {
            "sold_7": self.sold(day - 7, day),
            "sold_28": self.sold(day - 28, day),
            "sold_all": np.bincount(self._item[:end], minlength=self.n_rows),
            "repeats": repeats.astype(np.int64),
            "bought_7": self.bought(day - 7, day),
            "first_day": self._first_day,
        }


def sales_features(counts: Counts, day: int, categories: np.ndarray) -> np.ndarray:
    """Return ``ITEM_FEATURES`` (V, F) float32 at the start of ``day``; ``categories`` (V, C) are codes."""
    sold_7, sold_28, sold_all, repeats = (counts[name] for name in ("sold_7", "sold_28", "sold_all", "repeats"))
    # Two pseudo-purchases at the average keep the share of rarely sold items near it.
    average = repeats.sum() / max(int(sold_all.sum()), 1)
    never = counts["first_day"] >= day
    age = np.where(never, 0, day - counts["first_day"])
    columns = [
        *(against_average(sold) for sold in (sold_7, sold_28, sold_all)),
        np.log1p(sold_7) - np.log1p(sold_28 / 4),
        np.log1p(age) / 4,
        2 * (repeats + 2 * average) / (sold_all + 2),
        never,
        np.where(never, against_average(sold_by_category(sold_7, categories)), 0),
    ]
    features = side_by_side(columns)
    features[0] = 0
    return features


def own_columns(n_promoted: int) -> slice | list[int]:
    """Return which item features say what an item sold itself, and, by ``n_promoted`` of them, how it is promoted."""
    if not n_promoted:
        return slice(0, len(OWN_FEATURES))
    return [*range(len(OWN_FEATURES)), *range(len(ITEM_FEATURES), len(ITEM_FEATURES) + n_promoted)]


def coming_columns(n_promoted: int) -> slice:
    """Return which item features say how an item is promoted in the week from the day on."""
    return slice(len(ITEM_FEATURES), len(ITEM_FEATURES) + n_promoted // 2)


def against_average(sold: np.ndarray) -> np.ndarray:
    """Return the log of how much more than the average item each sold (V,), one added: busy weeks move no item."""
    return np.log1p(sold) - np.log1p(sold[1:].sum() / max(len(sold) - 1, 1))


def is_sale(log: Purchases) -> np.ndarray:
    """Return (E,) bool: whether it is the first purchase of the item by the user on the day."""
    return ~is_repeat(log, on_same_day=True)


def is_repeat(log: Purchases, *, on_same_day: bool = False) -> np.ndarray:
    """Return (E,) bool: whether the user had bought the item at an earlier position of the history."""
    key = log.user_of_event().astype(np.int64) * (log.n_items + 1) + log.item
    order = np.argsort(key, kind="stable")
    later, earlier = order[1:], order[:-1]
    repeated = np.zeros(len(key), dtype=bool)
    repeated[later] = key[later] == key[earlier]
    if on_same_day:
        repeated[later] &= log.day[later] == log.day[earlier]
    return repeated
