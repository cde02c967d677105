"""From memory-mapped histories to tensors: windows packed by a token budget, and queries at dates.

A history is cut, from its end backwards, into windows of at most T - 1 events; each event is a target exactly once.
Position 0 of a window holds the event before it (a start mark where there is none), so the model also learns to begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.config import ModelConfig
from recsys.data.purchases import Purchases, Windows, cut_windows
from recsys.evaluation.splits import Fold, Split, window_fold
from recsys.modeling.decoder.inputs import Queries, Sequences, ask, assemble
from recsys.signals.sales import ItemSales


@dataclass
class Batch:
    """What one training step sees."""

    sequences: Sequences
    target_BT: Tensor  # int64 next item of each position, 0 where there is none
    days_until_query_BT: Tensor  # int64 days from each event to the next
    queries: Queries
    target_query_n: Tensor  # int64 query of each target of the queries
    target_item_n: Tensor  # int64


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
        data: Purchases,
        split: Split,
        *,
        reads: ModelConfig,
        batch_tokens: int,
        batch_queries: int,
        query_windows: int,
        horizon_days: int,
        seed: int,
        recent_days: int | None = None,
    ) -> None:
        self.data, self.split, self.reads = data, split, reads
        max_length = reads.max_length
        recent = data.offsets[:-1] if recent_days is None else data.ends_before(split.train_day - recent_days)
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
        queries = self._queries_by_window(random)
        for number in order[self.rank :: self.world_size]:
            yield self._collate(np.sort(packed[number]), queries, random)

    def first_queries(self, n_queries: int = 2000) -> Queries:
        """Return some queries of the first epoch, at most ``n_queries``: what the heads are scaled by."""
        random = np.random.default_rng((self.seed, 0))
        asked = self._queries_by_window(random)
        return self._ask(asked, random.permutation(len(asked.window))[:n_queries])

    def sales_rows(self, sales: ItemSales, n_rows: int = 200_000) -> Tensor:
        """Return the sales head's inputs (n, F) float32 at the dates of the first epoch, about ``n_rows`` of them."""
        asked = self._queries_by_window(np.random.default_rng((self.seed, 0)))
        tables_SVF, row_of_day = sales.tables(list(np.unique(asked.day)))
        rows = tables_SVF[row_of_day, 1:].reshape(-1, tables_SVF.shape[-1])
        return torch.from_numpy(rows[:: max(len(rows) // n_rows, 1)])

    def _ask(self, asked: "_AskedFolds", chosen: np.ndarray) -> Queries:
        day = asked.day[chosen]
        counted = self.data.baskets.dates_for_training(day)
        return ask(self.data, asked.user_index[chosen], asked.end[chosen], day, self.reads, counted)

    def _queries_by_window(self, random: np.random.Generator) -> "_AskedFolds":
        """Ask at ``query_windows`` dates, a horizon apart, the newest as late as its whole window may be learned from.

        The dates shift by a random number of days each epoch, so that every weekday is asked; by fewer where the data
        are so short that no date would be left.
        """
        newest = self.split.train_day - self.horizon_days
        n_shifts = min(self.horizon_days, max(newest - self.data.first_day, 1))
        shift = int(random.integers(n_shifts)) if self.query_windows else 0
        days = [newest - shift - back * self.horizon_days for back in range(self.query_windows)]
        folds = [window_fold(self.data, day, self.horizon_days) for day in days if day > self.data.first_day]
        return _AskedFolds.of(folds, self.windows, self.first_target, self.max_events)

    def _collate(self, rows: np.ndarray, asked: "_AskedFolds", random: np.random.Generator) -> Batch:
        data, windows = self.data, self.windows
        begin, length = windows.start[rows], windows.length[rows]
        at_start = begin == data.offsets[windows.user_index[rows]]
        user_index = windows.user_index[rows]
        sequences, days_BT = assemble(data, user_index, begin - 1, length + 1, at_start, self.reads)
        steps = np.arange(sequences.item_BT.shape[1])
        position_BT = np.minimum(begin[:, None] + steps, data.n_events - 1)
        has_target_BT = steps < length[:, None]
        target_BT = np.where(has_target_BT, data.item[position_BT], 0).astype(np.int64)
        wait_BT = np.where(has_target_BT, data.day[position_BT] - days_BT, 0)
        wait_BT[at_start, 0] = 0
        chosen = asked.choose(rows, self.batch_queries, random)
        queries = self._ask(asked, chosen)
        queries.row_Q = torch.from_numpy(np.searchsorted(rows, asked.window[chosen]))
        queries.position_Q = torch.from_numpy(asked.end[chosen] - windows.start[asked.window[chosen]])
        target_query, target_item = asked.targets(chosen)
        return Batch(
            sequences=sequences,
            target_BT=torch.from_numpy(target_BT),
            days_until_query_BT=torch.from_numpy(wait_BT.astype(np.int64)),
            queries=queries,
            target_query_n=torch.from_numpy(target_query),
            target_item_n=torch.from_numpy(target_item),
        )


@dataclass(frozen=True)
class _AskedFolds:
    """Queries of several folds, sorted by the window that answers them. A queries in all."""

    window: np.ndarray  # (A,) int64 ascending
    user_index: np.ndarray  # (A,)
    end: np.ndarray  # (A,) flat position up to which the history is known
    day: np.ndarray  # (A,)
    target_begin: np.ndarray  # (A,) targets are target_item[begin:end]
    target_end: np.ndarray  # (A,)
    target_item: np.ndarray

    @classmethod
    def of(cls, folds: list[Fold], windows: Windows, first_target: np.ndarray, max_events: int) -> "_AskedFolds":
        """Gather the queries of ``folds`` whose user has a window that reaches the date."""
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
        """Return query indices that windows ``rows`` answer: whole dates at random until ``at_most`` are taken.

        Whole dates, because what every item sold by a date is computed once for all queries at it.
        """
        first, last = np.searchsorted(self.window, rows), np.searchsorted(self.window, rows, side="right")
        found = np.repeat(first - np.concatenate([[0], np.cumsum(last - first)[:-1]]), last - first)
        found = found + np.arange(len(found))
        days = random.permutation(np.unique(self.day[found]))
        rank_of_day = {int(day): rank for rank, day in enumerate(days)}
        rank = np.array([rank_of_day[int(day)] for day in self.day[found]], dtype=np.int64)
        return np.sort(found[np.argsort(rank, kind="stable")[:at_most]])

    def targets(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (query, item) int64 of all targets of the chosen queries; query counts within ``chosen``."""
        counts = self.target_end[chosen] - self.target_begin[chosen]
        query = np.repeat(np.arange(len(chosen)), counts)
        within = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        return query, self.target_item[np.repeat(self.target_begin[chosen], counts) + within]
