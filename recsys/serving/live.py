"""What is counted of items, kept up to date event by event: the next request reads what was just written.

What the tables of a day are counted from is corrected for users with live events alone. Days are counted from the log
without them, which any thread can do ahead of time.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.order import offsets_of
from recsys.data.purchases import Purchases
from recsys.modeling.recommenders.rules.popularity import Popularity, segments_of
from recsys.serving.day_counts import Counting, DayCounts
from recsys.serving.live_histories import COLUMNS, Columns, LiveHistories, Whole, column_of
from recsys.serving.tables import EventRow
from recsys.signals.counts import NEVER
from recsys.signals.snapshot import Snapshot

#: Days that "on sale" looks back where the run's configuration does not say.
ON_SALE_DAYS: Final = 28
#: Days whose counts are kept: the newest, the next, and those asked last.
_MAX_DAYS: Final = 5


class Live(LiveHistories):
    """What is known by now. One thread owns it; :meth:`knows_item` and :meth:`add` may be called from others."""

    def __init__(
        self, log: Purchases, *, segment: str | None, on_sale_days: int | None, forgotten: np.ndarray | None = None
    ) -> None:
        """Take the log of a run without the users ``forgotten`` (U,) bool; ``segment`` is the cold start's column."""
        super().__init__(log)
        self._base_codes = self.codes
        self.day = log.last_day + 1
        self.version = 0
        self._segment_U = self._base_segment_U = segments_of(log, segment)
        self._counting = Counting(on_sale_days or ON_SALE_DAYS, int(self._segment_U.max(initial=0)) + 1)
        self._gone: set[int] = set()  # numbers of users who were forgotten
        self._days: dict[int, DayCounts] = {}
        self._pending: list[EventRow] = []
        if forgotten is not None:
            for user in np.flatnonzero(forgotten).tolist():
                self.forget(self.users.id_of(user))

    # What other threads may call.

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
        if items:
            self._grow(items)
            for counts in self._days.values():
                counts.grow(self.codes)
        if rows:
            self._apply(self._columns_of(rows))
        if rows or items:
            self.version += 1
            vars(self).pop("log", None)
        return bool(items)

    def forget(self, user_id: str) -> None:
        """Know nothing of a user any more, as if nothing had been bought."""
        user = self.users.remove(user_id)
        if user is None:
            return
        users = np.array([user])
        old = self._gathered(users)
        self._gone.add(user)
        self._changed[user] = Whole({name: column[:0] for name, column in old.items()}, 0, 0)
        self._correct(self._days.values(), users, old, self._changed[user].columns)
        self.version += 1
        vars(self).pop("log", None)

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

    # How it is kept up to date.

    def _apply(self, new: Columns) -> None:
        """Put new events into the histories of their users, and correct what was counted of these."""
        self._segment_U = np.append(self._segment_U, np.zeros(len(self.users) - len(self._segment_U), np.int64))
        users = np.unique(new["user"])
        old = self._gathered(users)
        columns = {name: np.concatenate([old[name], new[name]]) for name in COLUMNS}
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
            np.minimum.at(found, column_of(whole, "item"), column_of(whole, "day"))
        return found[items]

    def _of_touched(self, columns: Columns, users: np.ndarray, touched: np.ndarray) -> Purchases:
        """Return the log of ``users`` alone, its items numbered by their place in ``touched``."""
        own = {name: columns[name] for name in schema.EVENT_ARRAYS}
        own["item"] = (np.searchsorted(touched, columns["item"]) + 1).astype(np.int32)
        place = np.searchsorted(users, columns["user"])
        items = pa.table({schema.ITEM_ID: pa.nulls(len(touched), pa.string())})
        return self._small(own, offsets_of(place, len(users)), items)
