"""Each user's history as numbers, past item by past item: events before the day asked alone, nothing is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.purchases import Purchases, event_positions
from recsys.signals.repurchase import REPURCHASE_FEATURES, HazardTables, repurchase_features

_HALF_LIVES_DAYS = (7, 20, 60, 150)
_DECAYED = tuple(f"decayed_{days}" for days in _HALF_LIVES_DAYS)
_TIMES = ("count", *_DECAYED, "age_last", "age_first", "mean_gap", "overdue", "has_gap")
_TRIPS = ("trips_since_last", "share_of_trips", "share_of_trips_since_first")
#: What is the same for all past items of a query.
USER_FEATURES = ("user_events", "user_trips", "user_days_since_trip", "user_mean_trip_gap")
_GROUP = ("group_items", "group_count", "group_decayed_20", "group_decayed_60", "group_age_last")
_SHARES = ("share_of_group", "share_of_group_decayed_60")
PAST_FEATURES = (*_TIMES, *_TRIPS, "quantity", *USER_FEATURES, *_GROUP, *_SHARES, *REPURCHASE_FEATURES)


@dataclass(frozen=True)
class Summaries:
    """What is known of each query's categories, or of what is bought together with its past items: N pairs, sorted."""

    query: np.ndarray  # (N,) int64 position of the query, ascending
    code: np.ndarray  # (N,) int64 code of the category, or item_index
    features: np.ndarray  # (N, F) float32


@dataclass(frozen=True)
class PastItems:
    """P distinct past items of queries, sorted: ``PAST_FEATURES``, then ``Promotions.past_features`` where known."""

    query: np.ndarray  # (P,) int64 position of the query, ascending
    item: np.ndarray  # (P,) int64 item_index
    features: np.ndarray  # (P, F) float32

    def named(self, name: str) -> np.ndarray:
        """Return the feature ``name`` (P,) float64."""
        return self.features[:, PAST_FEATURES.index(name)].astype(np.float64)


def past_items(
    hazards: Mapping[int, HazardTables],
    groups: np.ndarray,
    log: Purchases,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    promoted: np.ndarray | None,
) -> PastItems:
    """Return what the user of each query bought before, item by item, out of ``log`` up to flat positions ``end`` (Q,).

    All known events are before the query's ``day`` (Q,); ``hazards`` are of these days, ``groups`` (V,) of the items.
    Counts enter as logarithms, ages in log-days divided by 4. What begins with ``group`` sums over the user's past
    items of the same group. Last come, from ``promoted`` (E + 1, K) of ``Promotions.sums``, the mean promotion of the
    item's and of all purchases.
    """
    n_rows = log.n_items + 1
    begin = log.offsets[user_index]
    query, position = event_positions(begin, end)
    key = query * n_rows + log.item[position]
    order = np.argsort(key, kind="stable")  # stable: within a pair, time order stays
    key, position = key[order], position[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    pair_query, pair_item = np.divmod(key[starts], n_rows)
    trips = _trips(log, begin, end, day)
    of_pairs = _pair_columns(log, position, starts, day[pair_query], trips[pair_query])
    columns = [
        *of_pairs,
        *_group_columns(dict(zip(PAST_FEATURES, of_pairs, strict=False)), pair_query, groups[pair_item]),
        *repurchase_features(
            hazards, groups, key // n_rows, log.item[position], np.asarray(log.day[position]), starts, np.asarray(day)
        ),
    ]
    if promoted is not None:
        count = np.diff(starts, append=len(position))
        of_pair = np.add.reduceat(promoted[position + 1] - promoted[position], starts) / count[:, None]
        of_query = (promoted[end] - promoted[begin]) / np.maximum(end - begin, 1)[:, None]
        columns += [*of_pair.T, *of_query[pair_query].T]
    return PastItems(pair_query, pair_item, side_by_side(columns))


def _pair_columns(
    log: Purchases, position: np.ndarray, starts: np.ndarray, day: np.ndarray, trips: np.ndarray
) -> list[np.ndarray]:
    """Return what the events of each pair say, (P,) a feature; ``starts`` (P,) begins each group in ``position``."""
    count = np.diff(starts, append=len(position))
    lasts = starts + count - 1
    event_day = log.day[position].astype(np.float32)
    age = np.maximum(np.repeat(day, count) - event_day, 0)
    decayed = [np.log1p(np.add.reduceat(np.exp2(-age / half_life), starts)) for half_life in _HALF_LIVES_DAYS]
    age_last, age_first = age[lasts], age[starts]
    mean_gap = (age_first - age_last) / np.maximum(count - 1, 1)
    has_gap = mean_gap > 0
    basket = log.basket[position]
    n_trips, events, since_trip, trip_gap = trips.T
    is_new_trip = np.diff(basket, prepend=-1) != 0
    is_new_trip[starts] = True
    item_trips = np.add.reduceat(is_new_trip, starts)
    return [
        np.log1p(count),
        *decayed,
        np.log1p(age_last) / 4,
        np.log1p(age_first) / 4,
        np.where(has_gap, np.log1p(mean_gap) / 4, 1.5),
        np.where(has_gap, np.minimum(age_last / np.maximum(mean_gap, 1), 5) / 2, 0),
        has_gap,
        np.log1p(n_trips - 1 - basket[lasts]) / 4,
        item_trips / n_trips,
        item_trips / (n_trips - basket[starts] + 1),
        np.log1p(np.maximum(np.add.reduceat(log.quantity[position], starts) / count, 0)),  # returns may outweigh
        np.log1p(events) / 8,
        np.log1p(n_trips) / 6,
        np.log1p(since_trip) / 4,
        np.log1p(trip_gap) / 4,
    ]


def _group_columns(of_pairs: Mapping[str, np.ndarray], query: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """Return what a query's past items of one group come to together, (P,) a feature; ``group`` (P,) is the item's."""
    _, place = np.unique(query * (int(group.max(initial=0)) + 1) + group, return_inverse=True)
    names = ("count", "decayed_20", "decayed_60")
    count, decayed_20, decayed_60 = (np.expm1(of_pairs[name].astype(np.float64)) for name in names)
    summed = [np.bincount(place, weights=one)[place] for one in (np.ones(len(place)), count, decayed_20, decayed_60)]
    age_last = np.full(int(place.max(initial=-1)) + 1, np.inf)
    np.minimum.at(age_last, place, of_pairs["age_last"])
    shares = count / np.maximum(summed[1], 1), decayed_60 / np.maximum(summed[3], 1e-9)
    return [*np.log1p(summed), age_last[place], *shares]


def _trips(log: Purchases, begin: np.ndarray, end: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return per query (Q, 4): number of baskets, number of events, days since the last, mean days between."""
    if not log.n_events:
        return np.zeros((len(end), 4), dtype=np.float32)
    known = end > begin
    first, last = np.where(known, begin, 0), np.where(known, end - 1, 0)
    n_trips = np.where(known, log.basket[last] + 1, 0)
    mean_gap = (log.day[last] - log.day[first]) / np.maximum(n_trips - 1, 1)
    columns = [n_trips, end - begin, np.where(known, day - log.day[last], 0), mean_gap]
    return np.stack(columns, axis=1).astype(np.float32)


def side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return columns (P,) as a table (P, F) float32; turned at the end, in a sixth of the time of ``numpy.stack``."""
    table_FP = np.empty((len(columns), len(columns[0])), dtype=np.float32)
    for row_P, column in zip(table_FP, columns, strict=True):
        row_P[:] = column
    return np.ascontiguousarray(table_FP.T)
