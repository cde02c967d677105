"""What is known at a date, as numbers: each item's sales, and each customer's past item by item.

Everything here reads only events before the date it is asked for, and what is planned to be promoted in
the week from it on; nothing is fitted, so new events change the answer at once. NumPy only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.companions import Baskets, Companions
from recsys.kind_sales import KindSales, sold_by_kind
from recsys.prepared import PreparedData
from recsys.renewals import RENEWAL_FEATURES

#: What an item's own sales say of it, and what those of its kinds say of one that never sold.
OWN_FEATURES = ("sold_7", "sold_28", "sold_all", "trend", "age", "repeat_share", "never_sold")
ITEM_FEATURES = (*OWN_FEATURES, "kind_sold_7")
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
    *RENEWAL_FEATURES,
)
KIND_FEATURES = (
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
#: Tables of a day that are kept: an epoch asks at some fifty days again and again.
MAX_TABLES = 64
_HALF_LIVES_DAYS = (7.0, 20.0, 60.0, 150.0)
#: Of ``PAST_FEATURES``, what a pair's own events say.
_N_PAIR_FEATURES = PAST_FEATURES.index("group_items")


class ItemSales:
    """Sales of every item before any date, from the events of a :class:`PreparedData`, and its promotions at the date.

    What a customer buys twice on one day is one sale: asked for is who buys an item, not how many pieces.

    Shapes: V = n_items + 1 rows, row 0 is padding; F features named in ``features``: ``ITEM_FEATURES`` and, where
    the data tell of promotions, theirs.
    """

    def __init__(self, data: PreparedData, *, promotions: bool = True) -> None:
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
            np.where(never, against_average(sold_by_kind(sold_7, self._data.kinds)), 0),
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


def past_items(data: PreparedData, user_index: np.ndarray, end: np.ndarray, day: np.ndarray) -> PastItems:
    """Return what each query's customer bought before, item by item.

    Args:
        data: the purchases.
        user_index: (Q,) customer of each query.
        end: (Q,) flat position up to which the history is known.
        day: (Q,) date of each query, days since 1970-01-01; no known event is of this day or later.

    Returns:
        One row for each distinct (query, item). Counts enter as logarithms, ages in log-days divided by 4. What
        begins with ``group`` sums over the customer's past items of the same group (``data.groups``); what follows
        is that of :class:`recsys.renewals.Renewals`, and how much was promoted, on average, what the customer bought:
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
        *data.renewals.of_past(
            key // (data.n_items + 1), data.item[position], np.asarray(data.day[position]), starts, np.asarray(day)
        ),
        *_promoted_columns(data, position, starts, begin[pair_query], end[pair_query]),
    ]
    return PastItems(pair_query, pair_item, _side_by_side(columns))


def _side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return columns (P,) as one table (P, F) float32.

    Written column by column and turned at the end: a sixth of the time of ``numpy.stack``, which goes back and forth.
    """
    table_FP = np.empty((len(columns), len(columns[0])), dtype=np.float32)
    for row_P, column in zip(table_FP, columns, strict=True):
        row_P[:] = column
    return np.ascontiguousarray(table_FP.T)


def _pair_columns(
    data: PreparedData, position: np.ndarray, starts: np.ndarray, day: np.ndarray, trips: np.ndarray
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
    data: PreparedData, position: np.ndarray, starts: np.ndarray, begin: np.ndarray, end: np.ndarray
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
class PastKinds:
    """Kinds of items among each query's past, with a summary of the purchases of each.

    Shapes: R (query, kind) pairs, sorted; F features named in ``KIND_FEATURES``.
    """

    query: np.ndarray  # (R,) int64
    code: np.ndarray  # (R,) int64, as in ``PreparedData.kinds``
    features: np.ndarray  # (R, F) float32


def past_kinds(past: PastItems, kinds: np.ndarray, sales: KindSales, day: np.ndarray) -> PastKinds:
    """Return what each query's past items of one kind come to together, for every kind of theirs.

    Args:
        past: the past items.
        kinds: (V, C) int64 codes of each item, 0 where nothing is known.
        sales: of each kind.
        day: (Q,) date of each query.
    """
    n_codes = int(kinds.max(initial=0)) + 1
    code_PC = kinds[past.item]
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
        *(past.named(name)[first_pair] for name in KIND_FEATURES if name.startswith("user_")),
    ]
    return PastKinds(query, code, _side_by_side(columns))


def past_companions(past: PastItems, baskets: Baskets, counted: np.ndarray) -> Companions:
    """Return what goes with each query's past items, by purchases before the days ``counted`` (Q,)."""
    weights = np.stack([np.expm1(past.named("decayed_60")), np.expm1(past.named("decayed_7"))], axis=1)
    return baskets.of_past(past.query, past.item, past.named("age_last"), weights, counted)


def _trips(
    data: PreparedData, user_index: np.ndarray, begin: np.ndarray, end: np.ndarray, day: np.ndarray
) -> np.ndarray:
    """Return per query (Q, 4): number of baskets, number of events, days since the last, mean days between."""
    known = end > begin
    last = np.where(known, end - 1, 0)
    first = np.where(known, begin, 0)
    n_trips = np.where(known, data.basket[last] + 1, 0)
    span = data.day[last] - data.day[first]
    return np.stack(
        [n_trips, end - begin, np.where(known, day - data.day[last], 0), span / np.maximum(n_trips - 1, 1)], axis=1
    ).astype(np.float32)


def is_repeat(data: PreparedData) -> np.ndarray:
    """Return (E,) bool: whether the user had bought the item on an earlier position of the history."""
    key, order = _by_pair(data)
    repeated = np.zeros(len(key), dtype=bool)
    repeated[order[1:]] = key[order[1:]] == key[order[:-1]]
    return repeated


def is_sale(data: PreparedData) -> np.ndarray:
    """Return (E,) bool: whether it is the first purchase of the item by the user on the day."""
    key, order = _by_pair(data)
    sale = np.ones(len(key), dtype=bool)
    sale[order[1:]] = (key[order[1:]] != key[order[:-1]]) | (data.day[order[1:]] != data.day[order[:-1]])
    return sale


def _by_pair(data: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    """Return a key (E,) int64 of user and item of each event, and the order that puts equal ones together, by time."""
    key = data.user_of_event().astype(np.int64) * (data.n_items + 1) + data.item
    return key, np.argsort(key, kind="stable")
