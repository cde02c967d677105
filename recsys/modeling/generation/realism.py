"""Do generated histories look like real ones? Counts that one can put side by side; NumPy only.

Shapes: Q customers, L items of a continuation at most, V = n_items + 1 rows with padding, C categories.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

#: Edges of the bands of ranks by sales: the ten best sellers, the next ninety, …
RANK_EDGES = (10, 100, 1_000, 10_000)


class Known(NamedTuple):
    """What continuations are held against: customers' pasts and the catalogue at the date. Row 0 counts for nothing."""

    past: list[np.ndarray]  # for each customer (Q,), the distinct item_index bought before
    newest: np.ndarray  # (Q,) item_index of the last purchase; 0 without one
    rank: np.ndarray  # (V,) int64 place of each item by sales before the date, 1 for the best seller
    category: np.ndarray  # (V,) int64 category of each item
    n_categories: int  # C


class Likeness(NamedTuple):
    """What a set of continuations looks like."""

    length: np.ndarray  # (L + 1,) share of the continuations that have 0, 1, … L items
    bought_before: float  # share of the items that the customer had bought before
    repeated: float  # share of the items that stand in the same continuation before
    rank_band: np.ndarray  # (len(RANK_EDGES) + 1,) share of the items in each band of ranks by sales
    n_distinct: int  # different items in all continuations together
    n_items: int  # items in all continuations together
    transition: np.ndarray  # (C, C) share of each (category, next category), from the last purchase known on
    mean_length: float  # items a continuation
    same_category: float  # share of neighbouring purchases within one category


def sales_rank(sold: np.ndarray) -> np.ndarray:
    """Return the place (V,) of each item by ``sold`` (V,), 1 for the most sold; row 0 is padding and gets 0.

    >>> sales_rank(np.array([0, 5, 9, 7])).tolist()
    [0, 3, 1, 2]
    """
    return np.append(0, rankdata(-sold[1:], "ordinal")).astype(np.int64)


def without_repeats(item: np.ndarray) -> np.ndarray:
    """Return each row of ``item`` (Q, L), padded with 0, without what stands in it before, moved up.

    >>> without_repeats(np.array([[3, 3, 1, 0]])).tolist()
    [[3, 1, 0, 0]]
    """
    kept = np.zeros_like(item)
    for row, items in enumerate(item):
        distinct = list(dict.fromkeys(items[items > 0].tolist()))
        kept[row, : len(distinct)] = distinct
    return kept


def realism(item: np.ndarray, known: Known) -> Likeness:
    """Return what the continuations ``item`` (Q, L) item_index, padded with 0 on the right, look like."""
    n_rows, longest = item.shape
    row, place = np.nonzero(item)
    flat = item[row, place]
    n_items, n_own = len(flat), int(np.count_nonzero(without_repeats(item)))
    length = np.bincount((item > 0).sum(1), minlength=longest + 1) / max(n_rows, 1)
    old = sum(int(np.isin(items[items > 0], past).sum()) for items, past in zip(item, known.past, strict=True))
    band = np.bincount(np.searchsorted(RANK_EDGES, known.rank[flat]), minlength=len(RANK_EDGES) + 1)
    before = np.concatenate([known.newest[:, None], item[:, :-1]], axis=1)[row, place]
    both = before > 0
    pair = known.category[before[both]] * known.n_categories + known.category[flat[both]]
    transition = np.bincount(pair, minlength=known.n_categories**2).reshape(known.n_categories, -1)
    share = transition / max(int(transition.sum()), 1)
    return Likeness(
        length=length,
        bought_before=old / max(n_items, 1),
        repeated=(n_items - n_own) / max(n_items, 1),
        rank_band=band / max(n_items, 1),
        n_distinct=len(np.unique(flat)),
        n_items=n_items,
        transition=share,
        mean_length=float(length @ np.arange(longest + 1)),
        same_category=float(np.trace(share)),
    )


def distance(p: np.ndarray, q: np.ndarray) -> float:
    """Return the total variation distance of two distributions: 0 where they are equal, 1 where they share nothing.

    >>> distance(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    0.5
    """
    return float(np.abs(p - q).sum() / 2)


def draw_best_sellers(sold: np.ndarray, item: np.ndarray, seed: int) -> np.ndarray:
    """Return the baseline (Q, L): continuations as long as ``item``, drawn by sales (V,) without looking at anyone."""
    drawn = np.random.default_rng(seed).choice(len(sold), size=item.shape, p=sold / sold.sum())
    return np.where(item > 0, drawn, 0).astype(item.dtype)
