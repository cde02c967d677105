"""What users buy together with an item, or within a week of it, as known at any day.

A week of a user is one basket: the distinct items bought in it. How often two items meet in one, against how often they
would if baskets were drawn from what sells, is the lift of one by the other (Brin, Motwani and Silverstein 1997,
"Beyond Market Baskets"). All of it is counted before the day that is asked for; nothing is learned. NumPy and SciPy
only.
"""

import numpy as np
from scipy import sparse

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
