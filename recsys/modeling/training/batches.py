"""Training batches: windows packed by a token budget, and queries at days about them.

A history is cut, from its end backwards, into windows of at most T - 1 events; each event is a target exactly once.
Position 0 of a window holds the event before it (a start mark where there is none), so the model also learns to begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.data.purchases import Windows, cut_windows, event_positions
from recsys.evaluation.splits import Fold, Split, window_fold
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.signals.co_purchases import days_counted_for_training
from recsys.signals.queries import Queries, assemble, build_queries
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

#: Whole-window queries a batch at most: each scores the catalogue, so they bound the memory of a step.
MOST_QUERIES: Final = 400


@dataclass(frozen=True)
class Batch:
    """What one training step sees."""

    sequences: SequenceTensors
    target_BT: Tensor  # int64 next item of each position, 0 where there is none
    days_until_next_BT: Tensor  # int64 days from each event to the next
    queries: QueryTensors
    target_query_n: Tensor  # int64 query of each target of the queries
    target_item_n: Tensor  # int64

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same on ``device``."""
        return Batch(
            self.sequences.to(device),
            self.target_BT.to(device),
            self.days_until_next_BT.to(device),
            self.queries.to(device),
            self.target_query_n.to(device),
            self.target_item_n.to(device),
        )


def pack(length: np.ndarray, budget: int, random: np.random.Generator) -> list[np.ndarray]:
    """Return batches of window indices whose padded size, rows × (longest + 1), stays within ``budget`` positions.

    Windows of like length go together; which of them is random, but the number of batches is always the same.
    """
    order = np.lexsort((random.random(len(length)), length))
    batches, begin = [], 0
    size = length[order] + 1
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * size[end] > budget:
            batches.append(order[begin:end])
            begin = end
    return batches


class TrainingBatches(IterableDataset[Batch]):
    """All events and queries of a training period, one epoch an iteration, in an order fixed by seed and epoch.

    With several processes, each takes every n-th batch.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        split: Split,
        *,
        user_codes: UserCodes | None,
        lifts: bool,
        max_length: int,
        batch_tokens: int,
        query_windows: int,
        horizon_days: int,
        seed: int,
        recent_days: int | None = None,
        batch_queries: int = MOST_QUERIES,
    ) -> None:
        """Take the log with its snapshots, and what of it is learned from.

        Args:
            snapshots: of the log.
            split: up to where each history may be learned from.
            user_codes: of the users, where the model reads them.
            lifts: whether co-purchases are read.
            max_length: positions T of a window.
            batch_tokens: events a batch, padding included.
            query_windows: windows before the cutoff that are asked for.
            horizon_days: length of a window in days.
            seed: of the order.
            recent_days: learn from the last n days before the cutoff only.
            batch_queries: queries a batch at most.
        """
        self.snapshots, self.log, self.split = snapshots, snapshots.log, split
        self.user_codes, self.lifts = user_codes, lifts
        recent = self.log.offsets[:-1] if recent_days is None else self.log.ends_before(split.train_day - recent_days)
        self.first_target = np.minimum(recent, split.train_end)
        self.windows = cut_windows(self.first_target, split.train_end, max_length - 1)
        self.max_events = max_length - 1
        self.batch_tokens, self.batch_queries = max(batch_tokens, max_length), batch_queries
        self.query_windows, self.horizon_days = query_windows, horizon_days
        self.seed, self.rank, self.world_size = seed, 0, 1
        self.epoch = 0
        self._n_packed = len(pack(self.windows.length, self.batch_tokens, np.random.default_rng(0)))

    @property
    def n_events(self) -> int:
        """Events that are targets of an epoch, over all processes."""
        return int(self.windows.length.sum())

    def __len__(self) -> int:
        """Return the number of batches of this process in an epoch."""
        return self._n_packed // self.world_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the epoch ``self.epoch``."""
        random = np.random.default_rng((self.seed, self.epoch))
        packed = pack(self.windows.length, self.batch_tokens, random)
        order = random.permutation(len(packed))[: len(self) * self.world_size]
        queries = self._fold_queries(random)
        for number in order[self.rank :: self.world_size]:
            yield self._collate(np.sort(packed[number]), queries, random)

    def first_queries(self, n_queries: int = 2000) -> QueryTensors:
        """Return some queries of the first epoch, at most ``n_queries``: what components are scaled by."""
        random = np.random.default_rng((self.seed, 0))
        queries = self._fold_queries(random)
        chosen = random.permutation(len(queries.window))[:n_queries]
        rows, position = np.arange(len(chosen)), np.zeros(len(chosen), dtype=np.int64)
        return QueryTensors.from_arrays(self._build(queries, chosen, rows, position))

    def item_rows(self, n_rows: int = 200_000) -> Tensor:
        """Return the item features (n, F) float32 at the days of the first epoch, about ``n_rows`` of them."""
        days = np.unique(self._fold_queries(np.random.default_rng((self.seed, 0))).day)
        tables = [self.snapshots.at(int(day)).item_features[1:] for day in days]
        n_features = self.snapshots.at(self.split.train_day).item_features.shape[1]
        rows = np.concatenate([np.zeros((0, n_features), dtype=np.float32), *tables])
        return torch.from_numpy(rows[:: max(len(rows) // n_rows, 1)])

    def _build(self, queries: "_FoldQueries", chosen: np.ndarray, rows: np.ndarray, position: np.ndarray) -> Queries:
        day = queries.day[chosen]
        return build_queries(
            self.snapshots,
            self.log,
            queries.user_index[chosen],
            queries.end[chosen],
            day,
            rows=rows,
            position=position,
            lifts=self.lifts,
            lift_day=days_counted_for_training(day, self.log.first_day),
        )

    def _fold_queries(self, random: np.random.Generator) -> "_FoldQueries":
        """Ask at ``query_windows`` days, a horizon apart, the newest as late as its whole window may be learned from.

        The days shift by a random number of days each epoch, so that every weekday is asked; by fewer where the data
        are so short that no day would be left.
        """
        newest = self.split.train_day - self.horizon_days
        n_shifts = min(self.horizon_days, max(newest - self.log.first_day, 1))
        shift = int(random.integers(n_shifts)) if self.query_windows else 0
        days = [newest - shift - back * self.horizon_days for back in range(self.query_windows)]
        folds = [window_fold(self.log, day, self.horizon_days) for day in days if day > self.log.first_day]
        return _FoldQueries.from_folds(folds, self.windows, self.first_target, self.max_events)

    def _collate(self, rows: np.ndarray, queries: "_FoldQueries", random: np.random.Generator) -> Batch:
        log, windows = self.log, self.windows
        begin, length = windows.start[rows], windows.length[rows]
        user_index = windows.user_index[rows]
        at_start = begin == log.offsets[user_index]
        sequences, days_BT = assemble(log, user_index, begin - 1, length + 1, at_start, self.user_codes)
        steps = np.arange(sequences.item.shape[1])
        position_BT = np.minimum(begin[:, None] + steps, log.n_events - 1)
        has_target_BT = steps < length[:, None]
        target_BT = np.where(has_target_BT, log.item[position_BT], 0).astype(np.int64)
        wait_BT = np.where(has_target_BT, log.day[position_BT] - days_BT, 0)
        wait_BT[at_start, 0] = 0
        chosen = queries.choose(rows, self.batch_queries, random)
        row = np.searchsorted(rows, queries.window[chosen])
        position = queries.end[chosen] - windows.start[queries.window[chosen]]
        target_query, target_item = queries.targets(chosen)
        return Batch(
            sequences=SequenceTensors.from_arrays(sequences),
            target_BT=torch.from_numpy(target_BT),
            days_until_next_BT=torch.from_numpy(wait_BT.astype(np.int64)),
            queries=QueryTensors.from_arrays(self._build(queries, chosen, row, position)),
            target_query_n=torch.from_numpy(target_query),
            target_item_n=torch.from_numpy(target_item),
        )


@dataclass(frozen=True)
class _FoldQueries:
    """Queries of several folds, sorted by the window that answers them. A queries in all."""

    window: np.ndarray  # (A,) int64 ascending
    user_index: np.ndarray  # (A,)
    end: np.ndarray  # (A,) flat position up to which the history is known
    day: np.ndarray  # (A,)
    target_begin: np.ndarray  # (A,) targets are target_item[begin:end]
    target_end: np.ndarray  # (A,)
    target_item: np.ndarray

    @classmethod
    def from_folds(
        cls, folds: list[Fold], windows: Windows, first_target: np.ndarray, max_events: int
    ) -> "_FoldQueries":
        """Gather the queries of ``folds`` whose user has a window that reaches the day."""
        shifts = np.cumsum([0] + [len(fold.target_item) for fold in folds])
        empty = np.zeros(0, dtype=np.int64)
        user = np.concatenate([empty, *(fold.user_index for fold in folds)]).astype(np.int64)
        end = np.concatenate([empty, *(fold.history_end[fold.user_index] for fold in folds)])
        day = np.concatenate([empty, *(np.full(len(fold.user_index), fold.start_day) for fold in folds)])
        edges = [fold.target_offsets + shift for fold, shift in zip(folds, shifts, strict=False)]
        target_begin = np.concatenate([empty, *(edge[:-1] for edge in edges)])
        target_end = np.concatenate([empty, *(edge[1:] for edge in edges)])
        n_known = end - first_target[user]
        n_windows = windows.first_of_user[user + 1] - windows.first_of_user[user]
        oldest = windows.length[np.minimum(windows.first_of_user[user], len(windows.length) - 1)]
        window = windows.first_of_user[user] + np.maximum(-(-(n_known - oldest) // max_events), 0)
        keep = (n_windows > 0) & (n_known >= 0) & (window < windows.first_of_user[user + 1])
        order = np.flatnonzero(keep)[np.argsort(window[keep], kind="stable")]
        items = np.concatenate([empty, *(fold.target_item for fold in folds)]).astype(np.int64)
        return cls(window[order], user[order], end[order], day[order], target_begin[order], target_end[order], items)

    def choose(self, rows: np.ndarray, at_most: int, random: np.random.Generator) -> np.ndarray:
        """Return the queries that windows ``rows`` answer: whole days at random until ``at_most`` are taken.

        Whole days, because what every item sold by a day is computed once for all queries at it.
        """
        first, last = np.searchsorted(self.window, rows), np.searchsorted(self.window, rows, side="right")
        answered = event_positions(first, last)[1]
        days = random.permutation(np.unique(self.day[answered]))
        rank_of_day = {int(day): rank for rank, day in enumerate(days)}
        rank = np.array([rank_of_day[int(day)] for day in self.day[answered]], dtype=np.int64)
        return np.sort(answered[np.argsort(rank, kind="stable")[:at_most]])

    def targets(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (query, item) int64 of all targets of the chosen queries; query counts within ``chosen``."""
        query, place = event_positions(self.target_begin[chosen], self.target_end[chosen])
        return query, self.target_item[place]
