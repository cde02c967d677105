"""What sells best: to everybody, lately, or to a segment; and how every other baseline fills its lists."""

from typing import Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates, Recommendations, require_enough
from recsys.modeling.recommenders.scored_pairs import user_chunks
from recsys.signals.counts import Counts
from recsys.signals.sales import is_sale

WEEK_DAYS = 7
#: Segments that get a ranking of their own; users of rarer ones get everybody's.
MAX_SEGMENTS = 20


class Popularity(NamedTuple):
    """Items by the number of purchases before a day, the same for all users who have a history.

    A user without history gets what sells best in the user's segment; one who was not there at the fit, or whose
    history was given from outside the log, is of segment 0. Equal counts are ordered by the counts of everybody, then
    by the counts of all time, then by item_index. Items that are newer than the fit stand last.

    Shapes at the fit: U users, V = n_items + 1, S segments; segment 0 is everybody.
    """

    name: str
    counts: np.ndarray  # (S, V) int64 purchases in the window
    order: np.ndarray  # (S, V-1) int32 item_index, best first
    segment: np.ndarray  # (U,) int64

    @classmethod
    def fit(
        cls, name: str, known: Histories, *, days: int | None = None, segment: str | None = None, pieces: bool = True
    ) -> Self:
        """Return the popularity at the day of ``known``, the histories of everybody: of all time, or of ``days`` days.

        Values of the users column ``segment`` are the segments (ages are banded, see :func:`segments_of`). Without
        ``pieces``, purchases of an item by one user on one day count as one.
        """
        segment_U = segments_of(known.log, segment)
        counts = counts_of(known, segment_U, days, pieces=pieces)
        return cls.of_counts(name, counts["lately"], counts["ever"], segment_U)

    @classmethod
    def of_counts(cls, name: str, counts_SV: np.ndarray, ever_SV: np.ndarray, segment_U: np.ndarray) -> Self:
        """Return the popularity by what :func:`counts_of` gives."""
        order_SV = np.stack([_order(counts_V, counts_SV[0], ever_SV[0]) for counts_V in counts_SV])
        return cls(name, counts_SV, order_SV, segment_U)

    @classmethod
    def from_counts(cls, name: str, counts_V: np.ndarray) -> Self:
        """Return the popularity of items counted elsewhere, (V,) int64 with 0 at padding; without segments."""
        order = _order(counts_V, counts_V, counts_V)
        return cls(name, counts_V[None], order[None], np.zeros(0, dtype=np.int64))

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        """Return the most bought allowed items; the score is the number of purchases."""
        require_enough(candidates, k)
        item = np.zeros((len(histories), k), dtype=np.int32)
        for part, some in user_chunks(histories):
            self.fill(item[part], some, candidates)
        fitted = item < self.counts.shape[1]
        counts = self.counts[self._segments(histories)[:, None], np.where(fitted, item, 0)]
        return Recommendations(item, np.where(fitted, counts, 0).astype(np.float32))

    def fill(self, item: np.ndarray, histories: Histories, candidates: Candidates) -> np.ndarray:
        """Complete lists in place with the most bought allowed items that they do not hold.

        ``item`` (Q, k) int32 are the distinct allowed item_index of the Q users in rank order, padded with 0 at the
        end. Returned is the place (Q, k) in the ranking, from 1, of each item that was filled in; 0 where the list was
        kept. Where exclusions leave a user fewer than k items the list ends with 0.
        """
        k, allowed, segment_Q = item.shape[1], candidates.allowed, self._segments(histories)
        taken_row, rank = np.nonzero(item)
        taken_item = item[taken_row, rank]
        if candidates.exclude_seen:
            seen_row, position = histories.events()
            taken_row = np.concatenate([taken_row, seen_row])
            taken_item = np.concatenate([taken_item, histories.log.item[position]])
        # A ranking is only looked at as deep as the user with the most taken items can need.
        deepest = k + int(np.bincount(taken_row, minlength=1).max())
        newer = np.arange(self.counts.shape[1], len(allowed), dtype=np.int32)
        rankings = (np.concatenate([order, newer]) for order in self.order)
        pool_SP = np.stack([ranking[allowed[ranking]][:deepest] for ranking in rankings])
        depth_SV = np.full((len(pool_SP), len(allowed)), -1)
        depth_SV[np.arange(len(pool_SP))[:, None], pool_SP] = np.arange(pool_SP.shape[1])
        depth = depth_SV[segment_Q[taken_row], taken_item]
        free_QP = np.ones((len(item), pool_SP.shape[1]), dtype=bool)
        free_QP[taken_row[depth >= 0], depth[depth >= 0]] = False
        n_kept_Q = np.count_nonzero(item, axis=1)
        turn_QP = np.cumsum(free_QP, axis=1, dtype=np.int32)
        row, depth = np.nonzero(free_QP & (turn_QP <= (k - n_kept_Q)[:, None]))
        rank = n_kept_Q[row] + turn_QP[row, depth] - 1
        item[row, rank] = pool_SP[segment_Q[row], depth]
        place = np.zeros(item.shape, dtype=np.int64)
        place[row, rank] = depth + 1
        return place

    def _segments(self, histories: Histories) -> np.ndarray:
        """Return the segment (Q,) int64 whose ranking each user gets."""
        segment = np.zeros(len(histories), dtype=np.int64)
        row = histories.known_as
        cold = np.flatnonzero((histories.n_events == 0) & (row >= 0) & (row < len(self.segment)))
        segment[cold] = self.segment[row[cold]]
        return segment


def segments_of(log: Purchases, column: str | None) -> np.ndarray:
    """Return the segment (U,) int64 of each user by a users column: 1 … S-1, or 0 (everybody).

    Ages (a column of numbers with more than 20 values) are banded: under 20, twenties, …, sixties, 70 and over. Users
    without a value, with one that is not among the 20 most frequent, and logs without the column get 0.
    """
    if column is None or column not in log.users.columns:
        return np.zeros(log.n_users, dtype=np.int64)
    values = log.users[column].to_arrow().cast(pa.string())
    if len(pc.unique(values)) > MAX_SEGMENTS:
        try:
            ages = np.asarray(pc.fill_null(values.cast(pa.float64()), np.nan))
            return np.where(np.isfinite(ages), np.clip(np.nan_to_num(ages) // 10, 1, 7), 0).astype(np.int64)
        except pa.ArrowInvalid:  # not of numbers
            pass
    counts = pc.value_counts(values.drop_null()).to_pylist()
    largest = sorted(counts, key=lambda entry: (-entry["counts"], entry["values"]))[:MAX_SEGMENTS]
    frequent = pa.array([entry["values"] for entry in largest], pa.string())
    return np.asarray(pc.fill_null(pc.index_in(values, value_set=frequent), -1)).astype(np.int64) + 1


def counts_of(
    known: Histories, segment_U: np.ndarray, days: int | None, *, pieces: bool, n_segments: int | None = None
) -> Counts:
    """Return purchases (S, V) int64 by each segment in ``days`` days before the day, and of all time: sums over users.

    Row 0 is everybody. ``n_segments`` S are those that ``segment_U`` (U,) names, by default.
    """
    counted = None if pieces else is_sale(known.log)
    n_segments = n_segments or int(segment_U.max(initial=0)) + 1
    ever_SV = _count(known, segment_U, n_segments, None, counted)
    lately_SV = ever_SV if days is None else _count(known, segment_U, n_segments, known.day - days, counted)
    return {"lately": lately_SV, "ever": ever_SV}


def _count(
    known: Histories, segment_U: np.ndarray, n_segments: int, first_day: int | None, counted: np.ndarray | None
) -> np.ndarray:
    """Return purchases (S, V) int64 of each item by each segment, those ``counted`` (E,) bool; row 0 is everybody."""
    log, n_rows = known.log, known.log.n_items + 1
    counts = np.zeros(n_segments * n_rows, dtype=np.int64)
    for _, some in user_chunks(known):
        row, position = some.events()
        keep = log.day[position] >= (-np.inf if first_day is None else first_day)
        if counted is not None:
            keep &= counted[position]
        segment = segment_U[some.user_index][row[keep]]
        counts += np.bincount(segment * n_rows + log.item[position[keep]], minlength=len(counts))
    counts_SV = counts.reshape(n_segments, n_rows)
    counts_SV[0] = counts_SV.sum(axis=0)
    return counts_SV


def _order(counts_V: np.ndarray, everybody_V: np.ndarray, ever_V: np.ndarray) -> np.ndarray:
    return (np.lexsort((-ever_V[1:], -everybody_V[1:], -counts_V[1:])) + 1).astype(np.int32)


def fit_popularity_week(known: Histories, config: Config, validation: Fold | None = None) -> Popularity:
    """Return what sold in the last week: a baseline of its own, and what fills the lists of all others."""
    return Popularity.fit("popularity_week", known, days=WEEK_DAYS, segment=config.predict.segment)


def fit_popularity(known: Histories, config: Config, validation: Fold | None = None) -> Popularity:
    """Return what sold best of all time."""
    return Popularity.fit("popularity", known, segment=config.predict.segment)


SYSTEMS: Final = {"popularity_week": fit_popularity_week, "popularity": fit_popularity}
