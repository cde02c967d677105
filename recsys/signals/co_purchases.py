"""What customers buy together with an item, or within a week of it, as known at any date.

A week of a customer is one basket: the distinct items bought in it. How often two items meet in one, against how often
they would if baskets were drawn from what sells, is the lift of one by the other (Brin, Motwani and Silverstein 1997,
"Beyond Market Baskets"). All of it is counted before the date that is asked for; nothing is learned. NumPy and SciPy
only.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

CO_PURCHASE_FEATURES = ("lift", "lift_lately", "highest_lift", "past_items", "age_last", "user_items")
WEEK_DAYS = 7
#: Days before a date whose purchases are counted: a season.
WINDOW_DAYS = 91
#: CoPurchases of an item that are kept; items of a basket that are paired, the newest. At most.
MAX_CO_PURCHASES, MAX_BASKET = 32, 32
#: Days between the dates at which a log is counted for training, at most, and tables that are kept.
MAX_STEP_DAYS, MAX_KEPT = 28, 32
#: Past items of a customer whose co_purchases are looked up, those bought last; at most.
MAX_PAST = 32
#: Baskets that two items must meet in to be counted; baskets without a co_purchase that are added to those of an item.
_FEWEST_MEETINGS, _PRIOR_BASKETS = 2, 10.0


@dataclass(frozen=True)
class CoPurchases:
    """Items that go with a query's past items, with a summary of how.

    Shapes: C (query, item) pairs, sorted; F features named in ``CO_PURCHASE_FEATURES``.
    """

    query: np.ndarray  # (C,) int64
    item: np.ndarray  # (C,) int64 item_index
    features: np.ndarray  # (C, F) float32


class Baskets:
    """CoPurchases of every item at any date, from the purchases of everybody before it.

    Shapes: E events, V = n_items + 1 rows, row 0 is padding.
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, day: np.ndarray, n_rows: int) -> None:
        """Take events (E,), sorted by user and time."""
        self._user, self._item, self._day, self.n_rows = user, item, day, n_rows
        self._first = int(day.min()) if len(day) else 0
        self._tables: dict[int, sparse.csr_array] = {}

    def dates_for_training(self, day: np.ndarray) -> np.ndarray:
        """Return for each ``day`` (Q,) a date at it or not long before: an epoch asks at any, and few are counted.

        At most an eighth of the log so far stays out, and never ``MAX_STEP_DAYS``: steps double as the log grows.
        """
        age = np.maximum(day - self._first, 1)
        step = np.clip(2 ** np.floor(np.log2(age / 8)), 1, MAX_STEP_DAYS).astype(np.int64)
        dates: np.ndarray = self._first + age // step * step
        return dates

    def at(self, day: int) -> sparse.csr_array:
        """Return the lift (V, V) float32 of what goes with each item, known at the start of ``day``.

        Of each the ``MAX_CO_PURCHASES`` whose chance it raises most; at most ``MAX_KEPT`` tables are kept.
        """
        if day not in self._tables:
            if len(self._tables) >= MAX_KEPT:
                self._tables.clear()
            self._tables[day] = self._count(day)
        return self._tables[day]

    def _count(self, day: int) -> sparse.csr_array:
        known = np.flatnonzero((self._day < day) & (self._day >= day - WINDOW_DAYS))
        basket, item = _baskets(self._user[known], self._item[known], self._day[known], day)
        n_baskets = max(int(basket.max(initial=-1)) + 1, 1)
        held_V = np.bincount(item, minlength=self.n_rows)
        often = held_V[item] >= _FEWEST_MEETINGS
        basket, item = basket[often], item[often]
        holds_BV = sparse.csr_array(
            (np.ones(len(item), dtype=np.float32), (basket, item)), shape=(n_baskets, self.n_rows)
        )
        met = (holds_BV.T.tocsr() @ holds_BV).tocoo()
        pairs = np.flatnonzero((met.data >= _FEWEST_MEETINGS) & (met.row != met.col))
        row, column = met.row[pairs], met.col[pairs]
        chance = met.data[pairs] / (held_V[row] + _PRIOR_BASKETS)
        usual = held_V[column] / n_baskets
        order = np.lexsort((usual - chance, row))
        begin = np.searchsorted(row[order], np.arange(self.n_rows))
        order = order[np.arange(len(order)) - begin[row[order]] < MAX_CO_PURCHASES]
        lift = (chance[order] / usual[order]).astype(np.float32)
        return sparse.csr_array((lift, (row[order], column[order])), shape=(self.n_rows, self.n_rows))

    def of_past(
        self, query: np.ndarray, item: np.ndarray, age_last: np.ndarray, weights: np.ndarray, counted: np.ndarray
    ) -> CoPurchases:
        """Return the co_purchases of each query's past items, those that were bought last.

        Args:
            query: (P,) int64 query of each past item, ascending.
            item: (P,) its item_index.
            age_last: (P,) float days since its last purchase, as a logarithm.
            weights: (P, 2) float its decayed number of purchases, slowly and fast.
            counted: (Q,) int64 day up to which purchases are counted, for each query; not after its date.
        """
        if not len(query):
            return no_co_purchases()
        newest = np.lexsort((age_last, query))
        begin = np.searchsorted(query, np.arange(len(counted)))
        chosen = newest[np.arange(len(newest)) - begin[query] < MAX_PAST]
        of_query = np.stack([np.bincount(query, one, len(counted)) for one in weights.T], axis=1)
        share = weights[chosen] / np.maximum(of_query[query[chosen]], 1e-12)
        places, items, lifts = [], [], []
        for day in np.unique(counted):
            rows = np.flatnonzero(counted[query[chosen]] == day)
            table = self.at(int(day))
            first = table.indptr[item[chosen[rows]]]
            n_found = table.indptr[item[chosen[rows]] + 1] - first
            place = np.repeat(rows, n_found)
            entry = np.arange(len(place)) + np.repeat(first - (np.cumsum(n_found) - n_found), n_found)
            places.append(place)
            items.append(table.indices[entry])
            lifts.append(table.data[entry])
        place, co_purchase = np.concatenate(places), np.concatenate(items).astype(np.int64)
        lift = np.concatenate(lifts).astype(np.float64)
        key = query[chosen[place]] * self.n_rows + co_purchase
        order = np.argsort(key, kind="stable")
        key, place, lift = key[order], place[order], lift[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        if not len(starts):
            return no_co_purchases()
        own_query, own_item = np.divmod(key[starts], self.n_rows)
        n_items = np.bincount(query, minlength=len(counted))
        slowly, lately = (np.add.reduceat(share[place, column] * lift, starts) for column in (0, 1))
        columns = [
            np.log1p(slowly),
            np.log1p(lately),
            np.log1p(np.maximum.reduceat(lift, starts)),
            np.log1p(np.diff(starts, append=len(key))),
            np.minimum.reduceat(age_last[chosen[place]], starts),
            np.log1p(n_items[own_query]) / 4,
        ]
        return CoPurchases(own_query, own_item, np.stack(columns, axis=1).astype(np.float32))


def no_co_purchases() -> CoPurchases:
    """Return those of nobody."""
    none = np.zeros(0, dtype=np.int64)
    return CoPurchases(none, none, np.zeros((0, len(CO_PURCHASE_FEATURES)), dtype=np.float32))


def _baskets(user: np.ndarray, item: np.ndarray, day: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return baskets and their distinct items (n,), of each the ``MAX_BASKET`` newest; weeks end at ``end``."""
    week = (end - 1 - day) // WEEK_DAYS
    change = np.ones(len(user), dtype=bool)
    change[1:] = (user[1:] != user[:-1]) | (week[1:] != week[:-1])
    basket = np.cumsum(change) - 1
    last = np.append(np.flatnonzero(change)[1:], len(user)) - 1
    newest = np.arange(len(user)) > last[basket] - MAX_BASKET
    n_rows = int(item.max(initial=0)) + 1
    basket, item = np.divmod(np.unique(basket[newest].astype(np.int64) * n_rows + item[newest]), n_rows)
    return basket, item
