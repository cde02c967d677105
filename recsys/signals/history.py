"""Each user's history as numbers: past items, their categories, what is bought together with them. NumPy only.

Everything here reads only events before the day it is asked for; nothing is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys.data.purchases import Purchases
from recsys.signals.repurchase import REPURCHASE_FEATURES, repurchase_features
from recsys.signals.sales import side_by_side
from recsys.signals.snapshot import Snapshot

PAST_FEATURES = (
    "count",
    "decayed_7",
    "decayed_20",
    "decayed_60",
    "decayed_150",
    "age_last",
    "age_first",
    "mean_gap",
    "overdue",
    "has_gap",
    "trips_since_last",
    "share_of_trips",
    "share_of_trips_since_first",
    "quantity",
    "user_events",
    "user_trips",
    "user_days_since_trip",
    "user_mean_trip_gap",
    "group_items",
    "group_count",
    "group_decayed_20",
    "group_decayed_60",
    "group_age_last",
    "share_of_group",
    "share_of_group_decayed_60",
    *REPURCHASE_FEATURES,
)
CATEGORY_FEATURES = (
    "items",
    "count",
    "decayed_7",
    "decayed_20",
    "decayed_60",
    "decayed_150",
    "discoveries_20",
    "discoveries_60",
    "age_last",
    "age_first",
    "age_discovery",
    "items_a_purchase",
    "share",
    "share_60",
    "lift",
    "user_events",
    "user_trips",
    "user_days_since_trip",
    "user_mean_trip_gap",
)
CO_PURCHASE_FEATURES = ("lift", "lift_lately", "highest_lift", "past_items", "age_last", "user_items")
#: Past items of a user whose co-purchases are looked up, those bought last; at most.
MAX_PAST = 32
_HALF_LIVES_DAYS = (7.0, 20.0, 60.0, 150.0)
#: Of ``PAST_FEATURES``, what a pair's own events say.
_N_PAIR_FEATURES = PAST_FEATURES.index("group_items")

#: Snapshots by their day.
SnapshotsByDay = Mapping[int, Snapshot]


@dataclass(frozen=True)
class PastItems:
    """Distinct past items of each query with a summary of the whole history of each.

    Shapes: P (query, item) pairs, sorted by query then item; F features named in ``PAST_FEATURES`` and, where
    promotions are known, ``Promotions.past_features``.
    """

    query: np.ndarray  # (P,) int64 position of the query, ascending
    item: np.ndarray  # (P,) int64 item_index
    features: np.ndarray  # (P, F) float32

    def named(self, name: str) -> np.ndarray:
        """Return the feature ``name`` (P,) float64."""
        one: np.ndarray = self.features[:, PAST_FEATURES.index(name)].astype(np.float64)
        return one


def past_items(
    snapshots: SnapshotsByDay,
    log: Purchases,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    promoted: np.ndarray | None,
) -> PastItems:
    """Return what each query's user bought before, item by item.

    Args:
        snapshots: of each day in ``day``.
        log: the purchases.
        user_index: (Q,) user of each query.
        end: (Q,) flat position up to which the history is known.
        day: (Q,) day of each query, days since 1970-01-01; no known event is of this day or later.
        promoted: (E + 1, K) sums over the log's events before each of how much they were promoted; None where nothing
            is known of promotions.

    Returns:
        One row for each distinct (query, item). Counts enter as logarithms, ages in log-days divided by 4. What
        begins with ``group`` sums over the user's past items of the same group (``ItemCodes.groups``); what follows
        is that of :func:`recsys.signals.repurchase.repurchase_features`, and how much was promoted, on average, what
        the user bought: the item, and everything.
    """
    n_rows = log.n_items + 1
    begin = log.offsets[user_index]
    counts = end - begin
    query = np.repeat(np.arange(len(user_index)), counts)
    position = np.arange(len(query)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
    key = query * n_rows + log.item[position]
    order = np.argsort(key, kind="stable")  # stable: within a pair, time order stays
    key, position = key[order], position[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, dtype=np.int64)
    pair_query, pair_item = np.divmod(key[starts], n_rows)
    trips = _trips(log, begin, end, day)
    of_pairs = _pair_columns(log, position, starts, day[pair_query], trips[pair_query])
    groups = next(iter(snapshots.values())).codes.groups if snapshots else np.zeros(n_rows, dtype=np.int64)
    hazards = {one: snapshot.hazards for one, snapshot in snapshots.items()}
    columns = [
        *of_pairs,
        *_group_columns(dict(zip(PAST_FEATURES, of_pairs, strict=False)), pair_query, groups[pair_item]),
        *repurchase_features(
            hazards, groups, key // n_rows, log.item[position], np.asarray(log.day[position]), starts, np.asarray(day)
        ),
        *(
            []
            if promoted is None
            else _promoted_columns(promoted, position, starts, begin[pair_query], end[pair_query])
        ),
    ]
    return PastItems(pair_query, pair_item, side_by_side(columns))


def _pair_columns(
    log: Purchases, position: np.ndarray, starts: np.ndarray, day: np.ndarray, trips: np.ndarray
) -> list[np.ndarray]:
    """Return what the events of each pair say, (P,) a feature; ``starts`` (P,) begins each group in ``position``."""
    if not len(starts):
        return [np.zeros(0)] * _N_PAIR_FEATURES
    lasts = np.append(starts[1:], len(position)) - 1
    count = lasts - starts + 1
    event_day = log.day[position].astype(np.float32)
    age = np.maximum(np.repeat(day, count) - event_day, 0)
    decayed = [np.log1p(np.add.reduceat(np.exp2(-age / half_life), starts)) for half_life in _HALF_LIVES_DAYS]
    age_last, age_first = age[lasts], age[starts]
    mean_gap = (age_first - age_last) / np.maximum(count - 1, 1)
    has_gap = mean_gap > 0
    basket = log.basket[position]
    n_trips, events, since_trip, trip_gap = trips.T
    change = np.concatenate([[True], basket[1:] != basket[:-1]])
    change[starts] = True
    item_trips = np.add.reduceat(change, starts)
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
        np.log1p(np.add.reduceat(log.quantity[position], starts) / count),
        np.log1p(events) / 8,
        np.log1p(n_trips) / 6,
        np.log1p(since_trip) / 4,
        np.log1p(trip_gap) / 4,
    ]


def _promoted_columns(
    promoted: np.ndarray, position: np.ndarray, starts: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> list[np.ndarray]:
    """Return how much was promoted when it was bought (P,) a feature, of each pair and of each pair's user.

    Args:
        promoted: (E + 1, K) sums over the events before each.
        position: (N,) flat positions of the events of all pairs, pair by pair.
        starts: (P,) where each pair begins there.
        begin: (P,) flat position at which the user's known history begins.
        end: (P,) flat position up to which it is known.
    """
    n_media = promoted.shape[1]
    if not len(starts):
        return [np.zeros(0)] * (2 * n_media)
    count = np.diff(np.append(starts, len(position)))
    of_pair = np.add.reduceat(promoted[position + 1] - promoted[position], starts) / count[:, None]
    of_user = (promoted[end] - promoted[begin]) / np.maximum(end - begin, 1)[:, None]
    return [*of_pair.T, *of_user.T]


def _group_columns(of_pairs: Mapping[str, np.ndarray], query: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """Return what a query's past items of one group come to together, (P,) a feature, for each of them.

    Args:
        of_pairs: features of each pair by name, as :func:`_pair_columns` returns them.
        query: (P,) int64.
        group: (P,) int64 group of the item.
    """
    _, place = np.unique(query * (int(group.max(initial=0)) + 1) + group, return_inverse=True)
    count, decayed_20, decayed_60 = (
        np.expm1(of_pairs[name].astype(np.float64)) for name in ("count", "decayed_20", "decayed_60")
    )
    summed = [np.bincount(place, weights=one)[place] for one in (np.ones(len(place)), count, decayed_20, decayed_60)]
    age_last = np.full(int(place.max(initial=-1)) + 1, np.inf)
    np.minimum.at(age_last, place, of_pairs["age_last"])
    return [
        *np.log1p(summed),
        age_last[place],
        count / np.maximum(summed[1], 1),
        decayed_60 / np.maximum(summed[3], 1e-9),
    ]


def _trips(log: Purchases, begin: np.ndarray, end: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return per query (Q, 4): number of baskets, number of events, days since the last, mean days between."""
    known = end > begin
    last = np.where(known, end - 1, 0)
    first = np.where(known, begin, 0)
    if not log.n_events:
        return np.zeros((len(end), 4), dtype=np.float32)
    n_trips = np.where(known, log.basket[last] + 1, 0)
    span = log.day[last] - log.day[first]
    return np.stack(
        [n_trips, end - begin, np.where(known, day - log.day[last], 0), span / np.maximum(n_trips - 1, 1)], axis=1
    ).astype(np.float32)


@dataclass(frozen=True)
class CategoryHistory:
    """Categories of items among each query's past, with a summary of the purchases of each.

    Shapes: R (query, category) pairs, sorted; F features named in ``CATEGORY_FEATURES``.
    """

    query: np.ndarray  # (R,) int64
    code: np.ndarray  # (R,) int64, as in ``ItemCodes.categories``
    features: np.ndarray  # (R, F) float32


def category_history(
    past: PastItems, categories: np.ndarray, snapshots: SnapshotsByDay, day: np.ndarray
) -> CategoryHistory:
    """Return what each query's past items of one category come to together, for every category of theirs.

    Args:
        past: the past items.
        categories: (V, C) int64 codes of each item, 0 where nothing is known.
        snapshots: of each day in ``day``.
        day: (Q,) day of each query.
    """
    n_codes = int(categories.max(initial=0)) + 1
    code_PC = categories[past.item]
    key_PC = past.query[:, None] * n_codes + code_PC
    pair, column = np.nonzero(code_PC)
    key, place = np.unique(key_PC[pair, column], return_inverse=True)
    query, code = key // n_codes, key % n_codes

    def summed(one: np.ndarray) -> np.ndarray:
        total: np.ndarray = np.bincount(place, weights=one[pair], minlength=len(key))
        return total

    def least(one: np.ndarray) -> np.ndarray:
        lowest = np.full(len(key), np.inf)
        np.minimum.at(lowest, place, one[pair])
        return lowest

    age_first = np.expm1(4 * past.named("age_first"))
    items = summed(np.ones(len(past.query)))
    count, *decayed = (summed(np.expm1(past.named(name))) for name in PAST_FEATURES[:5])
    discoveries = [summed(np.exp2(-age_first / half_life)) for half_life in (20.0, 60.0)]
    of_query = [np.bincount(past.query, np.expm1(past.named(name)))[query] for name in ("count", "decayed_60")]
    first_pair = np.searchsorted(past.query, query)
    rarity = np.zeros(len(key))
    for one in np.unique(day[query]):
        rows = np.flatnonzero(day[query] == one)
        rarity[rows] = snapshots[int(one)].category_rarity[code[rows]]
    share = count / np.maximum(of_query[0], 1)
    columns = [
        *np.log1p([items, count, *decayed, *discoveries]),
        least(past.named("age_last")),
        -least(-past.named("age_first")),
        least(past.named("age_first")),
        items / np.maximum(count, 1),
        share,
        decayed[2] / np.maximum(of_query[1], 1e-9),
        np.log1p(share * rarity),
        *(past.named(name)[first_pair] for name in CATEGORY_FEATURES if name.startswith("user_")),
    ]
    return CategoryHistory(query, code, side_by_side(columns))


@dataclass(frozen=True)
class CoPurchases:
    """Items that are bought together with a query's past items, with a summary of how.

    Shapes: C (query, item) pairs, sorted; F features named in ``CO_PURCHASE_FEATURES``.
    """

    query: np.ndarray  # (C,) int64
    item: np.ndarray  # (C,) int64 item_index
    features: np.ndarray  # (C, F) float32


def no_co_purchases() -> CoPurchases:
    """Return those of nobody."""
    none = np.zeros(0, dtype=np.int64)
    return CoPurchases(none, none, np.zeros((0, len(CO_PURCHASE_FEATURES)), dtype=np.float32))


def co_purchases(past: PastItems, lift_of_day: Mapping[int, sparse.csr_array], day: np.ndarray) -> CoPurchases:
    """Return what is bought together with each query's past items, those that were bought last.

    Args:
        past: the past items.
        lift_of_day: the table of lifts (V, V) of each day in ``day``.
        day: (Q,) int64 day up to which purchases are counted, for each query; not after the query's own.
    """
    if not len(past.query):
        return no_co_purchases()
    query, age_last = past.query, past.named("age_last")
    weights = np.stack([np.expm1(past.named("decayed_60")), np.expm1(past.named("decayed_7"))], axis=1)
    newest = np.lexsort((age_last, query))
    begin = np.searchsorted(query, np.arange(len(day)))
    chosen = newest[np.arange(len(newest)) - begin[query] < MAX_PAST]
    of_query = np.stack([np.bincount(query, one, len(day)) for one in weights.T], axis=1)
    share = weights[chosen] / np.maximum(of_query[query[chosen]], 1e-12)
    place, other, lift, n_rows = _looked_up(past.item[chosen], day[query[chosen]], lift_of_day)
    key = query[chosen[place]] * n_rows + other
    order = np.argsort(key, kind="stable")
    key, place, lift = key[order], place[order], lift[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    if not len(starts):
        return no_co_purchases()
    own_query, own_item = np.divmod(key[starts], n_rows)
    n_items = np.bincount(query, minlength=len(day))
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


def _looked_up(
    item: np.ndarray, day: np.ndarray, lift_of_day: Mapping[int, sparse.csr_array]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return for each entry of the items' rows its place among ``item`` (N,), the other item, the lift; and V."""
    places, others, lifts, n_rows = [], [], [], 1
    for one in np.unique(day):
        rows = np.flatnonzero(day == one)
        table = lift_of_day[int(one)]
        n_rows = table.shape[0]
        first = table.indptr[item[rows]]
        counts = table.indptr[item[rows] + 1] - first
        place = np.repeat(rows, counts)
        entry = np.arange(len(place)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        places.append(place)
        others.append(table.indices[entry])
        lifts.append(table.data[entry])
    return (
        np.concatenate(places),
        np.concatenate(others).astype(np.int64),
        np.concatenate(lifts).astype(np.float64),
        n_rows,
    )
