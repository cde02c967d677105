"""What users buy together with an item, or within a week of it, as known at any day.

A week of a user is one basket: the distinct items bought in it. How often two items meet in one, against how often they
would if baskets were drawn from what sells, is the lift of one by the other (Brin, Motwani and Silverstein 1997,
"Beyond Market Baskets"). All of it is counted before the day that is asked for; nothing is learned.
"""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from recsys.data.order import rank_in_row, within_reach
from recsys.data.purchases import Purchases
from recsys.signals.counts import Counts
from recsys.signals.past_items import PastItems, Summaries

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
FEWEST_MEETINGS, _PRIOR_BASKETS = 2, 10.0


def basket_counts(log: Purchases, day: int) -> Counts:
    """Return how many baskets were held before ``day``, with each item (V,), and with each two (V, V) sparse."""
    n_rows = log.n_items + 1
    known = np.flatnonzero((log.day < day) & (log.day >= day - WINDOW_DAYS))
    user = np.searchsorted(log.offsets, known, side="right")
    basket, item = _baskets(user, log.item[known], (day - 1 - log.day[known]) // WEEK_DAYS)
    n_baskets = np.array([int(basket.max(initial=-1)) + 1])
    ones = np.ones(len(item), dtype=np.int32)
    holds_BV = sparse.csr_array((ones, (basket, item)), shape=(n_baskets[0], n_rows))
    return {"n_baskets": n_baskets, "held": np.bincount(item, minlength=n_rows), "met": holds_BV.T.tocsr() @ holds_BV}


def lift_of(counts: Counts, items: np.ndarray | None = None) -> sparse.csr_array:
    """Return the lift (V, V) float32 by each item of the items whose chance it raises most, or (n, V) by ``items``.

    ``counts`` may hold meetings beside the table of ``met``, which are added to it.
    """
    held_V, n_baskets = counts["held"], max(int(counts["n_baskets"][0]), 1)
    items = np.arange(len(held_V)) if items is None else items
    met = sum(counts[name][items] for name in ("met", "beside") if name in counts).tocsr()
    met.sort_indices()
    met = met.tocoo()
    pairs = np.flatnonzero((met.data >= FEWEST_MEETINGS) & (items[met.row] != met.col))
    row, column = met.row[pairs], met.col[pairs]
    chance = met.data[pairs] / (held_V[items[row]] + _PRIOR_BASKETS)
    usual = held_V[column] / n_baskets
    order = _first_of_each(row, usual - chance, MAX_CO_PURCHASES)
    lift = (chance[order] / usual[order]).astype(np.float32)
    return sparse.csr_array((lift, (row[order], column[order])), shape=met.shape)


def _first_of_each(row: np.ndarray, value: np.ndarray, n: int) -> np.ndarray:
    """Return the places of the ``n`` lowest values of each row, row by row; ``row`` (N,) is ascending."""
    places = np.flatnonzero(within_reach(row, value, n))
    row = row[places]
    order = np.lexsort((value[places], row))
    return places[order[rank_in_row(row) < n]]


def _baskets(user: np.ndarray, item: np.ndarray, week: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return baskets and their distinct items (n,), of each the ``MAX_BASKET`` newest; events are sorted by user."""
    change = np.ones(len(user), dtype=bool)
    change[1:] = (user[1:] != user[:-1]) | (week[1:] != week[:-1])
    basket = np.cumsum(change) - 1
    last = np.append(np.flatnonzero(change)[1:], len(user)) - 1
    newest = np.arange(len(user)) > last[basket] - MAX_BASKET
    n_rows = int(item.max(initial=0)) + 1
    basket, item = np.divmod(np.unique(basket[newest].astype(np.int64) * n_rows + item[newest]), n_rows)
    return basket, item


def days_counted_for_training(day: np.ndarray, first_day: int) -> np.ndarray:
    """Return for each ``day`` (Q,) one at it or not long before: an epoch asks at any day, and few are counted.

    At most an eighth of the log so far stays out, and never ``MAX_STEP_DAYS``: steps double as the log grows.
    """
    age = np.maximum(day - first_day, 1)
    step = np.clip(2 ** np.floor(np.log2(age / 8)), 1, MAX_STEP_DAYS).astype(np.int64)
    return first_day + age // step * step


def no_co_purchases() -> Summaries:
    """Return those of nobody."""
    none = np.zeros(0, dtype=np.int64)
    return Summaries(none, none, np.zeros((0, len(CO_PURCHASE_FEATURES)), dtype=np.float32))


def co_purchases(past: PastItems, lift_of_day: Mapping[int, sparse.csr_array], day: np.ndarray) -> Summaries:
    """Return ``CO_PURCHASE_FEATURES`` of what goes with each query's latest past items, counted up to ``day`` (Q,)."""
    query, age_last = past.query, past.named("age_last")
    chosen = _first_of_each(query, age_last, MAX_PAST)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for one in np.unique(day[query[chosen]]):
        rows = np.flatnonzero(day[query[chosen]] == one)
        of_items = lift_of_day[int(one)][past.item[chosen[rows]]]
        n_rows = of_items.shape[1]
        found.append((np.repeat(rows, np.diff(of_items.indptr)), of_items.indices, of_items.data))
    if not any(len(place) for place, _, _ in found):
        return no_co_purchases()
    place, other, lift = (np.concatenate(part) for part in zip(*found, strict=True))
    key = query[chosen[place]] * n_rows + other
    order = np.argsort(key, kind="stable")
    key, place, lift = key[order], place[order], lift[order].astype(np.float64)
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    own_query, own_item = np.divmod(key[starts], n_rows)

    def lifted(name: str) -> np.ndarray:
        """Return the lifts, each weighted by its past item's share of the decayed count ``name``, summed."""
        weight = np.expm1(past.named(name))
        share = weight[chosen] / np.maximum(np.bincount(query, weight, len(day))[query[chosen]], 1e-12)
        return np.add.reduceat(share[place] * lift, starts)

    columns = [
        np.log1p(lifted("decayed_60")),
        np.log1p(lifted("decayed_7")),
        np.log1p(np.maximum.reduceat(lift, starts)),
        np.log1p(np.diff(starts, append=len(key))),
        np.minimum.reduceat(age_last[chosen[place]], starts),
        np.log1p(np.bincount(query, minlength=len(day))[own_query]) / 4,
    ]
    return Summaries(own_query, own_item, np.stack(columns, axis=1).astype(np.float32))
