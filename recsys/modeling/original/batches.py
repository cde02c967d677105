"""Histories as ``<sos> item … item <eos>`` for the original architectures.

A history longer than a sequence is cut, from its end backwards, into several; each begins with ``<sos>``, and only the
one that holds the history's end has ``<eos>``. So every event is a target exactly once.

Shapes: B sequences, T positions, W sequences of an epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.data.purchases import Purchases, cut_windows
from recsys.evaluation.splits import Fold, Split

PADDING = 0
N_SPECIAL = 3

#: Batches among which sequences of like length are put together, so that little padding is computed.
_SORTED_TOGETHER = 50


def start_token(n_items: int) -> int:
    """Return the token of ``<sos>``: the row after the items."""
    return n_items + 1


def end_token(n_items: int) -> int:
    """Return the token of ``<eos>``: the last row of the vocabulary."""
    return n_items + 2


@dataclass  # not frozen: Lightning moves its tensors to the device in place
class OriginalBatch:
    """Sequences and what follows at each position; padding, and targets that do not count, are 0."""

    token_BT: Tensor  # int64
    target_BT: Tensor  # int64


@dataclass(frozen=True)
class Stretches:
    """Events ``begin:end`` of each sequence, in one flat array; targets before ``counted`` do not count."""

    begin: np.ndarray  # (W,) int64
    end: np.ndarray  # (W,) int64, past begin
    counted: np.ndarray  # (W,) int64 first flat position that is a target
    whole: np.ndarray  # (W,) bool: the history ends here, so <eos> follows

    def __len__(self) -> int:
        """Return the number of sequences W."""
        return len(self.begin)

    @property
    def n_events(self) -> int:
        """Events that are targets."""
        return int((self.end - np.maximum(self.begin, self.counted)).sum())

    def take(self, rows: np.ndarray) -> "Stretches":
        """Return the sequences ``rows``."""
        return Stretches(self.begin[rows], self.end[rows], self.counted[rows], self.whole[rows])


def training_stretches(data: Purchases, split: Split, max_items: int) -> Stretches:
    """Return sequences of everything that may be learned from, ``<eos>`` after each user's last event of it."""
    return _stretches(data, split.train_end, max_items)


def customer_stretches(data: Purchases, user_index: np.ndarray, max_items: int) -> Stretches:
    """Return sequences of the whole histories of users that were held out."""
    end = data.offsets[:-1].copy()
    end[user_index] = data.offsets[user_index + 1]
    return _stretches(data, end, max_items)


def fold_stretches(data: Purchases, fold: Fold, n_targets: np.ndarray, max_items: int) -> Stretches:
    """Return sequences in which only the ``n_targets`` (Q,) events after what a fold knows of a user are targets."""
    end = data.offsets[:-1].copy()
    end[fold.user_index] = fold.history_end[fold.user_index] + n_targets
    stretches = _stretches(data, end, max_items)
    counted = fold.history_end[np.searchsorted(data.offsets, stretches.begin, side="right") - 1]
    stretches = replace(stretches, counted=counted, whole=np.zeros_like(stretches.whole))
    return stretches.take(np.flatnonzero(stretches.end > counted))


def _stretches(data: Purchases, end: np.ndarray, max_items: int) -> Stretches:
    """Return sequences of the events of each user before ``end`` (U,), where the history ends."""
    windows = cut_windows(data.offsets[:-1], end, max_items)
    stop, user = windows.start + windows.length, windows.user_index
    return Stretches(windows.start, stop, data.offsets[user], stop == end[user])


class OriginalBatches(IterableDataset[OriginalBatch]):
    """Batches of sequences: shuffled anew by seed and epoch, or in order for measuring.

    With several processes, each takes every n-th batch.
    """

    def __init__(
        self, data: Purchases, stretches: Stretches, batch_size: int, *, seed: int = 0, shuffled: bool = False
    ) -> None:
        self.data, self.stretches, self.batch_size = data, stretches, batch_size
        self.seed, self.shuffled = seed, shuffled
        self.epoch, self.rank, self.world_size = 0, 0, 1

    @property
    def n_events(self) -> int:
        """Events that are targets of an epoch, over all processes."""
        return self.stretches.n_events

    def __len__(self) -> int:
        """Return the number of batches of this process in an epoch."""
        n_batches = -(-len(self.stretches) // self.batch_size)
        # While learning, every process must take as many steps as the others.
        return n_batches // self.world_size if self.shuffled else len(range(self.rank, n_batches, self.world_size))

    def __iter__(self) -> Iterator[OriginalBatch]:
        """Yield the batches of the epoch ``self.epoch``."""
        rows = np.arange(len(self.stretches))
        if not self.shuffled:
            batches = batches_of(rows, self.batch_size)
        else:
            random = np.random.default_rng((self.seed, self.epoch))
            length = self.stretches.end - self.stretches.begin
            batches = shuffled_batches(random.permutation(rows), length, self.batch_size, random)
            batches = batches[: len(self) * self.world_size]
        for some in batches[self.rank :: self.world_size]:
            yield collate(self.data, self.stretches.take(some))


def batches_of(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Return ``rows`` in order, ``size`` at a time."""
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def shuffled_batches(rows: np.ndarray, length: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Return ``rows``, which come shuffled, as batches of like ``length`` in random order.

    Which rows meet is random: sorting a part of them at a time only saves padding.
    """
    part = np.arange(len(rows)) // (_SORTED_TOGETHER * size)
    batches = batches_of(rows[np.lexsort((length[rows], part))], size)
    return [batches[place] for place in random.permutation(len(batches))]


def collate(data: Purchases, stretches: Stretches) -> OriginalBatch:
    """Return the sequences as tokens ``<sos> item … item`` and the token after each of them, padded to the longest."""
    token_BT = tokens(data, stretches.begin, stretches.end)
    target_BT = np.zeros_like(token_BT)
    target_BT[:, :-1] = token_BT[:, 1:]
    length = stretches.end - stretches.begin
    ended = np.flatnonzero(stretches.whole)
    target_BT[ended, length[ended]] = end_token(data.n_items)
    n_known = np.maximum(stretches.counted - stretches.begin, 0)
    target_BT[np.arange(target_BT.shape[1]) < n_known[:, None]] = PADDING
    return OriginalBatch(torch.from_numpy(token_BT), torch.from_numpy(target_BT))


def tokens(data: Purchases, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return ``<sos>`` and events ``begin:end`` of each row (B, T) int64, padded on the right to the longest."""
    length = end - begin
    steps = np.arange(int(length.max(initial=0)))
    position_BT = np.clip(begin[:, None] + steps, 0, max(data.n_events - 1, 0))
    item_BT = np.where(steps < length[:, None], data.item[position_BT], PADDING)
    start_B1 = np.full((len(begin), 1), start_token(data.n_items))
    return np.concatenate([start_B1, item_BT], axis=1).astype(np.int64)
