"""Histories as ``<sos> item … item <eos>`` for the original decoders, and the order of sequences in an epoch.

A history longer than a sequence is cut, from its end backwards, into several; each begins with ``<sos>``, and only the
one that holds the history's end has ``<eos>``. So every event is a target exactly once.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from recsys.config import OriginalConfig
from recsys.data.purchases import Purchases, Windows, cut_windows
from recsys.modeling.training.world import World

PADDING = 0
N_SPECIAL = 3

#: Batches among which sequences of like length are put together, so that little padding is computed.
_SORTED_TOGETHER = 50


def end_token(n_items: int) -> int:
    """Return the token of ``<eos>``, the last row of the vocabulary; that of ``<sos>`` stands before it."""
    return n_items + 2


class EpochBatches(IterableDataset[Any]):
    """Batches of sequences: with a ``seed``, of like length in an order of seed and epoch, else as they come."""

    def __init__(
        self, length: np.ndarray, batch_size: int, collate: Callable[[np.ndarray], Any], seed: int | None = None
    ) -> None:
        self.length, self.batch_size, self.collate, self.seed = length, batch_size, collate, seed
        self.n_batches = -(-len(length) // batch_size)
        self.n_events = int(length.sum())  # or tokens, of an epoch, over all processes
        self.epoch, (self.rank, self.world_size, _) = 0, World.of_environment()

    def __len__(self) -> int:
        # While learning, every process takes as many steps as the others: some batches come twice.
        return len(range(self.rank if self.seed is None else 0, self.n_batches, self.world_size))

    def __iter__(self) -> Iterator[Any]:
        size, rows, order = self.batch_size, np.arange(len(self.length)), np.arange(self.n_batches)
        if self.seed is not None:
            random = np.random.default_rng((self.seed, self.epoch))
            part = rows // (_SORTED_TOGETHER * size)
            rows = random.permutation(rows)
            # Which rows meet is random: sorting a part of them at a time only saves padding.
            rows = rows[np.lexsort((self.length[rows], part))]
            order = np.resize(random.permutation(order), len(self) * self.world_size)
        for place in order[self.rank :: self.world_size]:
            yield self.collate(rows[place * size : (place + 1) * size])


class OriginalBatch(NamedTuple):
    """Sequences and what follows at each position; padding, and targets that do not count, are 0."""

    token_BT: Tensor  # int64
    target_BT: Tensor  # int64
    user_B: Tensor  # int64 user_index


def history_batches(
    log: Purchases, end: np.ndarray, sizes: OriginalConfig, known_end: np.ndarray | None = None, seed: int | None = None
) -> EpochBatches:
    """Return batches of each user's events before ``end`` (U,), and of that end; targets are from ``known_end`` on."""
    windows = cut_windows(log.offsets[:-1], end, sizes.seq_max_len)
    kept = np.arange(len(windows.start))
    if known_end is not None:
        kept = np.flatnonzero(windows.start + windows.length > known_end[windows.user_index])
    return EpochBatches(
        windows.length[kept], sizes.batch_size, lambda rows: _collate(log, windows, kept[rows], known_end), seed
    )


def _collate(data: Purchases, windows: Windows, rows: np.ndarray, known_end: np.ndarray | None) -> OriginalBatch:
    """Return the windows as tokens ``<sos> item … item`` and the token after each of them, padded to the longest."""
    user, begin, length = windows.user_index[rows], windows.start[rows], windows.length[rows]
    token_BT = tokens(data, begin, begin + length)
    target_BT = np.zeros_like(token_BT)
    target_BT[:, :-1] = token_BT[:, 1:]
    if known_end is None:
        is_newest = rows == windows.first_of_user[user + 1] - 1
        target_BT[is_newest, length[is_newest]] = end_token(data.n_items)
    else:
        target_BT[np.arange(target_BT.shape[1]) < (known_end[user] - begin)[:, None]] = PADDING
    return OriginalBatch(*(torch.from_numpy(part) for part in (token_BT, target_BT, user)))


def whole_histories(data: Purchases, user_index: np.ndarray) -> np.ndarray:
    """Return the end (U,) of each history, of users ``user_index`` alone: all others have none."""
    end = data.offsets[:-1].copy()
    end[user_index] = data.offsets[user_index + 1]
    return end


def tokens(data: Purchases, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return ``<sos>`` and events ``begin:end`` of each row (B, T) int64, padded on the right to the longest."""
    length = end - begin
    steps = np.arange(int(length.max(initial=0)))
    position_BT = np.clip(begin[:, None] + steps, 0, max(data.n_events - 1, 0))
    item_BT = np.where(steps < length[:, None], data.item[position_BT], PADDING)
    return np.pad(item_BT, ((0, 0), (1, 0)), constant_values=end_token(data.n_items) - 1).astype(np.int64)
