"""What the baselines share: pairs (user, item) that have a score, as flat arrays never as large as users × items."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from recsys.data.order import rank_in_row, within_reach
from recsys.data.purchases import Histories

#: Users of a chunk at most, and their events at most: together they bound memory at a few hundred megabytes.
MAX_USERS = 8_192
MAX_EVENTS = 2_000_000


class Pairs(NamedTuple):
    """Items that have a score for a user, rows ascending, each (row, item) once; of equals the larger ``last`` wins."""

    row: np.ndarray  # (n,) int64, row of the histories
    item: np.ndarray  # (n,) int item_index
    score: np.ndarray  # (n,) float
    last: np.ndarray  # (n,) int, flat position of the last event behind the score; 0 where there is none

    def where(self, keep: np.ndarray) -> "Pairs":
        """Return the pairs for which ``keep`` (n,) bool is true, or those at the places ``keep``."""
        return Pairs(self.row[keep], self.item[keep], self.score[keep], self.last[keep])


def united(*parts: Pairs) -> Pairs:
    """Return the pairs of all parts; no (row, item) may be in two of them."""
    together = Pairs(*map(np.concatenate, zip(*parts, strict=True)))
    return together.where(np.argsort(together.row, kind="stable"))


def user_chunks(histories: Histories, max_events: int = MAX_EVENTS) -> Iterator[tuple[slice, Histories]]:
    """Yield slices of ``histories``, and these, of bounded users and events (one user may exceed the latter)."""
    total = np.concatenate([[0], np.cumsum(histories.n_events)])
    start = 0
    while start < len(histories):
        stop = int(np.searchsorted(total, total[start] + max_events, side="right")) - 1
        stop = min(max(stop, start + 1), start + MAX_USERS)
        yield (part := slice(start, stop)), histories.of(part)
        start = stop


def sum_pairs(row: np.ndarray, item: np.ndarray, weight: np.ndarray, position: np.ndarray) -> Pairs:
    """Return each (row, item) once, with the sum of its weights, and the last of its positions."""
    if not len(row):
        return Pairs(row, item.astype(np.int64), weight, position)
    key = row * (int(item.max()) + 1) + item
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    score, last = np.add.reduceat(weight[order], starts), np.maximum.reduceat(position[order], starts)
    return Pairs(row[order[starts]], item[order[starts]], score, last)


def top_k(pairs: Pairs, n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return item_index (n_rows, k) int32 and score (n_rows, k) float32 of each row's best pairs, padded with 0."""
    pairs = pairs.where(within_reach(pairs.row, -pairs.score, k))
    pairs = pairs.where(np.lexsort((pairs.item, -pairs.last, -pairs.score, pairs.row)))
    rank = rank_in_row(pairs.row)
    best, rank = pairs.where(rank < k), rank[rank < k]
    items = np.zeros((n_rows, k), dtype=np.int32)
    scores = np.zeros((n_rows, k), dtype=np.float32)
    items[best.row, rank], scores[best.row, rank] = best.item, best.score
    return items, scores


def unseen(pairs: Pairs, seen_row: np.ndarray, seen_item: np.ndarray) -> np.ndarray:
    """Return (n,) bool: whether the pair's item is not among the row's seen ones."""
    span = 1 + max(int(pairs.item.max(initial=0)), int(seen_item.max(initial=0)))
    return np.isin(pairs.row * span + pairs.item, seen_row * span + seen_item, invert=True)
