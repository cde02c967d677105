"""What sells best: to everybody, lately, or to a segment; and how every other baseline fills its lists."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.modeling.recommenders.base import History, Recommendations
from recsys.modeling.recommenders.candidates import Candidates, require_enough
from recsys.modeling.recommenders.scored_pairs import known_events, user_chunks
from recsys.signals.sales import is_sale

WEEK_DAYS = 7
#: Segments that get a ranking of their own; customers of rarer ones get everybody's.
MAX_SEGMENTS = 20


@dataclass(frozen=True)
class Popularity:
    """Items by the number of purchases before a date, the same for all customers who have a history.

    A customer without history gets what sells best in the customer's segment. Equal counts are ordered by the counts
    of everybody, then by the counts of all time, then by item_index.

    Shapes: U users, V = n_items + 1, S segments; segment 0 is everybody.
    """

    name: str
    counts: np.ndarray  # (S, V) int64 purchases in the window
    order: np.ndarray  # (S, V-1) int32 item_index, best first
    segment: np.ndarray  # (U,) int64

    @classmethod
    def fit(
        cls,
        name: str,
        history: History,
        *,
        days: int | None = None,
        segment: str | None = None,
        pieces: bool = True,
    ) -> Self:
        """Return the popularity known at ``history.day``, of all time or of the last ``days`` days.

        Args:
            name: how reports call it.
            history: what is known.
            days: length of the window that ends at ``history.day``.
            segment: users column whose values are the segments (ages are banded, see :func:`segments_of`).
            pieces: whether every purchase counts; else those of an item by one customer on one day are one.
        """
        segment_U = segments_of(history.data, segment)
        counted = None if pieces else is_sale(history.data)
        ever_SV = _count(history, segment_U, None, counted)
        counts_SV = ever_SV if days is None else _count(history, segment_U, history.day - days, counted)
        order_SV = np.stack([_order(counts_V, counts_SV[0], ever_SV[0]) for counts_V in counts_SV])
        return cls(name, counts_SV, order_SV, segment_U)

    @classmethod
    def for_cold_start(cls, history: History, segment: str | None) -> Self:
        """Return what most customers of each segment bought in the last week, for those of whom nothing is known.

        Customers and not pieces: a list is right about who buys an item, however many of it.
        """
        return cls.fit("cold_start", history, days=WEEK_DAYS, segment=segment, pieces=False)

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Recommendations:
        """Return the most bought allowed items; the score is the number of purchases."""
        require_enough(candidates, k)
        item = np.zeros((len(user_index), k), dtype=np.int32)
        for part in user_chunks(history, user_index):
            self.fill(item[part], history, user_index[part], candidates)
        counts = self.counts[self._segments(history, user_index)[:, None], item]
        return Recommendations(user_index, item, counts.astype(np.float32))

    def fill(self, item: np.ndarray, history: History, user_index: np.ndarray, candidates: Candidates) -> np.ndarray:
        """Complete lists in place with the most bought allowed items that they do not hold.

        Args:
            item: (Q, k) int32 distinct allowed item_index in rank order, padded with 0 at the end.
            history: what is known.
            user_index: (Q,) whose lists they are.
            candidates: what may be recommended.

        Returns:
            (Q, k) place in the ranking, from 1, of each item that was filled in; 0 where the list was kept.

        Raises:
            DataError: exclusions leave a customer fewer than k items.
        """
        rows, ranks = np.nonzero(item)
        taken_row, taken_item = rows, item[rows, ranks]
        if candidates.exclude_seen:
            seen_row, position = known_events(history, user_index)
            taken_row = np.concatenate([taken_row, seen_row])
            taken_item = np.concatenate([taken_item, history.data.item[position]])
        place = np.zeros(item.shape, dtype=np.int64)
        segment = self._segments(history, user_index)
        for number in np.unique(segment):
            order = self.order[number]
            members = np.flatnonzero(segment == number)
            mine = segment[taken_row] == number
            _fill(item, place, order[candidates.allowed[order]], members, taken_row[mine], taken_item[mine])
        if not item.all():
            raise DataError(
                f"a customer has bought nearly all items that may be recommended: fewer than {item.shape[1]} are left; "
                "lower predict.k, set predict.exclude_seen=false or raise predict.sold_within_days"
            )
        return place

    def _segments(self, history: History, user_index: np.ndarray) -> np.ndarray:
        has_history = history.end[user_index] > history.data.offsets[user_index]
        return np.where(has_history, 0, self.segment[user_index])


def segments_of(data: Purchases, column: str | None) -> np.ndarray:
    """Return the segment (U,) int64 of each user by a users column: 1 … S-1, or 0 (everybody).

    Ages (a column of numbers with more than 20 values) are banded: under 20, twenties, …, sixties, 70 and over. Users
    without a value, with one that is not among the 20 most frequent, and data without the column get 0.
    """
    if column is None or column not in data.users.columns:
        return np.zeros(data.n_users, dtype=np.int64)
    values = data.users[column].to_arrow().cast(pa.string())
    ages = _as_numbers(values)
    if ages is not None and len(pc.unique(values)) > MAX_SEGMENTS:
        known = np.isfinite(ages)
        return np.where(known, np.clip(np.where(known, ages, 0) // 10, 1, 7), 0).astype(np.int64)
    counts = pc.value_counts(values.drop_null()).to_pylist()
    largest = sorted(counts, key=lambda entry: (-entry["counts"], entry["values"]))[:MAX_SEGMENTS]
    frequent = pa.array([entry["values"] for entry in largest], pa.string())
    found = pc.fill_null(pc.index_in(values, value_set=frequent, skip_nulls=True), -1)
    return np.asarray(found).astype(np.int64) + 1


def _as_numbers(values: pa.Array) -> np.ndarray | None:
    try:
        numbers = values.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return np.asarray(pc.fill_null(numbers, np.nan))


def _count(history: History, segment_U: np.ndarray, first_day: int | None, counted: np.ndarray | None) -> np.ndarray:
    """Return purchases (S, V) int64 of each item by each segment, those ``counted`` (E,) bool; row 0 is everybody."""
    data, n_rows = history.data, history.data.n_items + 1
    n_segments = int(segment_U.max(initial=0)) + 1
    counts = np.zeros(n_segments * n_rows, dtype=np.int64)
    everyone = np.arange(data.n_users)
    for part in user_chunks(history, everyone):
        row, position = known_events(history, everyone[part])
        if first_day is not None:
            recent = data.day[position] >= first_day
            row, position = row[recent], position[recent]
        if counted is not None:
            row, position = row[counted[position]], position[counted[position]]
        counts += np.bincount(segment_U[part][row] * n_rows + data.item[position], minlength=len(counts))
    counts_SV = counts.reshape(n_segments, n_rows)
    counts_SV[0] = counts_SV.sum(axis=0)
    return counts_SV


def _order(counts_V: np.ndarray, everybody_V: np.ndarray, ever_V: np.ndarray) -> np.ndarray:
    order = np.lexsort((-ever_V[1:], -everybody_V[1:], -counts_V[1:])) + 1
    return order.astype(np.int32)


def _fill(
    item: np.ndarray,
    place: np.ndarray,
    pool: np.ndarray,
    members: np.ndarray,
    taken_row: np.ndarray,
    taken_item: np.ndarray,
) -> None:
    """Put the first free items of ``pool`` (best first) into the empty ranks of the rows ``members``, in place.

    The pool is only looked at as deep as the customer with the most taken items can need.
    """
    k = item.shape[1]
    n_taken = np.bincount(taken_row, minlength=len(item))[members]
    pool = pool[: k + int(n_taken.max(initial=0))]
    row_of = np.zeros(len(item), dtype=np.int64)
    row_of[members] = np.arange(len(members))
    depth_of = np.full(int(max(taken_item.max(initial=0), pool.max(initial=0))) + 1, -1, dtype=np.int64)
    depth_of[pool] = np.arange(len(pool))
    within = depth_of[taken_item] >= 0
    free = np.ones((len(members), len(pool)), dtype=bool)
    free[row_of[taken_row[within]], depth_of[taken_item[within]]] = False
    n_kept = np.count_nonzero(item[members], axis=1)
    turn = np.cumsum(free, axis=1, dtype=np.int32)
    row, depth = np.nonzero(free & (turn <= (k - n_kept)[:, None]))
    rank = n_kept[row] + turn[row, depth] - 1
    item[members[row], rank] = pool[depth]
    place[members[row], rank] = depth + 1
