"""The log and what is counted of items, kept up to date event by event: the next request reads what was just written.

The log of a run stays as it lies on disk. Of users with live events, the whole history is held in memory; what the
tables of the newest day are counted from is corrected for these users alone. Asking at another day counts that day
from the whole log.
"""
# Long because: one state, and all that may change or read it.

import datetime as dt
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys import schema
from recsys.data.days import day_number
from recsys.data.item_names import Labels
from recsys.data.order import basket_numbers, offsets_of, tie_of
from recsys.data.purchases import Histories, Purchases
from recsys.modeling.recommenders.rules.popularity import WEEK_DAYS, Popularity, counts_of, segments_of
from recsys.serving.ids import IdIndex
from recsys.serving.live_tables import LiveLift, live_hazards, with_nothing_beside
from recsys.serving.tables import EventRow
from recsys.signals.counts import Counts
from recsys.signals.item_codes import ItemCodes
from recsys.signals.promotions import Promotions
from recsys.signals.repurchase import sums_by_group
from recsys.signals.snapshot import Snapshot, Snapshots

#: Days that "on sale" looks back where the run's configuration does not say.
ON_SALE_DAYS: Final = 28
#: Columns of an event: those of the log, and what places it within its day: -1 and its position if it came with the
#: log, else the millisecond of the day and a hash, as :mod:`recsys.data.order` has it.
_COLUMNS: Final = ("user", "item", "day", "price", "channel", "quantity", "basket", "millisecond", "place")
#: Live events that change as much of the table of pairs are added to it; before, they are kept beside it.
_SHARE_BESIDE: Final = 0.05
#: Parts of the day's counts, see :meth:`Live._count`.
_PARTS: Final = ("sales", "repurchases", "baskets", "cold", "lately")
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


class Live:
    """What is known by now. One thread owns it; :meth:`knows_item` and :meth:`add` may be called from others."""

    def __init__(
        self, log: Purchases, *, segment: str | None, on_sale_days: int | None, forgotten: np.ndarray | None = None
    ) -> None:
        """Take the log of a run without the users ``forgotten`` (U,) bool; ``segment`` is the cold start's column."""
        self.base = log
        self.items: pa.Table = log.items.to_arrow()
        self.item_row = {item_id: row + 1 for row, item_id in enumerate(log.item_ids.to_pylist())}
        self.codes = ItemCodes.from_items(log.items)
        self.on_sale_days = on_sale_days or ON_SALE_DAYS
        self.day = log.last_day + 1
        self.version = 0
        self._segment_column, self._segment_U = segment, segments_of(log, segment)
        self._user_ids = IdIndex(log.user_ids)
        if forgotten is not None and forgotten.any():
            self.base = without_users(log, forgotten)
            for user in np.flatnonzero(forgotten).tolist():
                self._user_ids.remove(self._user_ids.id_of(user))
        self.promotions = self._promotions()
        self._channels = list(log.manifest.get("channels", map(str, range(1, int(log.channel.max(initial=0)) + 1))))
        every = basket_numbers(log.user_of_event(), log.day, None, log.offsets)
        self._baskets_are_days = bool(np.array_equal(every, log.basket))
        self._changed: dict[int, Whole] = {}
        self._counts: dict[str, Counts] = {}
        self._pending: list[EventRow] = []
        self._new_items: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._now: Snapshot | None = None

    # What other threads may call.

    def knows_item(self, item_id: str) -> bool:
        """Return whether an event may name the item."""
        return item_id in self.item_row or item_id in self._new_items

    def attribute(self, name: str, value: object) -> Any:  # noqa: ANN401 - of the type that the column has
        """Return an attribute of an item as the table of items has it; None where its column cannot hold it."""
        try:
            return pa.array([value]).cast(self.items[name].type)[0].as_py()
        except (pa.ArrowException, OverflowError):
            return None

    def add(self, rows: Iterable[EventRow], items: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Take events that are in the database; they are counted before the next request is answered."""
        with self._lock:
            self._new_items |= {key: value for key, value in (items or {}).items() if key not in self.item_row}
            self._pending += rows

    # What the owner calls.

    def catch_up(self) -> bool:
        """Count what was added since; return whether there are new items, which a model must be given rows for."""
        with self._lock:
            rows, items = self._pending, dict(self._new_items)
            self._pending = []
        grown = bool(items) and self._grow(items)
        if rows:
            self._apply(self._columns_of(rows))
        if rows or grown:
            self.version += 1
            self._forget_made()
        return grown

    def _grow(self, items: Mapping[str, Mapping[str, Any]]) -> bool:
        """Put new items behind the known ones."""
        new = {
            field.name: pa.array(
                [self.attribute(field.name, about.get(field.name)) for about in items.values()], field.type
            )
            for field in self.items.schema
            if field.name != schema.ITEM_ID
        }
        ids = pa.array(items, self.items[schema.ITEM_ID].type)
        self.items = pa.concat_tables(
            [self.items, pa.table({schema.ITEM_ID: ids} | new).select(self.items.column_names)]
        )
        self.items = self.items.combine_chunks()
        self.codes = self.codes.extended(nw.from_native(self.items, eager_only=True)[len(self.item_row) :])
        with self._lock:
            for item_id in items:
                self.item_row[item_id] = len(self.item_row) + 1
                del self._new_items[item_id]
        self.promotions = self._promotions()
        self._counts.clear()  # their tables have a row an item
        for name in ("labels", "item_ids", "searchable"):
            vars(self).pop(name, None)
        return True

    def user_index(self, user_id: str | None, session_id: str | None) -> int | None:
        """Return the number of a user or session; None of one that was never met."""
        return None if user_id is session_id else self._user_ids.get(_key(user_id, session_id))

    def forget(self, user_id: str) -> None:
        """Know nothing of a user any more, as if nothing had been bought."""
        user = self._user_ids.remove(user_id)
        if user is None:
            return
        self._changed.pop(user, None)
        if user < self.base.n_users:
            self.base = without_users(self.base, np.arange(self.base.n_users) == user)
            vars(self).pop("_basket_codes", None)
        self._counts.clear()
        self.version += 1
        self._forget_made()

    def histories(self, users: Sequence[int], day: int) -> Histories:
        """Return what is known of ``users`` (Q) when ``day`` is asked, as a log of their own."""
        return self.joined([self.whole(user) for user in users], np.array(users), day)

    def joined(self, parts: Sequence[Whole], table_rows: np.ndarray, day: int) -> Histories:
        """Return the histories ``parts`` (Q) known before ``day`` as a log of their own."""
        lengths = [part.end - part.begin for part in parts]
        columns = {
            name: np.concatenate([_column(part, name) for part in parts]) if parts else np.zeros(0, dtype)
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
        begin = end = 0
        if user is not None and user < self.base.n_users:
            begin, end = (int(place) for place in self.base.offsets[user : user + 2])
        # Codes of baskets: 0 is a day of its own.
        basket = (
            np.zeros(end - begin, np.int64) if self._baskets_are_days else self.base.basket[begin:end] + np.int64(1)
        )
        own = {name: getattr(self.base, name)[begin:end] for name in schema.EVENT_ARRAYS} | {"basket": basket}
        return Whole(own, 0, end - begin)

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
            name: np.concatenate([_column(part, name) for part in (first, second)]) for name in schema.EVENT_ARRAYS
        }
        order = np.argsort(columns["day"], kind="stable")
        return Whole({name: column[order] for name, column in columns.items()}, 0, len(order))

    @property
    def users(self) -> IdIndex:
        """Ids of all users, sessions among them, by number."""
        return self._user_ids

    @cached_property
    def labels(self) -> Labels:
        """Readable names of items."""
        return Labels(nw.from_native(self.items, eager_only=True))

    @cached_property
    def searchable(self) -> pa.Array:
        """All that is said of each item (n,), in small letters."""
        columns = [self.items[name] for name in self.items.column_names if pa.types.is_string(self.items[name].type)]
        whole = pc.binary_join_element_wise(*columns, " ", null_handling="skip")
        return pc.utf8_lower(whole).combine_chunks()

    def item_name(self, item: int) -> str:
        """Return the readable name of an item_index."""
        return self.labels.product(item).label

    @cached_property
    def item_ids(self) -> list[str]:
        """External ids; position i is item_index i + 1."""
        return list(self.item_row)

    # Snapshots: this is a SnapshotSource.

    def promoted_sums_of(self, log: Purchases) -> np.ndarray | None:
        """Return how much the events of ``log`` were promoted; None where nothing is known of it."""
        return None if self.promotions is None else self.promotions.sums(log)

    def at(self, day: int) -> Snapshot:
        """Return what is known of items at the start of ``day``."""
        if day != self.day:
            return self._elsewhere.at(day)
        if self._now is None:
            items = nw.from_native(self.items, eager_only=True)
            self._now = Snapshot(day, items, self.codes, self.promotions, lambda _, part: self.counted(part))
            vars(self._now)["lift"] = LiveLift(self.counted("baskets"))
            vars(self._now)["hazards"] = live_hazards(self.counted("repurchases"), self.codes.groups)
        return self._now

    def on_sale(self, day: int) -> np.ndarray:
        """Return (V,) bool, which items were bought in the last ``on_sale_days`` before ``day``."""
        if day == self.day:
            return np.asarray(self.counted("lately")["bought"] > 0)
        return _bought_lately(self.log, day, self.on_sale_days)["bought"] > 0

    def cold_start(self, day: int) -> Popularity:
        """Return what sold in the week before ``day``, by segment: for those of whom nothing is known."""
        if day == self.day:
            counts = self.counted("cold")
            return Popularity.of_counts("cold_start", counts["lately"], counts["ever"], self._segment_U)
        known = self.log.histories(day)
        return Popularity.fit("cold_start", known, days=WEEK_DAYS, segment=self._segment_column, pieces=False)

    def counted(self, part: str) -> Counts:
        """Return what the tables of the newest day are counted from; one that changes keeps its arrays."""
        if part not in self._counts:
            counts = self._count(self.log, self._segment_U, part)
            if part == "baskets":
                counts |= with_nothing_beside(counts)
            if part == "repurchases":
                counts["by_group"] = sums_by_group(counts, self.codes.groups)
            self._counts[part] = counts
        return self._counts[part]

    @cached_property
    def log(self) -> Purchases:
        """All purchases as one log; made when something needs it: other days, rules, a continuation."""
        if not self._changed and len(self.item_row) == self.base.n_items:
            return self.base
        cuts, parts = 0, []
        known = sorted(user for user in self._changed if user < self.base.n_users)
        for user in known:
            parts += [self._base_part(cuts, user), self._changed[user]]
            cuts = user + 1
        parts.append(self._base_part(cuts, self.base.n_users))
        parts += [self.whole(user) for user in range(self.base.n_users, len(self._user_ids))]
        columns = {name: np.concatenate([_column(part, name) for part in parts]) for name in schema.EVENT_ARRAYS}
        lengths = np.diff(self.base.offsets)
        lengths = np.append(lengths, np.zeros(len(self._user_ids) - self.base.n_users, np.int64))
        for user, whole in self._changed.items():
            lengths[user] = whole.end - whole.begin
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        row = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        columns["basket"] = self._basket_numbers(row, columns["day"], columns["basket"], offsets)
        new = self._user_ids.new_ids()
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

    # How it is kept up to date.

    def _base_part(self, first_user: int, end_user: int) -> Whole:
        begin, end = (int(self.base.offsets[user]) for user in (first_user, end_user))
        columns = {name: getattr(self.base, name) for name in schema.EVENT_ARRAYS}
        columns["basket"] = np.zeros(len(self.base.item), np.int64) if self._baskets_are_days else self._basket_codes
        return Whole(columns, begin, end)

    @cached_property
    def _basket_codes(self) -> np.ndarray:
        return self.base.basket + np.int64(1)

    def _forget_made(self) -> None:
        """Forget what was made of an older state."""
        self._now = None
        for name in ("log", "_elsewhere"):
            vars(self).pop(name, None)

    @cached_property
    def _elsewhere(self) -> Snapshots:
        return Snapshots(self.log, self.codes, promotions=self.promotions is not None)

    def _promotions(self) -> Promotions | None:
        """Return what was planned; new items have no plans."""
        table = self.base.promotions
        return None if table is None else Promotions.from_table(table, len(self.item_row))

    def _columns_of(self, rows: Sequence[EventRow]) -> Columns:
        """Return events of the database as columns, unsorted; users and channels that are new get numbers."""
        users = [self._user_ids.add(_key(row.user_id, row.session_id)) for row in rows]
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
        self._segment_U = np.append(self._segment_U, np.zeros(len(self._user_ids) - len(self._segment_U), np.int64))
        return columns | {"place": tie_of(columns["user"], columns["item"], columns["day"]).astype(np.int64)}

    def _apply(self, new: Columns) -> None:
        """Put new events into the histories of their users, and correct what was counted of these."""
        users = np.unique(new["user"])
        old = self._gathered(users)
        columns = {name: np.concatenate([old[name], new[name]]) for name in _COLUMNS}
        keys = ("quantity", "price", "channel", "item", "place", "millisecond", "day", "user")
        order = np.lexsort([columns[name] for name in keys])
        columns = {name: column[order] for name, column in columns.items()}
        newest = int(new["day"].max()) + 1
        if newest > self.day:  # the windows of all counts move
            self.day = newest
            self._counts.clear()
        for part in self._counts:
            self._correct(part, users, old, columns)
        ends = np.searchsorted(columns["user"], users, side="right")
        begins = np.searchsorted(columns["user"], users, side="left")
        for user, begin, end in zip(users.tolist(), begins.tolist(), ends.tolist(), strict=True):
            self._changed[user] = Whole(columns, begin, end)

    def _gathered(self, users: np.ndarray) -> Columns:
        parts = [self.whole(user) for user in users.tolist()]
        columns = {name: np.concatenate([_column(part, name) for part in parts]) for name in schema.EVENT_ARRAYS}
        lengths = np.array([part.end - part.begin for part in parts])
        columns["user"] = np.repeat(users, lengths).astype(np.int32)
        in_order = np.arange(int(lengths.sum()), dtype=np.int64)
        of_log = np.repeat(np.array([user not in self._changed for user in users.tolist()], dtype=bool), lengths)
        for name, default in (("millisecond", np.full(len(in_order), -1)), ("place", in_order)):
            kept = np.concatenate([_column(part, name) for part in parts])
            columns[name] = np.where(of_log, default, kept)
        return columns

    def _correct(self, part: str, users: np.ndarray, old: Columns, columns: Columns) -> None:
        """Take ``users`` out of the counts of a part as they were, and put them in as they are."""
        counts, touched = self._counts[part], np.unique(columns["item"])
        segment = self._segment_U[users]
        before, after = (self._count(self._of_touched(one, users, touched), segment, part) for one in (old, columns))
        rows = np.append(0, touched)
        for name, value in after.items():
            if name == "met":
                change = (value - before[name]).tocoo()
                places = rows[change.row], rows[change.col]
                counts["beside"] = counts["beside"] + sparse.csr_array((change.data, places), shape=counts["met"].shape)
            elif name == "first_day":
                counts[name][rows] = np.minimum(counts[name][rows], value)
            elif np.ndim(value) and name != "n_baskets":
                at = (slice(None), rows) if part == "cold" else rows
                counts[name][at] += _as_many(value, counts[name]) - _as_many(before[name], counts[name])
            else:
                counts[name] = counts[name] + value - before[name]
        if part == "repurchases":
            for name, sums in counts["by_group"].items():
                np.add.at(sums, self.codes.groups[rows], after[name] - before[name])
        if part == "baskets" and counts["beside"].nnz > _SHARE_BESIDE * counts["met"].nnz:
            counts["met"] = counts["met"] + counts["beside"]
            counts |= with_nothing_beside(counts)

    def _of_touched(self, columns: Columns, users: np.ndarray, touched: np.ndarray) -> Purchases:
        """Return the log of ``users`` alone, its items numbered by their place in ``touched``."""
        own = {name: columns[name] for name in schema.EVENT_ARRAYS}
        own["item"] = (np.searchsorted(touched, columns["item"]) + 1).astype(np.int32)
        place = np.searchsorted(users, columns["user"])
        items = pa.table({schema.ITEM_ID: pa.nulls(len(touched), pa.string())})
        return self._small(own, offsets_of(place, len(users)), items)

    def _small(self, columns: Columns, offsets: np.ndarray, items: pa.Table | None = None) -> Purchases:
        own: dict[str, Any] = {name: columns[name] for name in schema.EVENT_ARRAYS}
        tables = {"items": self.items if items is None else items}
        return Purchases(**own, offsets=offsets, manifest={}, tables=tables, style=self.base.style)

    def _basket_numbers(self, row: np.ndarray, day: np.ndarray, code: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        return basket_numbers(row, day, None if self._baskets_are_days else code, offsets).astype(np.int32)

    def _count(self, log: Purchases, segment_U: np.ndarray, part: str) -> Counts:
        """Return a part of what is counted of ``log`` before the newest day."""
        if part == "cold":
            everybody = log.histories(self.day)
            n_segments = int(self._segment_U.max(initial=0)) + 1
            return counts_of(everybody, segment_U, WEEK_DAYS, pieces=False, n_segments=n_segments)
        if part == "lately":
            return _bought_lately(log, self.day, self.on_sale_days)
        counts = Snapshots(log, self._stub_codes(log), promotions=False).counted(self.day, part)
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in counts.items()}

    def _stub_codes(self, log: Purchases) -> ItemCodes:
        """Return codes with a row an item of ``log``: counting reads no more of them."""
        return (
            self.codes
            if log.n_items == len(self.item_row)
            else replace(self.codes, groups=np.zeros(log.n_items + 1, np.int64))
        )


def without_users(log: Purchases, gone: np.ndarray) -> Purchases:
    """Return a log without the events of users ``gone`` (U,) bool; all keep their numbers."""
    kept = np.flatnonzero(~gone[log.user_of_event()])
    return log.of_events(log.user_of_event()[kept], kept, log.n_users)


def _bought_lately(log: Purchases, day: int, days: int) -> Counts:
    lately = (log.day >= day - days) & (log.day < day)
    return {"bought": np.bincount(log.item[lately], minlength=log.n_items + 1)}


def _as_many(value: np.ndarray, like: np.ndarray) -> np.ndarray:
    return value.astype(like.dtype)


def _key(user_id: str | None, session_id: str | None) -> str:
    """Return the id under which a customer or a session stands among the users."""
    return str(user_id) if session_id is None else SESSION + session_id


def _column(whole: Whole, name: str) -> np.ndarray:
    """Return a column of a history (n,); zeros where it is one that the log does not have."""
    if name not in whole.columns:
        return np.zeros(whole.end - whole.begin, np.int64)
    return whole.columns[name][whole.begin : whole.end]


def _millisecond(time: dt.datetime) -> int:
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1000 + time.microsecond // 1000
