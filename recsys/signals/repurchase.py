"""How long after a purchase the next one of the same item comes, and what comes back sooner than others do.

A hazard: purchases of an item a day, by the days since the user's last one, of everybody and of the item's group;
who has not come back yet counts as Kaplan and Meier (1958, "Nonparametric Estimation from Incomplete Observations")
count them. On it a factor each of the item, the user, and the user with the item: the purchases that came
against those expected, drawn towards 1 (gamma frailties, Clayton 1978, "A Model for Association in Bivariate Life
Tables"). All of it is counted before the day that is asked for; nothing is learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys.signals.counts import NEVER, Counts

_EXPECTED = ("expected_everyone", "expected_group", "expected_item")
REPURCHASE_FEATURES = (*_EXPECTED, "user_frailty", "frailty", "expected", "expected_28")
#: Between two of these, in days since the last purchase, the rate is constant.
_EDGES_DAYS = np.array([0, 1, 3, 5, 7, 9, 11, 14, 18, 22, 28, 36, 46, 60, 80, 110, 150, 220, 400])
_WIDTH_DAYS = np.diff(_EDGES_DAYS)
_LONGEST_DAYS = int(_EDGES_DAYS[-1])
_PIECE_OF_DAYS = np.maximum(np.searchsorted(_EDGES_DAYS, np.arange(_LONGEST_DAYS + 1)) - 1, 0)
#: Purchases as expected that are added to those that were seen; of everybody one in thirty days.
_OF_EVERYONE, _OF_GROUP, _OF_ITEM, _OF_USER, _OF_PAIR = 1.0, 1.0, 5.0, 5.0, 2.0
_FIRST_GUESS_DAYS = 30.0
_SOON_DAYS, _LATER_DAYS = 7, 28
_LEAST = 1e-6


@dataclass(frozen=True)
class HazardTables:
    """How soon items are bought again, known at a day: of G groups, V = n_items + 1 items, at the edges of K pieces."""

    everyone: np.ndarray  # (1, K+1) float32 purchases to expect from the last one up to each edge
    groups: np.ndarray  # (G, K+1) float32
    frailty: np.ndarray  # (V,) float32 factor of each item on the rate of its group


def expected_purchases(table_GK: np.ndarray, row: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return how many purchases (n,) to expect within ``days`` (n,) int64 by the ``row`` (n,) of a hazard table."""
    piece = _PIECE_OF_DAYS[np.minimum(days, _LONGEST_DAYS)]  # beyond the last edge its rate goes on
    begin = table_GK[row, piece]
    rate = (table_GK[row, piece + 1] - begin) / _WIDTH_DAYS[piece]
    return begin + rate * (days - _EDGES_DAYS[piece])


class Repurchases:
    """Hazard tables of any day, from the purchases of everybody before it."""

    def __init__(self, user: np.ndarray, item: np.ndarray, day: np.ndarray, group: np.ndarray) -> None:
        """Take events (E,), sorted by user and time, and the group (V,) int64 of each item, padding first."""
        self._group = group
        key = user.astype(np.int64) * len(group) + item
        order = np.argsort(key, kind="stable")
        key, start = key[order], np.asarray(day)[order].astype(np.int32)
        following = np.full(len(key), NEVER, dtype=np.int32)
        same = np.flatnonzero(key[1:] == key[:-1])
        following[same] = start[same + 1]
        kept = np.flatnonzero(following > start)  # two on one day are one purchase
        kept = kept[np.argsort(start[kept], kind="stable")]
        self._item = (key[kept] % len(group)).astype(np.int32)
        self._start, self._following = start[kept], following[kept]

    def counts(self, day: int) -> Counts:
        """Return what :func:`hazards_of` reads at the start of ``day``: sums over users, (V, K) or (V,) int64 each.

        Of each item and piece, how many times since a purchase ended in it, how many of these with the next purchase,
        and their days inside it; of each item, all next purchases, and the days beyond the last edge.
        """
        n, n_rows, n_pieces = int(np.searchsorted(self._start, day)), len(self._group), len(_WIDTH_DAYS)
        item, start, following = self._item[:n], self._start[:n], self._following[:n]
        again = following < day
        length = np.where(again, following, day - 1) - start
        days = np.minimum(length, _LONGEST_DAYS)
        piece = _PIECE_OF_DAYS[days]
        key, size = item.astype(np.int64) * n_pieces + piece, n_rows * n_pieces
        summed = {"ended": None, "came": again & (length <= _LONGEST_DAYS), "inside": days - _EDGES_DAYS[piece]}
        of_pieces = {name: np.bincount(key, one, size).reshape(n_rows, n_pieces) for name, one in summed.items()}
        of_items = {name: np.bincount(item, one, n_rows) for name, one in (("all", again), ("beyond", length - days))}
        return {name: table.astype(np.int64) for name, table in (of_pieces | of_items).items()}


def hazards_of(counts: Counts, group: np.ndarray) -> HazardTables:
    """Return the hazard tables of counts, by the ``group`` (V,) int64 of each item."""
    everyone, groups = rates_of(sums_by_group(counts, group))
    return HazardTables(everyone, groups, frailty_of(counts, group, groups, np.arange(len(group))))


def sums_by_group(counts: Counts, group: np.ndarray) -> Counts:
    """Return what :func:`rates_of` reads: those of the counts that are by piece, summed over each ``group`` (V,)."""
    shape = int(group.max(initial=0)) + 1, len(group)
    of_groups = sparse.csr_array((np.ones(len(group), np.int64), (group, np.arange(len(group)))), shape=shape)
    return {name: of_groups @ counts[name] for name in ("ended", "came", "inside")}


def rates_of(sums: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return ``everyone`` and ``groups`` of :class:`HazardTables` by the sums (G, K) of each group."""
    nobody_else = np.full(len(_WIDTH_DAYS), 1 / _FIRST_GUESS_DAYS)
    all_sums = {name: table.sum(axis=0, keepdims=True) for name, table in sums.items()}
    everyone_1K = _shrunk_rates(all_sums, nobody_else, _OF_EVERYONE)
    group_GK = _shrunk_rates(sums, everyone_1K[0], _OF_GROUP)
    return _summed(everyone_1K).astype(np.float32), _summed(group_GK).astype(np.float32)


def frailty_of(counts: Counts, group: np.ndarray, groups: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return the factor (n,) float32 of each of ``item`` (n,) on the rate of its group, by the table ``groups``."""
    group_n = group[item]
    begin_nK = groups[group_n, :-1]
    rate_nK = np.diff(groups, axis=1)[group_n] / _WIDTH_DAYS
    expected = (counts["ended"][item] * begin_nK + counts["inside"][item] * rate_nK).sum(axis=1)
    expected += counts["beyond"][item] * rate_nK[:, -1]  # beyond the last edge its rate goes on
    return np.asarray((counts["all"][item] + _OF_ITEM) / (expected + _OF_ITEM), dtype=np.float32)


def repurchase_features(
    hazards: Mapping[int, HazardTables],
    group_V: np.ndarray,
    query: np.ndarray,
    item: np.ndarray,
    day: np.ndarray,
    starts: np.ndarray,
    day_Q: np.ndarray,
) -> list[np.ndarray]:
    """Return ``REPURCHASE_FEATURES`` of each query's past items, (P,) float64 each, as logarithms.

    What begins with ``expected`` is how many purchases to expect in the 7 days (or 28) from the query's day on. Known
    events (N,) are given sorted by query, item and time; ``starts`` (P,) is the first of each pair.
    """
    if not len(starts):
        return [np.zeros(0)] * len(REPURCHASE_FEATURES)
    last = np.zeros(len(query), dtype=bool)
    last[np.append(starts[1:], len(query)) - 1] = True
    until = np.where(last, day_Q[query] - 1, np.append(day[1:], 0))
    length = np.maximum(until - day, 0)
    again = ~last & (length > 0)
    pair_query, pair_item, since = query[starts], item[starts], length[last]
    group, pair_group = group_V[item], group_V[pair_item]
    expected, frailty_P = np.zeros(len(query)), np.zeros(len(starts))
    everyone_P, soon_P, later_P = np.zeros((3, len(starts)))
    day_of_event, day_of_pair = day_Q[query], day_Q[pair_query]
    for one in np.unique(day_of_pair):
        tables = hazards[int(one)]
        rows, pairs = np.flatnonzero(day_of_event == one), np.flatnonzero(day_of_pair == one)
        expected[rows] = expected_purchases(tables.groups, group[rows], length[rows]) * tables.frailty[item[rows]]
        frailty_P[pairs] = tables.frailty[pair_item[pairs]]
        days, of_group, of_all = since[pairs], pair_group[pairs], np.zeros_like(pairs)
        now = expected_purchases(tables.groups, of_group, days)
        soon_P[pairs] = expected_purchases(tables.groups, of_group, days + _SOON_DAYS) - now
        later_P[pairs] = expected_purchases(tables.groups, of_group, days + _LATER_DAYS) - now
        now = expected_purchases(tables.everyone, of_all, days)
        everyone_P[pairs] = expected_purchases(tables.everyone, of_all, days + _SOON_DAYS) - now
    came_P, expected_P = (np.add.reduceat(one.astype(np.float64), starts) for one in (again, expected))
    came_Q, expected_Q = (np.bincount(pair_query, one, len(day_Q)) for one in (came_P, expected_P))
    of_user_P = ((came_Q + _OF_USER) / (expected_Q + _OF_USER))[pair_query]
    of_pair_P = (came_P + _OF_PAIR) / (expected_P * of_user_P + _OF_PAIR)
    all_P = frailty_P * of_user_P * of_pair_P
    columns = [everyone_P, soon_P, soon_P * frailty_P, of_user_P, of_pair_P, soon_P * all_P, later_P * all_P]
    return [np.log(np.maximum(column, _LEAST)) for column in columns]


def _shrunk_rates(sums: Counts, towards_K: np.ndarray, strength: float) -> np.ndarray:
    """Return purchases a day in each piece (G, K), drawn towards ``towards_K`` (K,)."""
    ended, came, inside = (sums[name] for name in ("ended", "came", "inside"))
    lasted = ended[:, ::-1].cumsum(axis=1)[:, ::-1] - ended
    return np.asarray((came + strength) / (inside + lasted * _WIDTH_DAYS + strength / towards_K))


def _summed(rates_GK: np.ndarray) -> np.ndarray:
    return np.pad((rates_GK * _WIDTH_DAYS).cumsum(axis=1), ((0, 0), (1, 0)))
