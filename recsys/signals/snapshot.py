"""What is counted about items before a day: sales, promotions, categories, co-purchases, repurchase hazards.

A :class:`Snapshot` is made once from a log and a day. It can be saved to a folder and opened there, memory-mapped,
without the log: with it any history can be asked about. :class:`Snapshots` makes those of many days from one log.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from recsys.data.days import day_date
from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.signals.categories import category_rarity
from recsys.signals.co_purchases import basket_counts, lift_of
from recsys.signals.counts import Counts, recounted
from recsys.signals.item_codes import ItemCodes
from recsys.signals.promotions import Promotions
from recsys.signals.repurchase import HazardTables, Repurchases, hazards_of
from recsys.signals.sales import ITEM_FEATURES, Sales, sales_features
from recsys.storage import read_json, replacing, write_json

#: Snapshots that are kept: an epoch asks at some fifty days again and again.
MAX_KEPT: Final = 64
_FILE: Final = "snapshot.json"
_HAZARDS: Final = ("everyone", "groups", "frailty")
_LIFT: Final = ("data", "indices", "indptr")
_SOLD_DAYS: Final = (7, 28)
#: Array of a snapshot that is saved → what of ItemCodes it holds.
_CODES: Final = {"attributes": "attributes", "categories": "categories", "item_groups": "groups"}


@dataclass(frozen=True)
class Snapshot:
    """What is known of V = n_items + 1 items (row 0 is padding) at the start of ``day``; counted when first read."""

    day: int
    items: nw.DataFrame[Any]  # item table, row i for item_index i+1
    codes: ItemCodes
    promotions: Promotions | None
    #: Returns what tables are counted from; None where they were stored.
    count: Callable[[int, str], Counts] | None = field(default=None, repr=False)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.codes.groups) - 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of ``item_features``: ``sales.ITEM_FEATURES`` and, where promotions are known, theirs."""
        return (*ITEM_FEATURES, *(self.promotions.features if self.promotions is not None else ()))

    @cached_property
    def _sales(self) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
        """What is made of one count of sales: item features, rarity of categories, and what was sold by days."""
        counts = self._counted("sales")
        features = sales_features(counts, self.day, self.codes.categories)
        if self.promotions is not None:
            features = np.concatenate([features, self.promotions.at(self.day)], axis=1)
            features[0] = 0
        rarity = category_rarity(counts["bought_7"], self.codes.categories)
        return features, rarity, {days: counts[f"sold_{days}"] for days in _SOLD_DAYS}

    @property
    def item_features(self) -> np.ndarray:
        """Sales of every item, and its promotions (V, F) float32."""
        return self._sales[0]

    @property
    def category_rarity(self) -> np.ndarray:
        """Purchases of everything to one of each category (codes,) float64, in the week before."""
        return self._sales[1]

    def sold(self, days: int) -> np.ndarray:
        """Return how often each item was sold (V,) int64 in the last 7 or 28 ``days``."""
        return self._sales[2][days]

    @cached_property
    def hazards(self) -> HazardTables:
        """How soon items are bought again."""
        return hazards_of(self._counted("repurchases"), self.codes.groups)

    @cached_property
    def lift(self) -> sparse.csr_array:
        """How much likelier a purchase makes others (V, V) float32, see :mod:`recsys.signals.co_purchases`."""
        return lift_of(self._counted("baskets"))

    def _counted(self, part: str) -> Counts:
        if self.count is None:
            raise DataError(f"the snapshot of {day_date(self.day)} was stored without counts; make it from the log")
        return self.count(self.day, part)

    def promoted_sums_of(self, log: Purchases) -> np.ndarray | None:
        """Return how much the events of ``log`` were promoted, see :meth:`Promotions.sums`; None where none were."""
        return None if self.promotions is None else self.promotions.sums(log)

    def at(self, day: int) -> "Snapshot":
        """Return the snapshot of ``day``, which is this one, or a DataError says of which day it is."""
        if day != self.day:
            raise DataError(
                f"the snapshot is of {day_date(self.day)}, asked was {day_date(day)}; make one of that day from the log"
            )
        return self

    def save(self, folder: Path) -> None:
        """Write the snapshot to ``folder``, whole or not at all; what stands there is replaced."""
        parts = {"item_features": self.item_features, "category_rarity": self.category_rarity}
        parts |= {f"sold_{days}": self.sold(days) for days in _SOLD_DAYS}
        parts |= {name: getattr(self.hazards, name) for name in _HAZARDS}
        parts |= {f"lift_{name}": getattr(self.lift, name) for name in _LIFT}
        about = vars(self.codes).copy()
        parts |= {name: about.pop(code) for name, code in _CODES.items()}
        with replacing(folder, _FILE) as aside:
            aside.mkdir()
            for name, array in parts.items():
                np.save(aside / f"{name}.npy", np.asarray(array), allow_pickle=False)
            pq.write_table(self.items.to_arrow(), aside / "items.parquet")
            if self.promotions is not None:
                pq.write_table(self.promotions.table.to_arrow(), aside / "promotions.parquet")
            write_json(aside / _FILE, {"day": self.day} | about)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a snapshot that was saved to ``folder``, memory-mapped; DataError where there is no whole one."""
        if not (folder / _FILE).is_file():
            raise DataError(f"{folder} holds no snapshot (no {_FILE}); write one with `recsys features`")
        try:
            about = read_json(folder / _FILE)
            day = int(about.pop("day"))
            stored = {path.stem: np.load(path, mmap_mode="c", allow_pickle=False) for path in folder.glob("*.npy")}
            items = nw.from_native(pq.read_table(folder / "items.parquet"), eager_only=True)
            about["category_columns"] = tuple(about["category_columns"])
            codes = ItemCodes(**{code: stored[name] for name, code in _CODES.items()}, **about)
            planned, promotions = folder / "promotions.parquet", None
            if planned.is_file():
                table = nw.from_native(pq.read_table(planned), eager_only=True)
                promotions = Promotions.from_table(table, len(items))
            snapshot = cls(day, items, codes, promotions)
            n_rows, lift = len(items) + 1, tuple(stored[f"lift_{name}"] for name in _LIFT)
            sold = {days: stored[f"sold_{days}"] for days in _SOLD_DAYS}
            # In the places in which tables are kept that were counted.
            vars(snapshot).update(
                _sales=(stored["item_features"], stored["category_rarity"], sold),
                hazards=HazardTables(*(stored[name] for name in _HAZARDS)),
                lift=sparse.csr_array(lift, shape=(n_rows, n_rows), copy=False),
            )
            if snapshot.item_features.shape[1] != len(snapshot.feature_names):
                raise ValueError(f"item_features.npy does not hold {', '.join(snapshot.feature_names)}")
            lengths = {len(snapshot.item_features), len(codes.groups), n_rows}
        except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
            anew = "write it anew with `recsys features`"
            raise DataError(f"{folder} is not a whole snapshot ({error}); {anew}") from error
        if len(lengths) > 1:
            raise DataError(f"{folder}: its tables are of {sorted(lengths)} rows; write it anew with `recsys features`")
        return snapshot


class Snapshots:
    """Snapshots of any day, made from one log; the ``MAX_KEPT`` used last are kept."""

    def __init__(self, log: Purchases, codes: ItemCodes | None = None, *, promotions: bool = True) -> None:
        """Take the purchases; ``codes`` are by default made of its item table, ``promotions`` read if it has any."""
        self.log = log
        self.codes = ItemCodes.from_items(log.items) if codes is None else codes
        table = log.promotions if promotions else None
        self.promotions = None if table is None else Promotions.from_table(table, log.n_items)
        self._kept: dict[int, Snapshot] = {}
        self._counts: dict[str, tuple[int, Counts]] = {}  # part → newest day asked, and what was counted then

    @property
    def n_promoted(self) -> int:
        """Number of item features that tell of promotions; 0 where nothing is known of them."""
        return 0 if self.promotions is None else len(self.promotions.features)

    def at(self, day: int) -> Snapshot:
        """Return what is known of items at the start of ``day``; its tables are not to be written to."""
        snapshot = self._kept.pop(day, None)
        if snapshot is None:
            snapshot = Snapshot(day, self.log.items, self.codes, self.promotions, self.counted)
        self._kept[day] = snapshot  # at the end: that of the day used longest ago comes first
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return snapshot

    @cached_property
    def promoted_sums(self) -> np.ndarray | None:
        """How much the log's events were promoted, see :meth:`Promotions.sums`; None where nothing is known of it."""
        return None if self.promotions is None else self.promotions.sums(self.log)

    def promoted_sums_of(self, log: Purchases) -> np.ndarray | None:
        """Return how much the events of ``log`` were promoted; those of this one's own log are kept."""
        if log is self.log:
            return self.promoted_sums
        return None if self.promotions is None else self.promotions.sums(log)

    def extended(self, log: Purchases) -> "Snapshots":
        """Return the snapshots of ``log``, this one's log extended by newer events; items get codes by one codebook.

        What was counted for the newest day asked is not counted anew for that day: users with new events are taken out
        of it and put in again. All other days are counted from the log, for their windows begin and end elsewhere.
        """
        codes = self.codes
        if log.n_items > self.log.n_items:
            codes = codes.extended(log.items[self.log.n_items :])
        longer = Snapshots(log, codes, promotions=self.promotions is not None)
        n_users = self.log.n_users
        has_new = np.diff(log.offsets)[:n_users] != np.diff(self.log.offsets)
        before = Snapshots(self.log.of_users(np.flatnonzero(has_new)), self.codes, promotions=False)
        users = np.append(np.flatnonzero(has_new), np.arange(n_users, log.n_users))
        after = Snapshots(log.of_users(users), codes, promotions=False)
        for part, (day, counts) in self._counts.items():
            longer._counts[part] = day, recounted(counts, before.counted(day, part), after.counted(day, part))
        return longer

    def counted(self, day: int, part: str) -> Counts:
        """Return what the tables of a day are counted from: of its sales, repurchases or baskets."""
        newest, counts = self._counts.get(part, (None, {}))
        if newest == day:
            return counts
        if part == "baskets":
            counts = basket_counts(self.log, day)
        else:
            counts = (self._sales if part == "sales" else self._repurchases).counts(day)
        if newest is None or day > newest:
            self._counts[part] = day, counts
        return counts

    @cached_property
    def _sales(self) -> Sales:
        return Sales(self.log)

    @cached_property
    def _repurchases(self) -> Repurchases:
        return Repurchases(self.log.user_of_event(), self.log.item, self.log.day, self.codes.groups)
