"""From memory-mapped histories to tensors: windows packed by a token budget, and questions at dates.

A history is cut, from its end backwards, into windows of at most T - 1 events; each event is a target exactly once.
Position 0 of a window holds the event before it (a start mark where there is none), so the model also learns to begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.companions import no_companions
from recsys.config import ModelConfig
from recsys.features import ItemSales, past_companions, past_items, past_kinds
from recsys.prepared import PreparedData
from recsys.splits import Fold, Split, window_fold


@dataclass
class Sequences:
    """Input of the decoder; shapes as in :mod:`recsys.modeling.layers`."""

    item_BT: Tensor  # int64 item_index; n_items + 1 marks the start of a history, 0 pads on the right
    gap_days_BT: Tensor  # int64 days since the event before
    customer_BC: Tensor  # int64 codes, see recsys.customer_codes; C is 0 where the model does not read them


@dataclass
class Questions:
    """Questions at dates about states of a batch: what will be bought in the window that begins then?"""

    row_Q: Tensor  # int64 sequence of the batch
    position_Q: Tensor  # int64 position of the last known event
    wait_days_Q: Tensor  # int64 days from that event to the date
    day_Q: Tensor  # int64 date, days since 1970-01-01
    past_query_P: Tensor  # int64 query of each past item, ascending
    past_item_P: Tensor  # int64
    past_features_PF: Tensor  # float32, see features.PastItems
    kind_query_R: Tensor  # int64 query of each kind of past items, ascending
    kind_code_R: Tensor  # int64
    kind_features_RF: Tensor  # float32, see features.KIND_FEATURES
    companion_query_C: Tensor  # int64 query of each item that goes with past ones, ascending
    companion_item_C: Tensor  # int64
    companion_features_CF: Tensor  # float32, see companions.COMPANION_FEATURES

    def take(self, query_R: Tensor) -> "Questions":
        """Return the questions ``query_R`` (R,) int64, which may repeat and leave out, in that order."""
        row_N, pair_N = _rows_of(self.past_query_P, query_R, len(self.row_Q))
        row_M, kind_M = _rows_of(self.kind_query_R, query_R, len(self.row_Q))
        row_C, pair_C = _rows_of(self.companion_query_C, query_R, len(self.row_Q))
        return Questions(
            row_Q=self.row_Q[query_R],
            position_Q=self.position_Q[query_R],
            wait_days_Q=self.wait_days_Q[query_R],
            day_Q=self.day_Q[query_R],
            past_query_P=row_N,
            past_item_P=self.past_item_P[pair_N],
            past_features_PF=self.past_features_PF[pair_N],
            kind_query_R=row_M,
            kind_code_R=self.kind_code_R[kind_M],
            kind_features_RF=self.kind_features_RF[kind_M],
            companion_query_C=row_C,
            companion_item_C=self.companion_item_C[pair_C],
            companion_features_CF=self.companion_features_CF[pair_C],
        )


def _rows_of(query_P: Tensor, query_R: Tensor, n_queries: int) -> tuple[Tensor, Tensor]:
    """Return for the rows of each of ``query_R`` its place there and the place of the row in ``query_P``, ascending."""
    count_Q = torch.bincount(query_P, minlength=n_queries)
    first_Q = count_Q.cumsum(0) - count_Q
    count_R = count_Q[query_R]
    place_N = torch.repeat_interleave(torch.arange(len(query_R), device=query_R.device), count_R)
    begin_R = count_R.cumsum(0) - count_R
    return place_N, torch.arange(len(place_N), device=query_R.device) - begin_R[place_N] + first_Q[query_R][place_N]


@dataclass
class Batch:
    """What one training step sees."""

    sequences: Sequences
    target_BT: Tensor  # int64 next item of each position, 0 where there is none
    wait_days_BT: Tensor  # int64 days from each event to the next
    questions: Questions
    target_query_n: Tensor  # int64 query of each target of the questions
    target_item_n: Tensor  # int64


@dataclass(frozen=True)
class Windows:
    """Windows over histories: events ``start:start + length`` are targets. W windows, sorted by user then time."""

    user_index: np.ndarray  # (W,) int64
    start: np.ndarray  # (W,) int64 flat position
    length: np.ndarray  # (W,) int64
    first_of_user: np.ndarray  # (U+1,) int64: windows of user u are first_of_user[u]:first_of_user[u+1]


def cut_windows(begin: np.ndarray, end: np.ndarray, max_events: int) -> Windows:
    """Return windows that cover events ``begin[u]:end[u]`` of every user; only a user's first may be short."""
    n_events = end - begin
    n_windows = -(-n_events // max_events)
    first = np.concatenate([[0], np.cumsum(n_windows)])
    user = np.repeat(np.arange(len(n_events)), n_windows)
    back = first[user + 1] - np.arange(len(user))  # 1 for the newest window of a user
    stop = end[user] - (back - 1) * max_events
    start = np.maximum(stop - max_events, begin[user])
    return Windows(user, start, stop - start, first)


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
    """All events and questions of a training period, one epoch an iteration, in an order fixed by seed and epoch.

    With several processes, each takes every n-th batch.
    """

    def __init__(
        self,
        data: PreparedData,
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
        questions = self._questions_by_window(random)
        for number in order[self.rank :: self.world_size]:
            yield self._collate(np.sort(packed[number]), questions, random)

    def first_questions(self, n_questions: int = 2000) -> Questions:
        """Return some questions of the first epoch, at most ``n_questions``: what the heads are scaled by."""
        random = np.random.default_rng((self.seed, 0))
        asked = self._questions_by_window(random)
        return self._ask(asked, random.permutation(len(asked.window))[:n_questions])

    def sales_rows(self, sales: ItemSales, n_rows: int = 200_000) -> Tensor:
        """Return the sales head's inputs (n, F) float32 at the dates of the first epoch, about ``n_rows`` of them."""
        asked = self._questions_by_window(np.random.default_rng((self.seed, 0)))
        tables_SVF, row_of_day = sales.tables(list(np.unique(asked.day)))
        rows = tables_SVF[row_of_day, 1:].reshape(-1, tables_SVF.shape[-1])
        return torch.from_numpy(rows[:: max(len(rows) // n_rows, 1)])

    def _ask(self, asked: "_AskedFolds", chosen: np.ndarray) -> Questions:
        day = asked.day[chosen]
        counted = self.data.baskets.dates_for_training(day)
        return ask(self.data, asked.user_index[chosen], asked.end[chosen], day, self.reads, counted)

    def _questions_by_window(self, random: np.random.Generator) -> "_AskedFolds":
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
        questions = self._ask(asked, chosen)
        questions.row_Q = torch.from_numpy(np.searchsorted(rows, asked.window[chosen]))
        questions.position_Q = torch.from_numpy(asked.end[chosen] - windows.start[asked.window[chosen]])
        target_query, target_item = asked.targets(chosen)
        return Batch(
            sequences=sequences,
            target_BT=torch.from_numpy(target_BT),
            wait_days_BT=torch.from_numpy(wait_BT.astype(np.int64)),
            questions=questions,
            target_query_n=torch.from_numpy(target_query),
            target_item_n=torch.from_numpy(target_item),
        )


@dataclass(frozen=True)
class _AskedFolds:
    """Questions of several folds, sorted by the window that answers them. A questions in all."""

    window: np.ndarray  # (A,) int64 ascending
    user_index: np.ndarray  # (A,)
    end: np.ndarray  # (A,) flat position up to which the history is known
    day: np.ndarray  # (A,)
    target_begin: np.ndarray  # (A,) targets are target_item[begin:end]
    target_end: np.ndarray  # (A,)
    target_item: np.ndarray

    @classmethod
    def of(cls, folds: list[Fold], windows: Windows, first_target: np.ndarray, max_events: int) -> "_AskedFolds":
        """Gather the questions of ``folds`` whose user has a window that reaches the date."""
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
        """Return question indices that windows ``rows`` answer: whole dates at random until ``at_most`` are taken.

        Whole dates, because what every item sold by a date is computed once for all questions at it.
        """
        first, last = np.searchsorted(self.window, rows), np.searchsorted(self.window, rows, side="right")
        found = np.repeat(first - np.concatenate([[0], np.cumsum(last - first)[:-1]]), last - first)
        found = found + np.arange(len(found))
        days = random.permutation(np.unique(self.day[found]))
        rank_of_day = {int(day): rank for rank, day in enumerate(days)}
        rank = np.array([rank_of_day[int(day)] for day in self.day[found]], dtype=np.int64)
        return np.sort(found[np.argsort(rank, kind="stable")[:at_most]])

    def targets(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (query, item) int64 of all targets of the chosen questions; query counts within ``chosen``."""
        counts = self.target_end[chosen] - self.target_begin[chosen]
        query = np.repeat(np.arange(len(chosen)), counts)
        within = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        return query, self.target_item[np.repeat(self.target_begin[chosen], counts) + within]


def assemble(
    data: PreparedData,
    user_index: np.ndarray,
    first: np.ndarray,
    length: np.ndarray,
    at_start: np.ndarray,
    reads: ModelConfig,
) -> tuple[Sequences, np.ndarray]:
    """Return sequences of events ``first:first + length`` padded to the longest, and their days (B, T).

    Beside items and gaps they hold what a model of the settings ``reads`` reads.
    Where ``at_start`` (B,) holds, position 0 is the start mark instead of the event at ``first``.
    """
    steps = np.arange(int(length.max()))
    position_BT = np.clip(first[:, None] + steps, 0, data.n_events - 1)
    real_BT = steps < length[:, None]
    item_BT = np.where(real_BT, data.item[position_BT], 0).astype(np.int64)
    item_BT[at_start, 0] = data.n_items + 1
    day_BT = np.where(real_BT, data.day[position_BT], 0).astype(np.int64)
    gap_BT = np.zeros_like(day_BT)
    gap_BT[:, 1:] = np.where(real_BT[:, 1:], day_BT[:, 1:] - day_BT[:, :-1], 0)
    if gap_BT.shape[1] > 1:
        gap_BT[at_start, 1] = 0
    customer_BC = customers_told(data, reads)[user_index].astype(np.int64)
    parts = (torch.from_numpy(part) for part in (item_BT, gap_BT, customer_BC))
    return Sequences(*parts), day_BT


def customers_told(data: PreparedData, reads: ModelConfig) -> np.ndarray:
    """Return the codes (U, C) of customers that a model of the settings ``reads`` reads, possibly none."""
    return data.customer_codes if reads.customer else np.zeros((data.n_users, 0), dtype=np.int32)


def ask(
    data: PreparedData,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    reads: ModelConfig,
    counted: np.ndarray | None = None,
) -> Questions:
    """Return questions about histories that end at flat positions ``end`` (Q,), asked at ``day`` (Q,).

    They hold what a model of the settings ``reads`` reads. What goes with past items is known up to ``counted`` (Q,),
    by default the very ``day``.

    Row and position say that question q is about the last event of sequence q, as :func:`newest_events` lays them out;
    a caller with another layout sets both.
    """
    past = past_items(data, user_index, end, day)
    kinds = past_kinds(past, data.kinds, data.kind_sales, np.asarray(day))
    companions = no_companions()
    if reads.companion_head:
        companions = past_companions(past, data.baskets, np.asarray(day if counted is None else counted))
    known = end > data.offsets[user_index]
    last_day = data.day[np.maximum(end - 1, 0)]
    wait = np.where(known, np.maximum(day - last_day, 0), 0)
    return Questions(
        row_Q=torch.arange(len(user_index)),
        position_Q=torch.zeros(len(user_index), dtype=torch.int64),
        wait_days_Q=torch.from_numpy(wait.astype(np.int64)),
        day_Q=torch.from_numpy(np.asarray(day, dtype=np.int64)),
        past_query_P=torch.from_numpy(past.query),
        past_item_P=torch.from_numpy(past.item.astype(np.int64)),
        past_features_PF=torch.from_numpy(past.features),
        kind_query_R=torch.from_numpy(kinds.query),
        kind_code_R=torch.from_numpy(kinds.code),
        kind_features_RF=torch.from_numpy(kinds.features),
        companion_query_C=torch.from_numpy(companions.query),
        companion_item_C=torch.from_numpy(companions.item),
        companion_features_CF=torch.from_numpy(companions.features),
    )


def newest_events(
    data: PreparedData,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    reads: ModelConfig,
    max_length: int | None = None,
) -> tuple[Sequences, Questions]:
    """Return the newest events of each history as a model of the settings ``reads`` reads them.

    With them comes a question at each's end. They have at most ``max_length`` positions, by default as many as it
    reads.
    """
    max_length = reads.max_length if max_length is None else max_length
    begin = data.offsets[user_index]
    whole = end - begin < max_length  # room for the start mark too
    first = np.where(whole, begin - 1, end - max_length)
    sequences, _ = assemble(data, user_index, first, end - first, whole, reads)
    questions = ask(data, user_index, end, day, reads)
    questions.position_Q = torch.from_numpy(end - first - 1)
    return sequences, questions
