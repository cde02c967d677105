"""From cleaned events to histories: one deterministic order, baskets, offsets, whatever engine read them.

Within a user events are sorted by day, time of day, basket, ``tie``, item, channel, price and quantity. ``tie`` is an
integer hash of (user, item, day): where a source knows only the day, an order must be made up, and one by item id
would be something that a next-item model could learn.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from recsys.schema import EVENT_ARRAYS

_TIE_BITS = 31
_PART = 1 << 19  # events, about, that are sorted at a time


@dataclass(frozen=True)
class Events:
    """Events as columns of one value each, E of them; None stands for a column that the source does not have."""

    user: np.ndarray  # (E,) int32 user_index
    item: np.ndarray  # (E,) int32 item_index, from 1
    day: np.ndarray  # (E,) int32 days since 1970-01-01
    millisecond: np.ndarray | None  # (E,) int32 of the day
    price: np.ndarray | None  # (E,) float32, NaN where missing
    channel: np.ndarray | None  # (E,) int8, 1-based rank, 0 where missing
    quantity: np.ndarray | None  # (E,) float32
    basket: np.ndarray | None  # (E,) int64, 1-based rank of the basket id, 0 where missing

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Self:
        """Return the events at positions ``rows`` (n,), or where the mask ``rows`` (E,) is true."""
        return replace(self, **{name: column[rows] for name, column in vars(self).items() if column is not None})


@dataclass(frozen=True)
class Histories:
    """Events in history order, as they are written: arrays of one value each, and where each user's begin."""

    arrays: dict[str, np.ndarray]  # (E,) by name in schema.EVENT_ARRAYS; without what the source does not have
    offsets: np.ndarray  # (U+1,) int64
    n_duplicates: int  # events equal to the one before them in every column


def in_history_order(events: Events, n_users: int, n_threads: int) -> Histories:
    """Return ``events``, in any order, as the histories of users 0 … ``n_users``-1.

    Work is done for some users at a time: their events fit into the processor's cache, and threads share the parts.
    """
    offsets = offsets_of(events.user, n_users)
    part_of_user = (offsets[:-1] // _PART).astype(np.uint16 if len(events) < _PART << 16 else np.int64)
    rows = np.argsort(part_of_user.take(events.user), kind="stable")
    n_parts = int(part_of_user[-1]) + 1 if n_users else 0
    first_users = np.searchsorted(part_of_user, np.arange(n_parts + 1))
    columns = [name for name in ("item", "day", "price", "channel", "quantity") if getattr(events, name) is not None]
    arrays = {name: np.empty_like(getattr(events, name)) for name in columns}
    arrays["basket"] = np.empty(len(events), dtype=np.int32)

    def arrange(part: int) -> int:
        users = slice(first_users[part], first_users[part + 1] + 1)
        place = slice(offsets[users][0], offsets[users][-1])
        if place.start == place.stop:
            return 0
        some = events.take(rows[place])
        some = some.take(history_order(some))
        for name in columns:
            arrays[name][place] = getattr(some, name)
        own_offsets = offsets[users] - offsets[users][0]
        arrays["basket"][place] = basket_numbers(some.user, some.day, some.basket, own_offsets)
        return count_duplicates(some)

    with ThreadPoolExecutor(n_threads) as pool:
        n_duplicates = sum(pool.map(arrange, range(n_parts)))
    return Histories(arrays, offsets, n_duplicates)


def history_order(events: Events) -> np.ndarray:
    """Return the positions (E,) int64 of ``events`` by user and, within each, in the order of the module's text."""
    parts = _sort_parts(events)
    # Sorting one integer that holds the leading bits of the parts and the position takes a third of numpy.argsort's
    # time; the few rows that those bits cannot tell apart are then sorted by the rest.
    position_bits = len(events).bit_length()
    key, n_covered = _leading_bits(parts, 63 - position_bits)
    key <<= position_bits
    key += np.arange(len(events))
    key.sort()
    order: np.ndarray = key & ((1 << position_bits) - 1)
    key >>= position_bits
    tied = _tied_rows(key, order, parts[n_covered:])
    if len(tied):
        columns = [part[order[tied]] for part in parts[n_covered:]]
        order[tied] = order[tied][np.lexsort([*columns[::-1], key[tied]])]
    return order


def _tied_rows(key: np.ndarray, order: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Return the positions (n,) in ``order`` of rows with equal ``key`` (E,) that are not equal in all ``parts``."""
    first = np.flatnonzero(key[1:] == key[:-1])
    rows, next_rows = order[first], order[first + 1]
    differs = np.zeros(len(first), dtype=bool)
    for part in parts:
        differs |= part[rows] != part[next_rows]
    tied = np.unique(key[first[differs]])
    return event_positions(np.searchsorted(key, tied), np.searchsorted(key, tied, side="right"))[1]


def _sort_parts(events: Events) -> list[np.ndarray]:
    parts = [events.user, events.day, events.millisecond, events.basket, _tie(events), events.item, events.channel]
    numbers = [None if column is None else _sortable(column) for column in (events.price, events.quantity)]
    return [part for part in (*parts, *numbers) if part is not None]


def _tie(events: Events) -> np.ndarray:
    """Return a hash (E,) int32 of (user, item, day): the multiply-and-shift finaliser of SplitMix64 (Steele 2014)."""
    mixed = events.user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += events.item.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed += events.day.astype(np.uint64) * np.uint64(0x165667B19E3779F9)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed >>= np.uint64(64 - _TIE_BITS)
    return mixed.astype(np.int32)


def _sortable(numbers: np.ndarray) -> np.ndarray:
    """Return integers (E,) int32 in the order of ``numbers`` (E,) float32, NaN last."""
    bits = (numbers + np.float32(0)).view(np.int32)  # adding 0 makes one zero of the two
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    ordered[np.isnan(numbers)] = np.iinfo(np.int32).max
    return ordered


def _leading_bits(parts: list[np.ndarray], free: int) -> tuple[np.ndarray, int]:
    """Return the first ``free`` bits of ``parts`` as keys (E,) int64, and how many of the parts they hold whole."""
    key = np.zeros(len(parts[0]), dtype=np.int64)
    for n_covered, part in enumerate(parts):
        lowest, highest = (int(part.min()), int(part.max())) if len(part) else (0, 0)
        bits = (highest - lowest).bit_length()
        taken = min(bits, free)
        key <<= taken
        shifted = part.astype(np.int64)
        shifted -= lowest
        shifted >>= bits - taken
        key += shifted
        free -= taken
        if taken < bits:
            return key, n_covered
    return key, len(parts)


def made_up(name: str, n_events: int) -> np.ndarray:
    """Return what stands for the array ``name`` (E,) where the source does not have it."""
    return np.full(n_events, {"price": np.nan, "channel": 0, "quantity": 1}[name], dtype=EVENT_ARRAYS[name])


def offsets_of(user: np.ndarray, n_users: int) -> np.ndarray:
    """Return offsets (U+1,) int64: events of user u are ``offsets[u]:offsets[u+1]`` once sorted by ``user`` (E,).

    >>> offsets_of(np.array([0, 0, 2], dtype=np.int32), 3).tolist()
    [0, 2, 2, 3]
    """
    return np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))]).astype(np.int64)


def user_of_event(offsets: np.ndarray) -> np.ndarray:
    """Return the user_index (E,) int32 of each event."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def basket_numbers(user: np.ndarray, day: np.ndarray, basket: np.ndarray | None, offsets: np.ndarray) -> np.ndarray:
    """Return the basket's number (E,) int32 within the user's history, from 0, in order of first appearance.

    A basket is one value of ``basket`` (E,); where that is 0, or without it, one day. Events are in history order.
    """
    if basket is None:
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
    within: np.ndarray = number - np.repeat(number[offsets[:-1][lengths > 0]], lengths[lengths > 0])
    return within


def count_duplicates(events: Events) -> int:
    """Return how many of the sorted ``events`` equal the one before them in every column."""
    same = np.ones(max(len(events) - 1, 0), dtype=bool)
    for column in vars(events).values():
        if column is not None:
            bits = column.view(np.int32) if column.dtype == np.float32 else column
            same &= bits[1:] == bits[:-1]
    return int(same.sum())


def event_positions(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and flat position, (n,) int64 each, of the events ``begin[row]:end[row]`` of every row, in order.

    >>> event_positions(np.array([0, 5]), np.array([2, 6]))
    (array([0, 0, 1]), array([0, 1, 5]))
    """
    counts = end - begin
    row = np.repeat(np.arange(len(begin), dtype=np.int64), counts)
    return row, np.arange(len(row)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
