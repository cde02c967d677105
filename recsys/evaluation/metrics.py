"""What the numbers mean: ranking metrics as plain NumPy, one value per user, means taken separately.

Shapes: U users, K length of a list, V items + 1 (position 0 is padding), n targets. ``hits_UK`` says for each rank
whether the item there was bought; ``n_relevant_U`` how many distinct items the user bought, listed or not.

Decisions that change the numbers:

- A user without targets has no value (NaN). Leave such users out of a mean, and say how many they are.
- A user without recommendations, or with a short list, is not left out: missing ranks are misses.
- An item repeated in a list counts once, at its best rank.
- Average precision divides by ``min(k, n_relevant)``: k right answers of more than k relevant items score 1, as in
  Kaggle's MAP@12. The ideal DCG stops at ``min(k, n_relevant)`` too. Recall divides by all relevant items.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

UserMetric = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


class Targets(Protocol):
    """What users bought, as every fold holds it: ``target_item[target_offsets[q]:target_offsets[q + 1]]`` of user q."""

    @property
    def user_index(self) -> np.ndarray:
        """Users asked (Q,), ascending."""
        ...

    @property
    def target_offsets(self) -> np.ndarray:
        """Bounds (Q+1,) of each user's targets."""
        ...

    @property
    def target_item(self) -> np.ndarray:
        """Distinct item_index (n,) per user."""
        ...


def hits_of(lists_item_UK: np.ndarray, target_offsets: np.ndarray, target_item: np.ndarray) -> np.ndarray:
    """Return (U, K) bool: whether the item at each rank is one of the user's targets, at its first occurrence.

    Args:
        lists_item_UK: (U, K) item_index in rank order; rows are padded with 0, which is never a hit.
        target_offsets: (U+1,) targets of row u are ``target_item[target_offsets[u]:target_offsets[u + 1]]``.
        target_item: (n,) item_index, in any order within a user.

    >>> lists = np.array([[7, 5, 7], [5, 9, 0]])
    >>> hits_of(lists, np.array([0, 2, 3]), np.array([5, 7, 4])).astype(int)
    array([[1, 1, 0],
           [0, 0, 0]])
    """
    n_rows, length = lists_item_UK.shape
    if not lists_item_UK.size or not len(target_item):
        return np.zeros((n_rows, length), dtype=bool)
    span = max(int(lists_item_UK.max()), int(target_item.max())) + 1
    rows = np.arange(n_rows, dtype=np.int64)
    wanted = np.sort(np.repeat(rows, np.diff(target_offsets)) * span + target_item)
    listed = rows[:, None] * span + lists_item_UK
    place = np.minimum(np.searchsorted(wanted, listed.ravel()), len(wanted) - 1).reshape(n_rows, length)
    hits: np.ndarray = (wanted[place] == listed) & (lists_item_UK > 0) & ~_repeated(lists_item_UK)
    return hits


def _repeated(lists_item_UK: np.ndarray) -> np.ndarray:
    """Return (U, K) bool: whether the item stood at an earlier rank of the same row already."""
    order = np.argsort(lists_item_UK, axis=1, kind="stable")
    ordered = np.take_along_axis(lists_item_UK, order, axis=1)
    again = np.zeros(ordered.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated


def average_precision_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return AP@k (U,): the mean of the precisions at the ranks of the hits, over ``min(k, n_relevant)``.

    Its mean over users is MAP@k as Kaggle's H&M competition defines it.

    >>> average_precision_at_k(np.array([[True, False, True]]), np.array([2]), 3)  # (1/1 + 2/3) / 2
    array([0.83333333])
    """
    hits = hits_UK[:, :k]
    precision = np.cumsum(hits, axis=1) / _ranks(hits)
    return _ratio((precision * hits).sum(axis=1), np.minimum(n_relevant_U, k))


def ndcg_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return NDCG@k (U,): the sum of ``1 / log2(rank + 1)`` over the hits, over that of an ideal list.

    The ideal list has ``min(k, n_relevant)`` hits on top (Järvelin and Kekäläinen 2002, with gains 0 and 1).

    >>> ndcg_at_k(np.array([[True, False, False]]), np.array([1]), 3)
    array([1.])
    >>> ndcg_at_k(np.array([[False, False, True]]), np.array([1]), 3)  # 1 / log2(4)
    array([0.5])
    """
    hits = hits_UK[:, :k]
    gained = hits @ (1 / np.log2(_ranks(hits) + 1))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    return _ratio(gained, ideal[np.minimum(n_relevant_U, k)])


def hit_rate_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return (U,) 1 where at least one of the first ``k`` items was bought, else 0.

    >>> hit_rate_at_k(np.array([[False, True], [True, True]]), np.array([1, 2]), 1)
    array([0., 1.])
    """
    return _ratio(hits_UK[:, :k].any(axis=1).astype(float), n_relevant_U > 0)


def recall_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return recall@k (U,): hits among the first ``k``, over *all* relevant items, so that it can stay below 1.

    >>> recall_at_k(np.array([[True, True]]), np.array([4]), 2)
    array([0.5])
    """
    return _ratio(hits_UK[:, :k].sum(axis=1), n_relevant_U)


def reciprocal_rank_at_k(hits_UK: np.ndarray, n_relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Return (U,) one over the rank of the first hit among the first ``k``, 0 without a hit; its mean is MRR@k.

    >>> reciprocal_rank_at_k(np.array([[False, True], [False, False]]), np.array([1, 1]), 2)
    array([0.5, 0. ])
    """
    hits = hits_UK[:, :k]
    return _ratio((hits / _ranks(hits)).max(axis=1, initial=0.0), n_relevant_U > 0)


#: What a user's list is worth, by the name under which it is reported: ``map@12`` is the mean of "map" at k = 12.
USER_METRICS: Final[dict[str, UserMetric]] = {
    "map": average_precision_at_k,
    "ndcg": ndcg_at_k,
    "hit_rate": hit_rate_at_k,
    "recall": recall_at_k,
    "mrr": reciprocal_rank_at_k,
}


def user_values(hits_UK: np.ndarray, n_relevant_U: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return every user metric at every cutoff, one value (U,) per user, by names such as ``map@12``.

    >>> sorted(user_values(np.array([[True]]), np.array([1]), (1,)))
    ['hit_rate@1', 'map@1', 'mrr@1', 'ndcg@1', 'recall@1']
    """
    return {
        f"{name}@{k}": metric(hits_UK, n_relevant_U, k)
        for name, metric in USER_METRICS.items()
        for k in sorted(cutoffs)
    }


def mean_average_precision(lists_item_UK: np.ndarray, fold: Targets, user_index: np.ndarray, k: int) -> float:
    """Return MAP@k of lists, the mean of :func:`average_precisions`."""
    return float(np.mean(average_precisions(lists_item_UK, fold, user_index, k)))


def average_precisions(lists_item_UK: np.ndarray, fold: Targets, user_index: np.ndarray, k: int) -> np.ndarray:
    """Return AP@k (Q,) of all users a fold asks; those without a list score 0, lists of others do not count.

    Args:
        lists_item_UK: (U, K) item_index in rank order, padded with 0.
        fold: who is asked and what they bought.
        user_index: (U,) distinct users, one for each row of ``lists_item_UK``, in any order.
        k: how many ranks count.
    """
    lists = align_lists(lists_item_UK, user_index, fold.user_index)
    hits = hits_of(lists, fold.target_offsets, fold.target_item)
    return average_precision_at_k(hits, np.diff(fold.target_offsets), k)


def align_lists(lists_item_UK: np.ndarray, user_index: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the rows of the users ``asked`` (Q,), in that order; users without a row get padding.

    >>> align_lists(np.array([[5, 6], [7, 8]]), np.array([3, 1]), np.array([1, 2]))
    array([[7, 8],
           [0, 0]])
    """
    order = np.argsort(user_index)
    aligned = np.zeros((len(asked), lists_item_UK.shape[1]), dtype=lists_item_UK.dtype)
    if len(order):
        place = order[np.minimum(np.searchsorted(user_index, asked, sorter=order), len(order) - 1)]
        known = user_index[place] == asked
        aligned[known] = lists_item_UK[place[known]]
    return aligned


def catalogue_coverage_at_k(lists_item_UK: np.ndarray, n_candidates: int, k: int) -> float:
    """Return the share of the candidate items that are among the first ``k`` of at least one user.

    >>> catalogue_coverage_at_k(np.array([[1, 2], [1, 3]]), 4, 2)
    0.75
    """
    recommended = np.unique(lists_item_UK[:, :k])
    return float(np.count_nonzero(recommended) / n_candidates)


def novelty_at_k(lists_item_UK: np.ndarray, n_buyers_V: np.ndarray, n_users: int, k: int) -> np.ndarray:
    """Return (U,) the mean of ``-log2(share of the users who bought the item before)`` over the first ``k`` items.

    In bits: 0 for what everybody buys, 10 for what one in 1,024 buys (mean self-information: Zhou et al. 2010,
    "Solving the apparent diversity-accuracy dilemma of recommender systems"). Items without buyers count as having
    one. Users without recommendations have no value (NaN).

    >>> novelty_at_k(np.array([[1, 2], [2, 0]]), np.array([0, 8, 2]), 8, 2)  # (0 + 2) / 2 bits, and 2 bits
    array([1., 2.])
    """
    lists = lists_item_UK[:, :k]
    bits = -np.log2(np.maximum(n_buyers_V, 1) / n_users)
    return _ratio((bits[lists] * (lists > 0)).sum(axis=1), (lists > 0).sum(axis=1))


def _ranks(hits_UK: np.ndarray) -> np.ndarray:
    return np.arange(1, hits_UK.shape[1] + 1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where the denominator is 0."""
    nothing = np.full(len(numerator), np.nan)
    result: np.ndarray = np.divide(numerator, denominator, out=nothing, where=denominator > 0)
    return result
