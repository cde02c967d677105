"""The log and what is counted of items, kept up to date event by event: the next request reads what was just written.

The log of a run stays as it lies on disk. Of users with live events, the whole history is held in memory; what the
tables of a day are counted from is corrected for these users alone. Days are counted from the log without them, which
any thread can do ahead of time.
"""
# Long because: one state, and all that may change or read it.

import datetime as dt
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.data.days import day_number
from recsys.data.ids import texts_of
from recsys.data.item_names import Labels
from recsys.data.order import basket_numbers, offsets_of, tie_of
from recsys.data.purchases import Histories, Purchases
from recsys.modeling.recommenders.rules.popularity import Popularity, segments_of
from recsys.serving.day_counts import Counting, DayCounts
from recsys.serving.ids import IdIndex
from recsys.serving.tables import EventRow
from recsys.signals.counts import NEVER
from recsys.signals.item_codes import ItemCodes
from recsys.signals.promotions import Promotions
from recsys.signals.snapshot import Snapshot

#: Days that "on sale" looks back where the run's configuration does not say.
ON_SALE_DAYS: Final = 28
#: Columns of an event: those of the log, and what places it within its day: -1 and its position if it came with the
#: log, else the millisecond of the day and a hash, as :mod:`recsys.data.order` has it.
_COLUMNS: Final = ("user", "item", "day", "price", "channel", "quantity", "basket", "millisecond", "place")
#: Days whose counts are kept: the newest, the next, and those asked last.
_MAX_DAYS: Final = 5
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
        self.codes = self._base_codes = ItemCodes.from_items(log.items)
        self.day = log.last_day + 1
        self.version = 0
        self._segment_U = self._base_segment_U = segments_of(log, segment)
        self._counting = Counting(on_sale_days or ON_SALE_DAYS, int(self._segment_U.max(initial=0)) + 1)
        self._user_ids = IdIndex(log.user_ids)
        self.promotions = self._promotions()
        self._channels = list(log.manifest.get("channels", map(str, range(1, int(log.channel.max(initial=0)) + 1))))
        every = basket_numbers(log.user_of_event(), log.day, None, log.offsets)
        self._baskets_are_days = bool(np.array_equal(every, log.basket))
        self._changed: dict[int, Whole] = {}
        self._gone: set[int] = set()  # numbers of users who were forgotten
        self._days: dict[int, DayCounts] = {}
        self._pending: list[EventRow] = []
        self._new_items: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        if forgotten is not None:
            for user in np.flatnonzero(forgotten).tolist():
                self.forget(self._user_ids.id_of(user))

    # What other threads may call.

    def knows_item(self, item_id: str) -> bool:
        """Return whether an event may name the item."""
        return item_id in self._new_items or item_id in self.item_row  # in the order in which it moves

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

    def is_counted(self, day: int) -> bool:
        """Return whether the counts of a day are there; others can be made by :meth:`count`."""
        return day in self._days

    def count(self, day: int) -> DayCounts:
        """Return the counts of a day by the log alone, which :meth:`adopt` takes."""
        return DayCounts(day, self._counting.parts(self.base, self._base_segment_U, day), self._base_codes)

    # What the owner calls.

    def adopt(self, counts: DayCounts) -> None:
        """Keep the counts of a day, once they are corrected for live events."""
        if counts.day in self._days:
            return
        if len(counts.codes.groups) < len(self.codes.groups):
            counts.grow(self.codes)
        users = np.array(sorted(self._changed), dtype=np.int64)
        if len(users):
            old = self._gathered(users, [self._of_base(user) for user in users.tolist()])
            self._correct([counts], users, old, self._gathered(users))
        spare = [day for day in self._days if day not in (self.day, self.day + 1, counts.day)]
        for day in spare[: len(self._days) + 1 - _MAX_DAYS]:
            del self._days[day]
        self._days[counts.day] = counts

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
            vars(self).pop("log", None)
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
        for counts in self._days.values():
            counts.grow(self.codes)
        for name in ("labels", "item_ids", "searchable", "_frame", "_id_texts"):
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
        users = np.array([user])
        old = self._gathered(users)
        self._gone.add(user)
        self._changed[user] = Whole({name: column[:0] for name, column in old.items()}, 0, 0)
        self._correct(self._days.values(), users, old, self._changed[user].columns)
        self.version += 1
        vars(self).pop("log", None)

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
        return self._of_base(user)

    def _of_base(self, user: int | None) -> Whole:
        """Return what the log holds of a user."""
        begin = end = 0
        if user is not None and user < self.base.n_users:
            begin, end = (int(place) for place in self.base.offsets[user : user + 2])
        basket = np.zeros(end - begin, np.int64)  # codes of baskets: 0 is a day of its own
        if not self._baskets_are_days:
            basket += self.base.basket[begin:end] + np.int64(1)
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
        return Labels(self._frame)

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

    @cached_property
    def _id_texts(self) -> pa.Array:
        return texts_of(self.items, schema.ITEM_ID)

    @cached_property
    def _frame(self) -> nw.DataFrame[Any]:
        return nw.from_native(self.items, eager_only=True)

    # Snapshots: this is a SnapshotSource.

    def promoted_sums_of(self, log: Purchases) -> np.ndarray | None:
        """Return how much the events of ``log`` were promoted; None where nothing is known of it."""
        return None if self.promotions is None else self.promotions.sums(log)

    def at(self, day: int) -> Snapshot:
        """Return what is known of items at the start of ``day``."""
        return self._counts_of(day).snapshot(self._frame, self.promotions)

    def on_sale(self, day: int) -> np.ndarray:
        """Return (V,) bool, which items were bought in the last ``on_sale_days`` before ``day``."""
        return self._counts_of(day).on_sale()

    def cold_start(self, day: int, user: int) -> Popularity:
        """Return what sold in the week before ``day``, to everybody and to the segment of ``user``, -1 for nobody."""
        segment = int(self._segment_U[user]) if user >= 0 else 0
        return self._counts_of(day).cold_start(segment, self._segment_U)

    def _counts_of(self, day: int) -> DayCounts:
        if day not in self._days:
            self.adopt(self.count(day))
        counts = self._days[day] = self._days.pop(day)  # at the end: what was asked longest ago is dropped first
        return counts

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
        parts += [self.whole(user) for user in range(self.base.n_users, len(self._user_ids))]
        columns = {name: np.concatenate([_column(part, name) for part in parts]) for name in schema.EVENT_ARRAYS}
        lengths = np.diff(self.base.offsets)
        lengths = np.append(lengths, np.zeros(len(self._user_ids) - self.base.n_users, np.int64))
        for user, whole in self._changed.items():
            lengths[user] = whole.end - whole.begin
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        row = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        columns["basket"] = self._basket_numbers(row, columns["day"], columns["basket"], offsets)
        new = self._user_ids.later_ids()
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
        is_day = self._baskets_are_days  # one zero for all rows: this is asked for once between any two changed users
        columns["basket"] = np.broadcast_to(np.int64(0), self.base.item.shape) if is_day else self._basket_codes
        return Whole(columns, begin, end)

    @cached_property
    def _basket_codes(self) -> np.ndarray:
        return self.base.basket + np.int64(1)

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
        # What is bought on a day or later is not counted before it.
        first = int(new["day"].min())
        self._correct([counts for day, counts in self._days.items() if day > first], users, old, columns)
        self.day = max(self.day, int(new["day"].max()) + 1)
        ends = np.searchsorted(columns["user"], users, side="right")
        begins = np.searchsorted(columns["user"], users, side="left")
        for user, begin, end in zip(users.tolist(), begins.tolist(), ends.tolist(), strict=True):
            self._changed[user] = Whole(columns, begin, end)

    def _gathered(self, users: np.ndarray, histories: Sequence[Whole] | None = None) -> Columns:
        """Return the ``histories`` of ``users``, all that they bought by default, as columns."""
        parts = [self.whole(user) for user in users.tolist()] if histories is None else histories
        columns = {name: np.concatenate([_column(part, name) for part in parts]) for name in schema.EVENT_ARRAYS}
        lengths = np.array([part.end - part.begin for part in parts])
        columns["user"] = np.repeat(users, lengths).astype(np.int32)
        in_order = np.arange(int(lengths.sum()), dtype=np.int64)
        of_log = np.repeat(np.array(["place" not in part.columns for part in parts], dtype=bool), lengths)
        for name, default in (("millisecond", np.full(len(in_order), -1)), ("place", in_order)):
            kept = np.concatenate([_column(part, name) for part in parts])
            columns[name] = np.where(of_log, default, kept)
        return columns

    def _correct(self, days: Iterable[DayCounts], users: np.ndarray, old: Columns, new: Columns) -> None:
        """Take ``users`` out of the counts of ``days`` as they were, and put them in as they are."""
        touched = np.unique(np.concatenate([old["item"], new["item"]]))
        before, after = (self._of_touched(columns, users, touched) for columns in (old, new))
        first_days = self._first_days if self._gone.intersection(users.tolist()) else None
        for counts in days:
            was, now = (self._counting.parts(log, self._segment_U[users], counts.day) for log in (before, after))
            counts.correct(was, now, touched, first_days)

    def _first_days(self, items: np.ndarray) -> np.ndarray:
        """Return the first day (n,) on which each of ``items`` (n,) was bought."""
        found = np.full(len(self.item_row) + 1, NEVER, dtype=np.int64)
        stays = np.ones(self.base.n_users, dtype=bool)
        stays[[user for user in self._changed if user < self.base.n_users]] = False
        kept = np.flatnonzero(stays[self.base.user_of_event()])
        np.minimum.at(found, self.base.item[kept], self.base.day[kept])
        for whole in self._changed.values():
            np.minimum.at(found, _column(whole, "item"), _column(whole, "day"))
        return found[items]

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
        small = Purchases(**own, offsets=offsets, manifest={}, tables=tables, style=self.base.style)
        if items is None:
            vars(small)["item_ids"] = self._id_texts  # which takes longer to make than the log
        return small

    def _basket_numbers(self, row: np.ndarray, day: np.ndarray, code: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        return basket_numbers(row, day, None if self._baskets_are_days else code, offsets).astype(np.int32)


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
