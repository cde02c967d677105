"""From cleaned events to histories: one deterministic order, baskets, offsets, whatever engine read them.

Within a user events are sorted by day, time of day, basket, ``tie``, item, channel, price and quantity. ``tie`` is an
integer hash of (user, item, day): where a source knows only the day, an order must be made up, and one by item id
would be something that a next-item model could learn.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.schema import EVENT_ARRAYS, OFFSETS

_PART = 1 << 16  # events, about, that are sorted at a time
_BLOCK = 1 << 21  # events that are given to their parts at a time
_MISSING = {"price": np.nan, "channel": 0, "quantity": 1}


@dataclass(frozen=True)
class Events:
    """Events as columns of one value each, E of them; None stands for a column that the source does not have."""

    user: np.ndarray  # (E,) int32 user_index
    item: np.ndarray  # (E,) int32 item_index, from 1
    day: np.ndarray  # (E,) int32 days since 1970-01-01
    millisecond: np.ndarray | None = None  # (E,) int32 of the day
    price: np.ndarray | None = None  # (E,) float32, NaN where missing
    channel: np.ndarray | None = None  # (E,) int8, 1-based rank, 0 where missing
    quantity: np.ndarray | None = None  # (E,) float32
    basket: np.ndarray | None = None  # (E,) integers, 1-based rank of the basket id, 0 where missing

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray | slice) -> Self:
        """Return the events at ``rows``: positions (n,), a mask (E,), or a slice, which copies nothing."""
        return replace(self, **{name: column[rows] for name, column in vars(self).items() if column is not None})

    def column(self, name: str) -> np.ndarray:
        """Return a column (E,), or what stands for it where the source does not have it."""
        values: np.ndarray | None = getattr(self, name)
        return np.full(len(self), _MISSING[name], dtype=EVENT_ARRAYS[name]) if values is None else values


def in_history_order(events: Events, n_users: int, first_user: int = 0) -> tuple[dict[str, np.ndarray], int]:
    """Return ``events``, in any order, as the arrays of :mod:`recsys.schema` for users 0 … ``n_users``-1.

    Second, how many events equal the one before them in every column. ``first_user`` is the number of the first user
    among all, where these are not all users. Events are given to parts of users, a block at a time, and put in order a
    part at a time: blocks and parts fit into the processor's cache, and threads share them.
    """
    offsets = offsets_of(events.user, n_users)
    part_of_user = (offsets[:-1] // _PART).astype(np.uint16 if len(events) < _PART << 16 else np.int64)
    n_parts = int(part_of_user[-1]) + 1 if n_users else 0
    first_users = np.searchsorted(part_of_user, np.arange(n_parts + 1))
    arrays = {name: np.empty(len(events), dtype=dtype) for name, dtype in EVENT_ARRAYS.items()}

    def by_part(begin: int) -> tuple[Events, np.ndarray]:
        """Return some of the events in the order of their parts, and where each part begins among them."""
        some = events.take(slice(begin, begin + _BLOCK))
        part_E = part_of_user.take(some.user)
        rows = np.argsort(part_E, kind="stable")
        return some.take(rows), np.searchsorted(part_E.take(rows), np.arange(n_parts + 1))

    def arrange(number: int) -> int:
        users = slice(first_users[number], first_users[number + 1] + 1)
        place = slice(offsets[users][0], offsets[users][-1])
        if place.start == place.stop:
            return 0
        some = _joined([block.take(slice(*begins[number : number + 2])) for block, begins in blocks])
        some = some.take(history_order(some, first_user))
        basket = basket_numbers(some.user, some.day, some.basket, offsets[users] - offsets[users][0])
        for name, array in arrays.items():
            array[place] = basket if name == "basket" else some.column(name)
        return count_duplicates(some)

    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        blocks = list(pool.map(by_part, range(0, len(events), _BLOCK)))
        n_duplicates = sum(pool.map(arrange, range(n_parts)))
    return arrays | {OFFSETS: offsets}, n_duplicates


def _joined(some: list[Events]) -> Events:
    """Return the events of several, which have the same columns, one after the other."""
    columns = {name for name, column in vars(some[0]).items() if column is not None}
    return Events(**{name: np.concatenate([getattr(each, name) for each in some]) for name in columns})


def history_order(events: Events, first_user: int = 0) -> np.ndarray:
    """Return the positions (E,) int64 of ``events`` by user and, within each, in the order of the module's text."""
    if not len(events):
        return np.zeros(0, np.int64)
    who = events.user.astype(np.uint64) + np.uint64(first_user), events.item
    within_day = (events.millisecond, events.basket, tie_of(*who, events.day), events.item)
    every = (events.user, events.day, *within_day, events.channel, events.price, events.quantity)
    keys = [key for key in every if key is not None]
    packed, n_packed = _packed(keys)  # one number is sorted by far faster than several columns
    order = np.argsort(packed)
    same = packed[order[1:]] == packed[order[:-1]]
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    if len(tied):
        rows = order[tied]
        names = [str(place) for place in range(1 + len(keys) - n_packed)]
        columns = pa.record_batch([pa.array(key[rows]) for key in (packed, *keys[n_packed:])], names)
        order[tied] = rows[pc.sort_indices(columns, sort_keys=[(name, "ascending") for name in names])]
    return order


def _packed(keys: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """Return numbers (E,) uint64 in the order of the first of ``keys`` (E,), and of how many: whole ones, as fit."""
    packed, n_bits = np.zeros(len(keys[0]), np.uint64), 0
    for place, key in enumerate(keys):
        least = 0 if key.dtype.kind == "f" else int(key.min())
        width = 65 if key.dtype.kind == "f" else (int(key.max()) - least).bit_length()
        n_bits += width
        if n_bits > 64:
            return packed, place
        packed <<= np.uint64(width)
        packed |= (key - np.int64(least)).astype(np.uint64)
    return packed, len(keys)


def tie_of(user: np.ndarray, item: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return a hash (E,) int32 of (user, item, day): the multiply-and-shift finaliser of SplitMix64 (Steele 2014)."""
    mixed = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += item.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed += day.astype(np.uint64) * np.uint64(0x165667B19E3779F9)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed >>= np.uint64(33)  # 31 bits are left
    return mixed.astype(np.int32)


def offsets_of(user: np.ndarray, n_users: int) -> np.ndarray:
    """Return offsets (U+1,) int64: events of user u are ``offsets[u]:offsets[u+1]`` once sorted by ``user`` (E,).

    >>> offsets_of(np.array([0, 0, 2], dtype=np.int32), 3).tolist()
    [0, 2, 2, 3]
    """
    return np.concatenate([[0], np.cumsum(occurrences_of(user, n_users))]).astype(np.int64)


def occurrences_of(numbers: np.ndarray, n: int) -> np.ndarray:
    """Return how often each of 0 … ``n``-1 (and above, where they occur) stands in ``numbers`` (E,), (n,) int64.

    Some are counted at a time: NumPy takes eight bytes more for each.
    """
    counts = np.zeros(max(n, int(numbers.max(initial=-1)) + 1), np.int64)
    for begin in range(0, len(numbers), _BLOCK):
        counts += np.bincount(numbers[begin : begin + _BLOCK], minlength=len(counts))
    return counts


def user_of_event(offsets: np.ndarray) -> np.ndarray:
    """Return the user_index (E,) int32 of each event."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def basket_numbers(user: np.ndarray, day: np.ndarray, basket: np.ndarray | None, offsets: np.ndarray) -> np.ndarray:
    """Return the basket's number (E,) int32 within the user's history, from 0, in order of first appearance.

    A basket is one value of ``basket`` (E,); where that is 0, or without it, one day. Events are in history order.
    """
    if basket is None or not len(day):
        begins = np.ones(len(day), dtype=bool)
        begins[1:] = (day[1:] != day[:-1]) | (user[1:] != user[:-1])
        number = np.cumsum(begins, dtype=np.int32)
    else:
        code = np.where(basket > 0, basket, -1 - day.astype(np.int64))
        _, code = np.unique(code, return_inverse=True)
        _, first, group = np.unique(user * np.int64(code.max() + 1) + code, return_index=True, return_inverse=True)
        number = np.empty(len(first), dtype=np.int32)
        number[np.argsort(first)] = np.arange(len(first))
        number = number[group]
    lengths = np.diff(offsets)
    return np.asarray(number - np.repeat(number[offsets[:-1][lengths > 0]], lengths[lengths > 0]))


def count_duplicates(events: Events) -> int:
    """Return how many of the sorted ``events`` equal the one before them in every column."""
    same = np.ones(max(len(events) - 1, 0), dtype=bool)
    for column in vars(events).values():
        if column is not None:
            bits = column.view(np.int32) if column.dtype == np.float32 else column
            same &= bits[1:] == bits[:-1]
    return int(same.sum())


def rank_in_row(row: np.ndarray) -> np.ndarray:
    """Return the place (n,) of each entry of ``row`` (n,) ascending among those of its value, from 0."""
    return np.arange(len(row)) - np.searchsorted(row, row)


def within_reach(row: np.ndarray, value: np.ndarray, n: int) -> np.ndarray:
    """Return (N,) bool that drops most of what is not among the ``n`` lowest of its ``row`` (N,), which ascends.

    Sorting all of a long row takes longer than finding what cannot be among its first.
    """
    begin, length = np.unique(row, return_index=True, return_counts=True)[1:]
    kept = np.ones(len(row), dtype=bool)
    for one, size in zip(begin[length > 2 * n].tolist(), length[length > 2 * n].tolist(), strict=True):
        of_row = value[one : one + size]
        kept[one : one + size] = of_row <= np.partition(of_row, n - 1)[n - 1]
    return kept


def event_positions(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and flat position, (n,) int64 each, of the events ``begin[row]:end[row]`` of every row, in order.

    >>> event_positions(np.array([0, 5]), np.array([2, 6]))
    (array([0, 0, 1]), array([0, 1, 5]))
    """
    counts = end - begin
    row = np.repeat(np.arange(len(begin), dtype=np.int64), counts)
    return row, np.arange(len(row)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
