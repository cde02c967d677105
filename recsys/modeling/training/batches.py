"""Training batches: windows packed by a token budget, and queries at days.

A history is cut, from its end backwards, into windows of at most T - 1 events; each event is a target exactly once.
Position 0 of a window holds the event before it (a start mark where there is none), so the model also learns to begin.
The transformer learns from windows, the other components from queries: any batch may hold any of these.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.config import Config
from recsys.data.purchases import cut_windows, event_positions
from recsys.evaluation.splits import Split, window_fold
from recsys.modeling.decoder.inputs import OnDevice, QueryTensors, SequenceTensors
from recsys.modeling.training.world import World
from recsys.signals.co_purchases import days_counted_for_training
from recsys.signals.queries import assemble, build_queries
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

#: Queries, and about so many rows of item features, by which components are scaled.
_N_SCALED_BY, _N_ROWS_SCALED_BY = 512, 200_000
#: Days of which a batch has queries. Of one alone each step pulls towards that day; all of them cost a table each.
_DAYS_OF_BATCH = 4
#: Events of a batch of a large log.
_MOST_TOKENS = 4_096
#: Queries over whose catalogues the even chance of past items is taken.
_N_WEIGHED = 128


@dataclass(frozen=True)
class Batch(OnDevice):
    """What one training step sees."""

    sequences: SequenceTensors
    target_BT: Tensor  # int64 next item of each position, 0 where there is none
    days_until_next_BT: Tensor  # int64 days from each event to the next
    queries: QueryTensors
    target_query_n: Tensor  # int64 query of each target of the queries
    target_item_n: Tensor  # int64


def pack(length: np.ndarray, budget: int, random: np.random.Generator, n_shares: int = 1) -> list[np.ndarray]:
    """Return batches of windows of like length, always as many, of rows × (longest + 1) <= ``budget`` positions.

    A batch is larger where it would else have fewer rows than ``n_shares``.
    """
    order = np.lexsort((random.random(len(length)), length))
    batches, begin = [], 0
    size = length[order] + 1
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - begin >= n_shares and (end + 1 - begin) * size[end] > budget):
            batches.append(order[begin:end])
            begin = end
    if len(batches) > 1 and len(batches[-1]) < n_shares:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def usual_tokens(n_events: int) -> int:
    """Return the events of a batch where windows are learned: of a small log fewer, so an epoch has some 128 steps.

    With 41 an epoch, Online Retail learned too little in eight of them (experiment 73).

    >>> [usual_tokens(n_events) for n_events in (10_000, 256_000, 10_000_000)]
    [1024, 2000, 4096]
    """
    return int(np.clip(n_events // 128, 1024, _MOST_TOKENS))


class TrainingBatches(IterableDataset[Batch]):
    """All events and queries of a training period, an epoch an iteration; of n processes, each takes 1/n of a batch."""

    def __init__(
        self,
        config: Config,
        snapshots: Snapshots,
        split: Split,
        user_codes: UserCodes | None,
        *,
        lifts: bool,
        asks: bool = True,
    ) -> None:
        """Take whether queries read co-purchases, and whether there are any: the transformer learns from none."""
        self.snapshots, self.log, self.split = snapshots, snapshots.log, split
        self.user_codes, self.lifts = user_codes, lifts
        training, has_dates = config.training, config.split.protocol == "weekly"
        recent, self.first_day = self.log.offsets[:-1], self.log.first_day + 1  # the first that may be asked
        if has_dates and training.recent_days is not None:
            self.first_day = max(split.train_day - training.recent_days, self.first_day)
            recent = self.log.ends_before(self.first_day)
        self.windows = cut_windows(np.minimum(recent, split.train_end), split.train_end, config.model.max_length - 1)
        self.n_events = int(self.windows.length.sum())  # targets of an epoch, over all processes
        self.query_windows = training.query_windows if has_dates and asks else 0
        # Without windows larger batches are as good or better (experiment 81).
        usual = usual_tokens(self.n_events) if self.query_windows else _MOST_TOKENS
        self.batch_tokens = max(training.batch_tokens or usual, config.model.max_length)
        self.horizon_days = config.split.horizon_days
        self.batch_queries = 400  # at most: each scores the catalogue, so they bound the memory of a step
        self.seed, self.epoch, (self.rank, self.world_size, _) = config.seed, 0, World.of_environment()
        self._n_packed = len(pack(self.windows.length, self.batch_tokens, np.random.default_rng(0), self.world_size))

    def __len__(self) -> int:
        return self._n_packed

    def __iter__(self) -> Iterator[Batch]:
        random = np.random.default_rng((self.seed, self.epoch))
        packed = pack(self.windows.length, self.batch_tokens, random, self.world_size)
        order = random.permutation(len(packed))
        queries = self._fold_queries(random)
        asked = queries.split(len(order), self.batch_queries, random)
        with ThreadPoolExecutor(1) as pool:  # one batch is assembled while another is learned from
            ahead: deque[Future[Batch]] = deque()
            for number, chosen in zip(order, asked, strict=True):
                ahead.append(pool.submit(self._collate, np.sort(packed[number]), queries, chosen))
                if len(ahead) > 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def first_inputs(self) -> tuple[QueryTensors, QueryTensors, Tensor] | None:
        """Return queries of the first epoch or None, a few of them, and item features (n, F) float32 at its days."""
        random = np.random.default_rng((self.seed, 0))
        queries = self._fold_queries(random)
        chosen = random.permutation(len(queries.day))[:_N_SCALED_BY]
        if not len(chosen):
            return None
        some, few = (self._query_tensors(queries, chosen[:n]) for n in (_N_SCALED_BY, _N_WEIGHED))
        rows = np.concatenate([self.snapshots.at(int(day)).item_features[1:] for day in np.unique(queries.day)])
        return some, few, torch.from_numpy(rows[:: max(len(rows) // _N_ROWS_SCALED_BY, 1)])

    def _query_tensors(self, queries: "_FoldQueries", chosen: np.ndarray) -> QueryTensors:
        """Return the queries ``chosen``; what is learned from them reads no sequence."""
        day, nowhere = queries.day[chosen], np.zeros(len(chosen), dtype=np.int64)
        lift_day = days_counted_for_training(day, self.log.first_day)
        known = self.snapshots, self.log, queries.user_index[chosen], queries.end[chosen], day
        arrays = build_queries(*known, position=nowhere, lifts=self.lifts, lift_day=lift_day)
        return QueryTensors.from_arrays(arrays)

    def _fold_queries(self, random: np.random.Generator) -> "_FoldQueries":
        """Ask at ``query_windows`` days, a horizon apart, the newest as late as its whole window may be learned from.

        They shift at random each epoch, so that every weekday is asked.
        """
        log, horizon = self.log, self.horizon_days
        newest = self.split.train_day - horizon
        n_shifts = min(horizon, max(newest - log.first_day, 1))
        shift = int(random.integers(n_shifts)) if self.query_windows else 0
        columns, items, n_targets = [np.zeros((5, 0), dtype=np.int64)], [np.zeros(0, dtype=np.int64)], 0
        for start_day in (newest - shift - back * horizon for back in range(self.query_windows)):
            if start_day < self.first_day:
                break
            fold = window_fold(log, start_day, horizon)
            edges, day = fold.target_offsets + n_targets, np.full(len(fold.user_index), start_day)
            columns.append(np.stack([fold.user_index, fold.history_end[fold.user_index], day, edges[:-1], edges[1:]]))
            items.append(fold.target_item.astype(np.int64))
            n_targets += len(fold.target_item)
        user, end, day, target_begin, target_end = np.concatenate(columns, axis=1)
        return _FoldQueries(user, end, day, target_begin, target_end, np.concatenate(items))

    def _collate(self, rows: np.ndarray, queries: "_FoldQueries", chosen: np.ndarray) -> Batch:
        log, windows = self.log, self.windows
        rows, chosen = (part[self.rank :: self.world_size] for part in (rows, chosen))
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
        target_query, place = event_positions(queries.target_begin[chosen], queries.target_end[chosen])
        return Batch(
            sequences=SequenceTensors.from_arrays(sequences),
            target_BT=torch.from_numpy(target_BT),
            days_until_next_BT=torch.from_numpy(wait_BT.astype(np.int64)),
            queries=self._query_tensors(queries, chosen),
            target_query_n=torch.from_numpy(target_query),
            target_item_n=torch.from_numpy(queries.target_item[place]),
        )


@dataclass(frozen=True)
class _FoldQueries:
    """Queries of several folds, A in all."""

    user_index: np.ndarray  # (A,) int64
    end: np.ndarray  # (A,) flat position up to which the history is known
    day: np.ndarray  # (A,)
    target_begin: np.ndarray  # (A,) targets are target_item[begin:end]
    target_end: np.ndarray  # (A,)
    target_item: np.ndarray  # int64

    def split(self, n_batches: int, at_most: int, random: np.random.Generator) -> list[np.ndarray]:
        """Return the queries of each batch, ascending: of few days, as those of a day share their counts."""
        order = np.lexsort((random.random(len(self.day)), self.day))
        n_parts = n_batches * _DAYS_OF_BATCH
        parts = np.array_split(order, n_parts)
        shuffled = [parts[place] for place in random.permutation(n_parts)]
        batches = [np.concatenate(shuffled[n::n_batches]) for n in range(n_batches)]
        return [np.sort(random.permutation(one)[:at_most]) for one in batches]
