"""What users buy together with an item, or within a week of it, as known at any day.

A week of a user is one basket: the distinct items bought in it. How often two items meet in one, against how often they
would if baskets were drawn from what sells, is the lift of one by the other (Brin, Motwani and Silverstein 1997,
"Beyond Market Baskets"). All of it is counted before the day that is asked for; nothing is learned. NumPy and SciPy
only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys.signals.past_items import PastItems

CO_PURCHASE_FEATURES = ("lift", "lift_lately", "highest_lift", "past_items", "age_last", "user_items")
#: Past items of a user whose co-purchases are looked up, those bought last; at most.
MAX_PAST = 32
WEEK_DAYS = 7
#: Days before a day whose purchases are counted: a season.
WINDOW_DAYS = 91
#: Items kept for each item; items of a basket that are paired, the newest. At most.
MAX_CO_PURCHASES, MAX_BASKET = 32, 32
#: Days between the days at which a log is counted for training, at most.
MAX_STEP_DAYS = 28
#: Baskets that two items must meet in to be counted; baskets without the other that are added to those of an item.
_FEWEST_MEETINGS, _PRIOR_BASKETS = 2, 10.0


def lift_before(day: int, user: np.ndarray, item: np.ndarray, event_day: np.ndarray, n_rows: int) -> sparse.csr_array:
    """Return the lift (V, V) float32 of what is bought together with each item, known at the start of ``day``.

    Of each the ``MAX_CO_PURCHASES`` whose chance it raises most.

    Args:
        day: days since 1970-01-01.
        user: (E,) user_index of each event, ascending; a user's events in time order.
        item: (E,) item_index.
        event_day: (E,) day of each event.
        n_rows: V, padding included.
    """
    known = np.flatnonzero((event_day < day) & (event_day >= day - WINDOW_DAYS))
    basket, item = _baskets(user[known], item[known], event_day[known], day)
    n_baskets = max(int(basket.max(initial=-1)) + 1, 1)
    held_V = np.bincount(item, minlength=n_rows)
    often = held_V[item] >= _FEWEST_MEETINGS
    basket, item = basket[often], item[often]
    holds_BV = sparse.csr_array((np.ones(len(item), dtype=np.float32), (basket, item)), shape=(n_baskets, n_rows))
    met = (holds_BV.T.tocsr() @ holds_BV).tocoo()
    pairs = np.flatnonzero((met.data >= _FEWEST_MEETINGS) & (met.row != met.col))
    row, column = met.row[pairs], met.col[pairs]
    chance = met.data[pairs] / (held_V[row] + _PRIOR_BASKETS)
    usual = held_V[column] / n_baskets
    order = np.lexsort((usual - chance, row))
    begin = np.searchsorted(row[order], np.arange(n_rows))
    order = order[np.arange(len(order)) - begin[row[order]] < MAX_CO_PURCHASES]
    lift = (chance[order] / usual[order]).astype(np.float32)
    return sparse.csr_array((lift, (row[order], column[order])), shape=(n_rows, n_rows))


def days_counted_for_training(day: np.ndarray, first_day: int) -> np.ndarray:
    """Return for each ``day`` (Q,) one at it or not long before: an epoch asks at any, and few are counted.

    At most an eighth of the log so far stays out, and never ``MAX_STEP_DAYS``: steps double as the log grows.
    """
    age = np.maximum(day - first_day, 1)
    step = np.clip(2 ** np.floor(np.log2(age / 8)), 1, MAX_STEP_DAYS).astype(np.int64)
    days: np.ndarray = first_day + age // step * step
    return days


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
