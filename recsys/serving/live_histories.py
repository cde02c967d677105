"""Histories as they are known by now: the log as it lies on disk, and beside it the users with live events."""

import datetime as dt
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.days import day_number
from recsys.data.order import basket_numbers, tie_of
from recsys.data.purchases import Histories, Purchases
from recsys.serving.ids import IdIndex
from recsys.serving.live_items import LiveItems
from recsys.serving.tables import EventRow

#: Columns of an event: those of the log, and what places it within its day: -1 and its position if it came with the
#: log, else the millisecond of the day and a hash, as :mod:`recsys.data.order` has it.
COLUMNS: Final = ("user", "item", "day", "price", "channel", "quantity", "basket", "millisecond", "place")
#: The beginning of the id under which a session stands among the users; no id that is sent can hold it.
SESSION: Final = "\x00session/"
#: Numbers of channels that an event can hold; further channels are not told apart.
_MAX_CHANNELS: Final = 127

Columns = dict[str, np.ndarray]


class Whole(NamedTuple):
    """The whole history of a user with live events, as a slice of ``columns``."""

    columns: Columns
    begin: int
    end: int


class LiveHistories(LiveItems):
    """Who bought which items: whole histories of single users, and all of them as one log."""

    def __init__(self, log: Purchases) -> None:
        super().__init__(log)
        self.users = IdIndex(log.user_ids)  # and of sessions
        self._channels = list(log.manifest.get("channels", map(str, range(1, int(log.channel.max(initial=0)) + 1))))
        every = basket_numbers(log.user_of_event(), log.day, None, log.offsets)
        self._baskets_are_days = bool(np.array_equal(every, log.basket))
        self._changed: dict[int, Whole] = {}

    def user_index(self, user_id: str | None, session_id: str | None) -> int | None:
        """Return the number of a user or session; None of one that was never met."""
        return None if user_id is session_id else self.users.get(_key(user_id, session_id))

    def histories(self, users: Sequence[int], day: int) -> Histories:
        """Return what is known of ``users`` (Q) when ``day`` is asked, as a log of their own."""
        return self.joined([self.whole(user) for user in users], np.array(users), day)

    def joined(self, parts: Sequence[Whole], table_rows: np.ndarray, day: int) -> Histories:
        """Return the histories ``parts`` (Q) known before ``day`` as a log of their own."""
        lengths = [part.end - part.begin for part in parts]
        columns = {
            name: np.concatenate([column_of(part, name) for part in parts]) if parts else np.zeros(0, dtype)
            for name, dtype in schema.EVENT_ARRAYS.items()
        }
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        row = np.repeat(np.arange(len(parts), dtype=np.int32), lengths)
        columns["basket"] = self._basket_numbers(row, columns["day"], columns["basket"], offsets)
        log = self._small(columns, offsets)
        return Histories(log, np.arange(len(parts), dtype=np.int32), log.ends_before(day), day, table_rows)

    def whole(self, user: int | None) -> Whole:
        """Return everything a user bought; nothing of None."""
        if user is not None and user in self._changed:
            return self._changed[user]
        return self._of_base(user)

    def given(self, events: Sequence[tuple[int, int, float]]) -> Whole:
        """Return a history that a request holds: item_index, day and quantity of each event, in order."""
        item, day, quantity = (np.array(part) for part in zip(*events, strict=True)) if events else (np.zeros(0),) * 3
        order = np.argsort(day, kind="stable")
        n = len(order)
        columns: Columns = {
            "item": item[order].astype(np.int32),
            "day": day[order].astype(np.int32),
            "quantity": quantity[order].astype(np.float32),
            "price": np.full(n, np.nan, np.float32),
            "channel": np.zeros(n, np.int8),
            "basket": np.zeros(n, np.int64),
        }
        return Whole(columns, 0, n)

    def together(self, first: Whole, second: Whole) -> Whole:
        """Return two histories of one person as one, by day; within a day those of ``first`` come first."""
        columns = {
            name: np.concatenate([column_of(part, name) for part in (first, second)]) for name in schema.EVENT_ARRAYS
        }
        order = np.argsort(columns["day"], kind="stable")
        return Whole({name: column[order] for name, column in columns.items()}, 0, len(order))

    @cached_property
    def log(self) -> Purchases:
        """All purchases as one log; made when something needs it: a rule, or what is bought around an item."""
        if not self._changed and len(self.item_row) == self.base.n_items:
            return self.base
        cuts, parts = 0, []
        known = sorted(user for user in self._changed if user < self.base.n_users)
        for user in known:
            parts += [self._base_part(cuts, user), self._changed[user]]
            cuts = user + 1
        parts.append(self._base_part(cuts, self.base.n_users))
        parts += [self.whole(user) for user in range(self.base.n_users, len(self.users))]
        columns = {name: np.concatenate([column_of(part, name) for part in parts]) for name in schema.EVENT_ARRAYS}
        lengths = np.diff(self.base.offsets)
        lengths = np.append(lengths, np.zeros(len(self.users) - self.base.n_users, np.int64))
        for user, whole in self._changed.items():
            lengths[user] = whole.end - whole.begin
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        row = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        columns["basket"] = self._basket_numbers(row, columns["day"], columns["basket"], offsets)
        new = self.users.later_ids()
        users = self.base.users.to_arrow()
        if new:
            users = pa.concat_tables(
                [users, pa.table({schema.USER_ID: pa.array(new, pa.string())})], promote_options="default"
            )
        tables = {"items": self.items, "users": users.combine_chunks()}
        if self.base.promotions is not None:
            tables["promotions"] = self.base.promotions.to_arrow()
        manifest = self.base.manifest | {"channels": self._channels}
        arrays: dict[str, Any] = columns
        return Purchases(**arrays, offsets=offsets, manifest=manifest, tables=tables, style=self.base.style)

    def _base_part(self, first_user: int, end_user: int) -> Whole:
        """Return what the log holds of some users that follow one another."""
        return Whole(self._base_columns, *self.base.offsets[[first_user, end_user]].tolist())

    def _of_base(self, user: int | None) -> Whole:
        """Return what the log holds of a user."""
        if user is None or user >= self.base.n_users:
            return self._base_part(0, 0)
        return self._base_part(user, user + 1)

    @cached_property
    def _base_columns(self) -> Columns:
        """Columns of the log, as plain arrays: to cut a mapped one takes ten times as long."""
        columns = {name: np.asarray(getattr(self.base, name)) for name in schema.EVENT_ARRAYS}
        # Codes of baskets: 0 is a day of its own, one zero for all rows where each basket is one.
        is_day = self._baskets_are_days
        columns["basket"] = np.broadcast_to(np.int32(0), self.base.item.shape) if is_day else columns["basket"] + 1
        return columns

    def _columns_of(self, rows: Sequence[EventRow]) -> Columns:
        """Return events of the database as columns, unsorted; users and channels that are new get numbers."""
        users = [self.users.add(_key(row.user_id, row.session_id)) for row in rows]
        for row in rows:
            known = len(self._channels)
            if row.channel is not None and row.channel not in self._channels and known < _MAX_CHANNELS:
                self._channels.append(row.channel)
        number = {channel: place for place, channel in enumerate(self._channels, start=1)}
        channels = [0 if row.channel is None else number.get(row.channel, 0) for row in rows]
        days = [day_number(row.time.date()) for row in rows]
        columns: Columns = {
            "user": np.array(users, np.int32),
            "item": np.array([self.item_row[row.item_id] for row in rows], np.int32),
            "day": np.array(days, np.int32),
            "price": np.array([np.nan if row.price is None else row.price for row in rows], np.float32),
            "channel": np.array(channels, np.int8),
            "quantity": np.array([row.quantity for row in rows], np.float32),
            "basket": np.zeros(len(rows), np.int64),
            "millisecond": np.array([_millisecond(row.time) for row in rows], np.int64),
        }
        return columns | {"place": tie_of(columns["user"], columns["item"], columns["day"]).astype(np.int64)}

    def _gathered(self, users: np.ndarray, histories: Sequence[Whole] | None = None) -> Columns:
        """Return the ``histories`` of ``users``, all that they bought by default, as columns."""
        parts = [self.whole(user) for user in users.tolist()] if histories is None else histories
        columns = {name: np.concatenate([column_of(part, name) for part in parts]) for name in schema.EVENT_ARRAYS}
        lengths = np.array([part.end - part.begin for part in parts])
        columns["user"] = np.repeat(users, lengths).astype(np.int32)
        in_order = np.arange(int(lengths.sum()), dtype=np.int64)
        of_log = np.repeat(np.array(["place" not in part.columns for part in parts], dtype=bool), lengths)
        for name, default in (("millisecond", np.full(len(in_order), -1)), ("place", in_order)):
            kept = np.concatenate([column_of(part, name) for part in parts])
            columns[name] = np.where(of_log, default, kept)
        return columns

    def _small(self, columns: Columns, offsets: np.ndarray, items: pa.Table | None = None) -> Purchases:
        own: dict[str, Any] = {name: columns[name] for name in schema.EVENT_ARRAYS}
        tables = {"items": self.items if items is None else items}
        small = Purchases(**own, offsets=offsets, manifest={}, tables=tables, style=self.base.style)
        if items is None:
            vars(small)["item_ids"] = self._id_texts  # which takes longer to make than the log
        return small

    def _basket_numbers(self, row: np.ndarray, day: np.ndarray, code: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        return basket_numbers(row, day, None if self._baskets_are_days else code, offsets).astype(np.int32)


def _key(user_id: str | None, session_id: str | None) -> str:
    """Return the id under which a customer or a session stands among the users."""
    return str(user_id) if session_id is None else SESSION + session_id


def column_of(whole: Whole, name: str) -> np.ndarray:
    """Return a column of a history (n,); zeros where it is one that the log does not have."""
    if name not in whole.columns:
        return np.zeros(whole.end - whole.begin, np.int64)
    return whole.columns[name][whole.begin : whole.end]


def _millisecond(time: dt.datetime) -> int:
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1000 + time.microsecond // 1000
