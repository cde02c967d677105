"""What is in prepared data, before any model: sales over time, the long tail, baskets, lengths of histories."""

import numpy as np

from recsys.data.purchases import Purchases


def weekly_sales(day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first day (W,) int64 of each week and the events (W,) int64 in it, in the order of time.

    Weeks are counted back from the last of the days ``day`` (E,), so that the newest is whole; days before the oldest
    whole week are left out.

    >>> weekly_sales(np.array([3, 10, 11, 17]))
    (array([ 4, 11]), array([1, 2]))
    """
    last = int(day.max())
    n_weeks = (last - int(day.min()) + 1) // 7
    back = (last - day.astype(np.int64)) // 7
    counts = np.bincount(back[back < n_weeks], minlength=n_weeks)[::-1]
    return last + 1 - 7 * np.arange(n_weeks, 0, -1), counts


def cumulative_shares(item: np.ndarray, n_items: int) -> np.ndarray:
    """Return the share (V,) float64 of all events that the v + 1 most sold items make: the long tail as a curve.

    ``item`` (E,) is from 1; ``n_items`` V counts those never sold too.

    >>> cumulative_shares(np.array([2, 2, 2, 1]), 3)
    array([0.75, 1.  , 1.  ])
    """
    sold = np.sort(np.bincount(item, minlength=n_items + 1)[1:])[::-1]
    return np.asarray(np.cumsum(sold) / sold.sum())


def n_items_for_share(shares: np.ndarray, share: float) -> int:
    """Return how many of the most sold items make ``share`` of all events; ``shares`` are cumulative.

    >>> n_items_for_share(np.array([0.5, 0.75, 1.0]), 0.75)
    2
    """
    return int(np.searchsorted(shares, share)) + 1


def basket_sizes(data: Purchases) -> np.ndarray:
    """Return the number of events (n_baskets,) int64 of each basket, users and their baskets in order."""
    user = data.user_of_event()
    new = np.ones(data.n_events, dtype=bool)
    new[1:] = (user[1:] != user[:-1]) | (data.basket[1:] != data.basket[:-1])
    return np.diff(np.append(np.flatnonzero(new), data.n_events))


def history_lengths(data: Purchases) -> np.ndarray:
    """Return the number of events (U,) int64 of each user."""
    return np.diff(data.offsets)
