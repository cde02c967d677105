"""Each user's history as numbers: past items, their categories, what is bought together with them. NumPy only.

Everything here reads only events before the date it is asked for; nothing is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.data.purchases import Purchases
from recsys.signals.categories import CategorySales
from recsys.signals.co_purchases import Baskets, CoPurchases
from recsys.signals.repurchase import REPURCHASE_FEATURES
from recsys.signals.sales import _side_by_side

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


_HALF_LIVES_DAYS = (7.0, 20.0, 60.0, 150.0)


#: Of ``PAST_FEATURES``, what a pair's own events say.
_N_PAIR_FEATURES = PAST_FEATURES.index("group_items")


@dataclass(frozen=True)
class PastItems:
    """Distinct past items of each query with a summary of the whole history of each.

    Shapes: P (query, item) pairs, sorted by query then item; F features named in ``PAST_FEATURES`` and, where the data
    tell of promotions, ``Promotions.past_features``.
    """

    query: np.ndarray  # (P,) int64 position of the query, ascending
    item: np.ndarray  # (P,) int64 item_index
    features: np.ndarray  # (P, F) float32

    def named(self, name: str) -> np.ndarray:
        """Return the feature ``name`` (P,) float64."""
        one: np.ndarray = self.features[:, PAST_FEATURES.index(name)].astype(np.float64)
        return one


def past_items(data: Purchases, user_index: np.ndarray, end: np.ndarray, day: np.ndarray) -> PastItems:
    """Return what each query's customer bought before, item by item.

    Args:
        data: the purchases.
        user_index: (Q,) customer of each query.
        end: (Q,) flat position up to which the history is known.
        day: (Q,) date of each query, days since 1970-01-01; no known event is of this day or later.

    Returns:
        One row for each distinct (query, item). Counts enter as logarithms, ages in log-days divided by 4. What
        begins with ``group`` sums over the customer's past items of the same group (``data.groups``); what follows
        is that of :class:`recsys.signals.repurchase.Repurchase`, and how much was promoted, on average, what the customer bought:
        the item, and everything.
    """
    begin = data.offsets[user_index]
    counts = end - begin
    query = np.repeat(np.arange(len(user_index)), counts)
    position = np.arange(len(query)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
    key = query * (data.n_items + 1) + data.item[position]
    order = np.argsort(key, kind="stable")  # stable: within a pair, time order stays
    key, position = key[order], position[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, dtype=np.int64)
    pair_query = key[starts] // (data.n_items + 1)
    trips = _trips(data, user_index, begin, end, day)
    pair_item = key[starts] % (data.n_items + 1)
    of_pairs = _pair_columns(data, position, starts, day[pair_query], trips[pair_query])
    columns = [
        *of_pairs,
        *_group_columns(dict(zip(PAST_FEATURES, of_pairs, strict=False)), pair_query, data.groups[pair_item]),
        *data.repurchase.of_past(
            key // (data.n_items + 1), data.item[position], np.asarray(data.day[position]), starts, np.asarray(day)
        ),
        *_promoted_columns(data, position, starts, begin[pair_query], end[pair_query]),
    ]
    return PastItems(pair_query, pair_item, _side_by_side(columns))


def _pair_columns(
    data: Purchases, position: np.ndarray, starts: np.ndarray, day: np.ndarray, trips: np.ndarray
) -> list[np.ndarray]:
    """Return what the events of each pair say, (P,) a feature; ``starts`` (P,) begins each group in ``position``."""
    if not len(starts):
        return [np.zeros(0)] * _N_PAIR_FEATURES
    lasts = np.append(starts[1:], len(position)) - 1
    count = lasts - starts + 1
    event_day = data.day[position].astype(np.float32)
    age = np.maximum(np.repeat(day, count) - event_day, 0)
    decayed = [np.log1p(np.add.reduceat(np.exp2(-age / half_life), starts)) for half_life in _HALF_LIVES_DAYS]
    age_last, age_first = age[lasts], age[starts]
    mean_gap = (age_first - age_last) / np.maximum(count - 1, 1)
    has_gap = mean_gap > 0
    basket = data.basket[position]
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
        np.log1p(np.add.reduceat(data.quantity[position], starts) / count),
        np.log1p(events) / 8,
        np.log1p(n_trips) / 6,
        np.log1p(since_trip) / 4,
        np.log1p(trip_gap) / 4,
    ]


def _promoted_columns(
    data: Purchases, position: np.ndarray, starts: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> list[np.ndarray]:
    """Return how much was promoted when it was bought (P,) a feature, of each pair and of each pair's customer.

    Args:
        data: the purchases.
        position: (N,) flat positions of the events of all pairs, pair by pair.
        starts: (P,) where each pair begins there.
        begin: (P,) flat position at which the customer's known history begins.
        end: (P,) flat position up to which it is known.
    """
    if data.promotions is None:
        return []
    before = data.promoted_before
    n_kinds = before.shape[1]
    if not len(starts):
        return [np.zeros(0)] * (2 * n_kinds)
    count = np.diff(np.append(starts, len(position)))
    of_pair = np.add.reduceat(before[position + 1] - before[position], starts) / count[:, None]
    of_user = (before[end] - before[begin]) / np.maximum(end - begin, 1)[:, None]
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


@dataclass(frozen=True)
class CategoryHistory:
    """Kinds of items among each query's past, with a summary of the purchases of each.

    Shapes: R (query, kind) pairs, sorted; F features named in ``CATEGORY_FEATURES``.
    """

    query: np.ndarray  # (R,) int64
    code: np.ndarray  # (R,) int64, as in ``Purchases.categories``
    features: np.ndarray  # (R, F) float32


def category_history(past: PastItems, categories: np.ndarray, sales: CategorySales, day: np.ndarray) -> CategoryHistory:
    """Return what each query's past items of one kind come to together, for every kind of theirs.

    Args:
        past: the past items.
        categories: (V, C) int64 codes of each item, 0 where nothing is known.
        sales: of each kind.
        day: (Q,) date of each query.
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
        rarity[rows] = sales.rarity(int(one))[code[rows]]
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
    return CategoryHistory(query, code, _side_by_side(columns))


def co_purchases_of(past: PastItems, baskets: Baskets, counted: np.ndarray) -> CoPurchases:
    """Return what goes with each query's past items, by purchases before the days ``counted`` (Q,)."""
    weights = np.stack([np.expm1(past.named("decayed_60")), np.expm1(past.named("decayed_7"))], axis=1)
    return baskets.of_past(past.query, past.item, past.named("age_last"), weights, counted)


def _trips(data: Purchases, user_index: np.ndarray, begin: np.ndarray, end: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return per query (Q, 4): number of baskets, number of events, days since the last, mean days between."""
    known = end > begin
    last = np.where(known, end - 1, 0)
    first = np.where(known, begin, 0)
    n_trips = np.where(known, data.basket[last] + 1, 0)
    span = data.day[last] - data.day[first]
    return np.stack(
        [n_trips, end - begin, np.where(known, day - data.day[last], 0), span / np.maximum(n_trips - 1, 1)], axis=1
    ).astype(np.float32)
