"""How long after a purchase the next one of the same item comes, and who comes back sooner than others do.

A hazard: purchases of an item a day, by the days since the customer's last one, of everybody and of the item's group;
who has not come back yet counts as Kaplan and Meier (1958, "Nonparametric Estimation from Incomplete Observations")
count them. On it a factor each of the item, the customer, and the customer with the item: the purchases that came
against those expected, drawn towards 1 (gamma frailties, Clayton 1978, "A Model for Association in Bivariate Life
Tables"). All of it is counted before the date that is asked for; nothing is learned. NumPy only.
"""

from dataclasses import dataclass

import numpy as np

REPURCHASE_FEATURES = ("due_everyone", "due_group", "due_item", "user_eagerness", "eagerness", "due", "due_28")
#: HazardTables of a day that are kept: an epoch asks at some fifty days again and again.
MAX_KEPT = 64
#: Between two of these, in days since the last purchase, the rate is constant.
_EDGES_DAYS = np.array([0, 1, 3, 5, 7, 9, 11, 14, 18, 22, 28, 36, 46, 60, 80, 110, 150, 220, 400])
_WIDTH_DAYS = np.diff(_EDGES_DAYS)
_LONGEST_DAYS = int(_EDGES_DAYS[-1])
_PIECE_OF_DAYS = np.maximum(np.searchsorted(_EDGES_DAYS, np.arange(_LONGEST_DAYS + 1)) - 1, 0)
#: Purchases as expected that are added to those that were seen; of everybody one in thirty days.
_OF_EVERYONE, _OF_GROUP, _OF_ITEM, _OF_CUSTOMER, _OF_PAIR = 1.0, 1.0, 5.0, 5.0, 2.0
_FIRST_GUESS_DAYS = 30.0
_SOON_DAYS, _LATER_DAYS = 7, 28
_LEAST = 1e-6
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True)
class HazardTables:
    """What is known at a day.

    Shapes: G groups, V = n_items + 1, K + 1 edges of K pieces.
    """

    everyone: np.ndarray  # (1, K+1) float32 purchases to expect from the last one up to each edge
    groups: np.ndarray  # (G, K+1) float32
    eagerness: np.ndarray  # (V,) float32 factor of each item on the rate of its group


def expected(table_GK: np.ndarray, row: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return how many purchases (n,) to expect within ``days`` (n,) int64 by the ``row`` (n,) of a table of `HazardTables`."""
    piece = _PIECE_OF_DAYS[np.minimum(days, _LONGEST_DAYS)]  # beyond the last edge its rate goes on
    begin = table_GK[row, piece]
    rate = (table_GK[row, piece + 1] - begin) / _WIDTH_DAYS[piece]
    within: np.ndarray = begin + rate * (days - _EDGES_DAYS[piece])
    return within


class Repurchase:
    """HazardTables at any date, from the purchases of everybody before it."""

    def __init__(self, user: np.ndarray, item: np.ndarray, day: np.ndarray, group: np.ndarray) -> None:
        """Take events (E,), sorted by user and time, and the group (V,) int64 of each item, padding first."""
        self._group, self._n_groups = group, int(group.max(initial=0)) + 1
        key = user.astype(np.int64) * len(group) + item
        order = np.argsort(key, kind="stable")
        key, start = key[order], np.asarray(day)[order].astype(np.int32)
        following = np.full(len(key), _NEVER, dtype=np.int32)
        same = np.flatnonzero(key[1:] == key[:-1])
        following[same] = start[same + 1]
        kept = np.flatnonzero(following > start)  # two on one day are one purchase
        kept = kept[np.argsort(start[kept], kind="stable")]
        self._item, self._start, self._following = (
            (key[kept] % len(group)).astype(np.int32),
            start[kept],
            following[kept],
        )
        self._rates: dict[int, HazardTables] = {}

    def at(self, day: int) -> HazardTables:
        """Return the rates known at the start of ``day``; they are kept for later calls, at most ``MAX_KEPT``."""
        if day not in self._rates:
            if len(self._rates) >= MAX_KEPT:
                self._rates.clear()
            self._rates[day] = self._count(day)
        return self._rates[day]

    def _count(self, day: int) -> HazardTables:
        n = int(np.searchsorted(self._start, day))
        item, start, following = self._item[:n], self._start[:n], self._following[:n]
        again = following < day
        length = np.where(again, following, day - 1) - start
        group = self._group[item]
        nobody_else = np.full(len(_WIDTH_DAYS), 1 / _FIRST_GUESS_DAYS)
        everyone_1K = _drawn(np.zeros_like(group), 1, length, again, nobody_else, _OF_EVERYONE)
        group_GK = _drawn(group, self._n_groups, length, again, everyone_1K[0], _OF_GROUP)
        everyone, groups = (_summed(rates).astype(np.float32) for rates in (everyone_1K, group_GK))
        came = np.bincount(item, again, len(self._group))
        were_due = np.bincount(item, expected(groups, group, length), len(self._group))
        return HazardTables(everyone, groups, ((came + _OF_ITEM) / (were_due + _OF_ITEM)).astype(np.float32))

    def of_past(
        self, query: np.ndarray, item: np.ndarray, day: np.ndarray, starts: np.ndarray, asked: np.ndarray
    ) -> list[np.ndarray]:
        """Return ``REPURCHASE_FEATURES`` of each query's past items, (P,) float64 each, as logarithms.

        What begins with ``due`` is how many purchases to expect in the 7 days (or 28) from the date on.

        Args:
            query: (N,) int64 query of each known event, sorted by query, item and time.
            item: (N,) its item_index.
            day: (N,) its day.
            starts: (P,) int64 first event of each (query, item).
            asked: (Q,) date of each query, after each of its days.
        """
        if not len(starts):
            return [np.zeros(0)] * len(REPURCHASE_FEATURES)
        last = np.zeros(len(query), dtype=bool)
        last[np.append(starts[1:], len(query)) - 1] = True
        until = np.where(last, asked[query] - 1, np.append(day[1:], 0))
        length = np.maximum(until - day, 0)
        again = ~last & (length > 0)
        pair_query, pair_item, since = query[starts], item[starts], length[last]
        group, pair_group = self._group[item], self._group[pair_item]
        were_due, factor_P = np.zeros(len(query)), np.zeros(len(starts))
        everyone_P, soon_P, later_P = np.zeros((3, len(starts)))
        day_asked, pair_asked = asked[query], asked[pair_query]
        for one in np.unique(pair_asked):
            rates = self.at(int(one))
            rows, pairs = np.flatnonzero(day_asked == one), np.flatnonzero(pair_asked == one)
            were_due[rows] = expected(rates.groups, group[rows], length[rows]) * rates.eagerness[item[rows]]
            factor_P[pairs] = rates.eagerness[pair_item[pairs]]
            days, of_group, of_all = since[pairs], pair_group[pairs], np.zeros_like(pairs)
            now = expected(rates.groups, of_group, days)
            soon_P[pairs] = expected(rates.groups, of_group, days + _SOON_DAYS) - now
            later_P[pairs] = expected(rates.groups, of_group, days + _LATER_DAYS) - now
            now = expected(rates.everyone, of_all, days)
            everyone_P[pairs] = expected(rates.everyone, of_all, days + _SOON_DAYS) - now
        came_P, due_P = (np.add.reduceat(one.astype(np.float64), starts) for one in (again, were_due))
        came_Q, due_Q = (np.bincount(pair_query, one, len(asked)) for one in (came_P, due_P))
        of_customer_P = ((came_Q + _OF_CUSTOMER) / (due_Q + _OF_CUSTOMER))[pair_query]
        of_pair_P = (came_P + _OF_PAIR) / (due_P * of_customer_P + _OF_PAIR)
        all_P = factor_P * of_customer_P * of_pair_P
        columns = [everyone_P, soon_P, soon_P * factor_P, of_customer_P, of_pair_P, soon_P * all_P, later_P * all_P]
        return [np.log(np.maximum(column, _LEAST)) for column in columns]


def _drawn(
    row: np.ndarray, n_rows: int, length: np.ndarray, again: np.ndarray, towards_K: np.ndarray, strength: float
) -> np.ndarray:
    """Return purchases a day in each piece (n_rows, K), drawn towards the rates ``towards_K`` (K,)."""
    days = np.minimum(length, _LONGEST_DAYS)
    piece, n_pieces = _PIECE_OF_DAYS[days], len(_WIDTH_DAYS)
    key, size = row * n_pieces + piece, n_rows * n_pieces
    came, ended, inside = (
        np.bincount(key, weights, size).reshape(n_rows, n_pieces)
        for weights in (again & (length <= _LONGEST_DAYS), None, days - _EDGES_DAYS[piece])
    )
    lasted = ended[:, ::-1].cumsum(axis=1)[:, ::-1] - ended
    rates: np.ndarray = (came + strength) / (inside + lasted * _WIDTH_DAYS + strength / towards_K)
    return rates


def _summed(rates_GK: np.ndarray) -> np.ndarray:
    return np.pad((rates_GK * _WIDTH_DAYS).cumsum(axis=1), ((0, 0), (1, 0)))
