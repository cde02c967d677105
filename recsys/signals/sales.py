"""Sales of every item before any date. NumPy only.

Everything here reads only events before the date it is asked for, and what is planned to be promoted in
the week from it on; nothing is fitted, so new events change the answer at once.
"""

from collections.abc import Sequence

import numpy as np

from recsys.data.purchases import Purchases
from recsys.signals.categories import sold_by_category

#: What an item's own sales say of it, and what those of its categories say of one that never sold.
OWN_FEATURES = ("sold_7", "sold_28", "sold_all", "trend", "age", "repeat_share", "never_sold")


ITEM_FEATURES = (*OWN_FEATURES, "category_sold_7")


#: Tables of a day that are kept: an epoch asks at some fifty days again and again.
MAX_TABLES = 64


class ItemSales:
    """Sales of every item before any date, from the events of a :class:`Purchases`, and its promotions at the date.

    What a customer buys twice on one day is one sale: asked for is who buys an item, not how many pieces.

    Shapes: V = n_items + 1 rows, row 0 is padding; F features named in ``features``: ``ITEM_FEATURES`` and, where
    the data tell of promotions, theirs.
    """

    def __init__(self, data: Purchases, *, promotions: bool = True) -> None:
        """Take the purchases; with ``promotions`` false, as those of data that tell of none."""
        self.n_rows = data.n_items + 1
        told = self._promotions = data.promotions if promotions else None
        self.promoted, self.promoted_past = (told.features, told.past_features) if told else ((), ())
        self.features = (*ITEM_FEATURES, *self.promoted)
        sale = np.flatnonzero(is_sale(data))
        order = sale[np.argsort(data.day[sale], kind="stable")]
        self._day = np.asarray(data.day)[order]
        self._item = np.asarray(data.item)[order]
        self._repeated = is_repeat(data)[order]
        self._data = data
        self._first_day = np.full(self.n_rows, np.iinfo(np.int32).max, dtype=np.int64)
        np.minimum.at(self._first_day, self._item, self._day)
        self._tables = np.zeros((0, self.n_rows, len(self.features)), dtype=np.float32)
        self._row_of_day: dict[int, int] = {}

    def sold(self, begin_day: int, end_day: int) -> np.ndarray:
        """Return how often each item was sold (V,) int64 on days ``begin_day`` … ``end_day`` - 1."""
        begin, end = np.searchsorted(self._day, [begin_day, end_day])
        return np.bincount(self._item[begin:end], minlength=self.n_rows)

    def tables(self, days: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return tables (S, V, F) float32 and the row (G,) int64 among them that holds each of ``days`` (G,).

        Tables are kept for later calls, at most ``MAX_TABLES`` of them; they are not to be written to.
        """
        new = [day for day in dict.fromkeys(days) if day not in self._row_of_day]
        if new:
            if len(self._row_of_day) + len(new) > MAX_TABLES:
                self._row_of_day, new = {}, list(dict.fromkeys(days))
                self._tables = self._tables[:0]
            first = len(self._row_of_day)
            self._tables = np.concatenate([self._tables, np.stack([self.at(day) for day in new])])
            self._row_of_day |= {day: first + place for place, day in enumerate(new)}
        return self._tables, np.array([self._row_of_day[day] for day in days], dtype=np.int64)

    def at(self, day: int) -> np.ndarray:
        """Return the features (V, F) float32 of every item at the start of ``day``."""
        sold = self._sold_features(day)
        if self._promotions is None:
            return sold
        told = np.concatenate([sold, self._promotions.at(day)], axis=1)
        told[0] = 0
        return told

    def _sold_features(self, day: int) -> np.ndarray:
        """Return ``ITEM_FEATURES`` (V, F) float32 of every item at the start of ``day``."""
        sold_7, sold_28 = self.sold(day - 7, day), self.sold(day - 28, day)
        end = np.searchsorted(self._day, day)
        sold_all = np.bincount(self._item[:end], minlength=self.n_rows)
        repeats = np.bincount(self._item[:end], weights=self._repeated[:end], minlength=self.n_rows)
        # Two pseudo-purchases at the average keep the share of rarely sold items near it.
        average = repeats.sum() / max(int(sold_all.sum()), 1)
        never = self._first_day >= day
        age = np.where(never, 0, day - self._first_day)
        columns = [
            *(against_average(sold) for sold in (sold_7, sold_28, sold_all)),
            np.log1p(sold_7) - np.log1p(sold_28 / 4),
            np.log1p(age) / 4,
            2 * (repeats + 2 * average) / (sold_all + 2),
            never,
            np.where(never, against_average(sold_by_category(sold_7, self._data.categories)), 0),
        ]
        features = _side_by_side(columns)
        features[0] = 0
        return features


def own_columns(n_promoted: int) -> slice | list[int]:
    """Return which columns of a table of ``ItemSales`` say what an item sold itself, and how it is promoted.

    Args:
        n_promoted: features of promotions that are read; 0 reads none, whether the table has them or not.
    """
    if not n_promoted:
        return slice(0, len(OWN_FEATURES))
    return [*range(len(OWN_FEATURES)), *range(len(ITEM_FEATURES), len(ITEM_FEATURES) + n_promoted)]


def coming_columns(n_promoted: int) -> slice:
    """Return which columns of a table of ``ItemSales`` say how an item is promoted in the week from the date on."""
    return slice(len(ITEM_FEATURES), len(ITEM_FEATURES) + n_promoted // 2)


def against_average(sold: np.ndarray) -> np.ndarray:
    """Return how much more than the average item each item sold (V,), as a logarithm; one sale is added to all.

    Against the average, so that neither a busy week nor a log that has only begun moves all items at once.

    >>> against_average(np.array([0, 0, 3, 0])).round(2).tolist()  # row 0 is padding; the mean of 1, 4, 1 is 2
    [-0.69, -0.69, 0.69, -0.69]
    """
    more: np.ndarray = np.log1p(sold) - np.log1p(sold[1:].sum() / max(len(sold) - 1, 1))
    return more


def _side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return columns (P,) as one table (P, F) float32.

    Written column by column and turned at the end: a sixth of the time of ``numpy.stack``, which goes back and forth.
    """
    table_FP = np.empty((len(columns), len(columns[0])), dtype=np.float32)
    for row_P, column in zip(table_FP, columns, strict=True):
        row_P[:] = column
    return np.ascontiguousarray(table_FP.T)


def is_repeat(data: Purchases) -> np.ndarray:
    """Return (E,) bool: whether the user had bought the item on an earlier position of the history."""
    key, order = _by_pair(data)
    repeated = np.zeros(len(key), dtype=bool)
    repeated[order[1:]] = key[order[1:]] == key[order[:-1]]
    return repeated


def is_sale(data: Purchases) -> np.ndarray:
    """Return (E,) bool: whether it is the first purchase of the item by the user on the day."""
    key, order = _by_pair(data)
    sale = np.ones(len(key), dtype=bool)
    sale[order[1:]] = (key[order[1:]] != key[order[:-1]]) | (data.day[order[1:]] != data.day[order[:-1]])
    return sale


def _by_pair(data: Purchases) -> tuple[np.ndarray, np.ndarray]:
    """Return a key (E,) int64 of user and item of each event, and the order that puts equal ones together, by time."""
    key = data.user_of_event().astype(np.int64) * (data.n_items + 1) + data.item
    return key, np.argsort(key, kind="stable")
