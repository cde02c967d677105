"""What is counted before one day, kept up to date for the users with live events: sums, out of which each is taken."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import narwhals as nw
import numpy as np
from scipy import sparse

from recsys.data.order import event_positions
from recsys.data.purchases import Purchases
from recsys.modeling.recommenders.rules.popularity import WEEK_DAYS, Popularity, counts_of
from recsys.signals.co_purchases import FEWEST_MEETINGS, basket_counts, lift_of
from recsys.signals.counts import NEVER, Counts
from recsys.signals.item_codes import ItemCodes
from recsys.signals.promotions import Promotions
from recsys.signals.repurchase import HazardTables, Repurchases, frailty_of, rates_of, sums_by_group
from recsys.signals.sales import Sales
from recsys.signals.snapshot import Snapshot

#: Live events that change as much of the table of pairs are added to it; before, they are kept beside it.
_SHARE_BESIDE: Final = 0.05


@dataclass(frozen=True)
class Counting:
    """How a log is counted."""

    on_sale_days: int
    n_segments: int

    def parts(self, log: Purchases, segment_U: np.ndarray, day: int) -> dict[str, Counts]:
        """Return all that is counted of ``log`` before ``day``, by part."""
        lately = (log.day >= day - self.on_sale_days) & (log.day < day)
        users, one_group = log.user_of_event(), np.zeros(log.n_items + 1, dtype=np.int64)
        known, n_segments = log.histories(day), self.n_segments
        return {
            "sales": dict(Sales(log).counts(day)),
            "repurchases": Repurchases(users, log.item, log.day, one_group).counts(day),
            "baskets": basket_counts(log, day),
            "cold": counts_of(known, segment_U, WEEK_DAYS, pieces=False, n_segments=n_segments),
            "lately": {"bought": np.bincount(log.item[lately], minlength=log.n_items + 1)},
        }


class DayCounts:
    """Counts before a day, and the tables that are made of them."""

    def __init__(self, day: int, parts: dict[str, Counts], codes: ItemCodes) -> None:
        """Take the counts of a whole log, which are changed in place."""
        self.day, self._parts, self.codes = day, parts, codes
        self._parts["baskets"] |= _nothing_beside(self._parts["baskets"])
        self._parts["repurchases"]["by_group"] = sums_by_group(self._parts["repurchases"], codes.groups)
        self._forget_tables()

    def _forget_tables(self) -> None:
        self._snapshot: Snapshot | None = None
        self._cold_starts: dict[int, Popularity] = {}

    def grow(self, codes: ItemCodes) -> None:
        """Give items that are new rows of their own."""
        n_old, n_new = len(self.codes.groups), len(codes.groups)
        self.codes = codes
        self._forget_tables()
        for counts in self._parts.values():
            for name, value in counts.items():
                if sparse.issparse(value):
                    value.resize((n_new, n_new))
                elif isinstance(value, np.ndarray) and n_old in value.shape:
                    axis = value.shape.index(n_old)
                    wider = [(0, n_new - n_old if place == axis else 0) for place in range(value.ndim)]
                    counts[name] = np.pad(value, wider, constant_values=NEVER if name == "first_day" else 0)
        self._parts["repurchases"]["by_group"] = sums_by_group(self._parts["repurchases"], codes.groups)

    def correct(
        self,
        before: dict[str, Counts],
        after: dict[str, Counts],
        touched: np.ndarray,
        first_days: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Take some users out of the counts as they were ``before``, and put them in as they are ``after``.

        Their items are numbered by their place in ``touched`` (n,), from 1. ``first_days`` gives the first day of items
        (n,) where purchases went away: a least value is no sum.
        """
        rows = np.append(0, touched)
        self._forget_tables()
        for part, counts in self._parts.items():
            for name, value in after[part].items():
                if name == "met":
                    change = (value - before[part][name]).tocoo()
                    places, shape = (rows[change.row], rows[change.col]), counts["met"].shape
                    counts["beside"] = counts["beside"] + sparse.csr_array((change.data, places), shape=shape)
                elif name == "first_day":
                    counts[name][rows] = np.minimum(counts[name][rows], value)
                elif name == "n_baskets":
                    counts[name] = counts[name] + value - before[part][name]
                else:
                    at = (slice(None), rows) if part == "cold" else rows
                    counts[name][at] += (value - before[part][name]).astype(counts[name].dtype)
        if first_days is not None:
            self._parts["sales"]["first_day"][touched] = first_days(touched)
        for name, sums in self._parts["repurchases"]["by_group"].items():
            np.add.at(sums, self.codes.groups[rows], after["repurchases"][name] - before["repurchases"][name])
        baskets = self._parts["baskets"]
        if baskets["beside"].nnz > _SHARE_BESIDE * baskets["met"].nnz:
            baskets["met"] = baskets["met"] + baskets["beside"]
            baskets |= _nothing_beside(baskets)

    def snapshot(self, items: nw.DataFrame[Any], promotions: Promotions | None) -> Snapshot:
        """Return what is known of ``items`` at the start of the day."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self.day, items, self.codes, promotions, lambda _, part: self._parts[part])
            counts, group = self._parts["repurchases"], self.codes.groups
            everyone, groups = rates_of(counts["by_group"])
            frailty = cast("np.ndarray", LiveFrailty(counts, group, groups))
            vars(self._snapshot)["hazards"] = HazardTables(everyone, groups, frailty)
            vars(self._snapshot)["lift"] = LiveLift(self._parts["baskets"])
        return self._snapshot

    def on_sale(self) -> np.ndarray:
        """Return (V,) bool, which items were bought lately."""
        return np.asarray(self._parts["lately"]["bought"] > 0)

    def cold_start(self, segment: int, segment_U: np.ndarray) -> Popularity:
        """Return what sold in the week before the day, to everybody and to one ``segment`` of those of users (U,)."""
        if segment not in self._cold_starts:
            lately_SV, ever_SV = (self._parts["cold"][name][[0, segment]] for name in ("lately", "ever"))
            segments = (segment_U == segment).astype(np.int64)
            self._cold_starts[segment] = Popularity.of_counts("cold_start", lately_SV, ever_SV, segments)
        return self._cold_starts[segment]


class LiveLift:
    """Lifts of items, counted when they are asked for first: the whole table takes longer than an answer."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.shape = counts["met"].shape
        self._is_changed = np.diff(counts["beside"].indptr) > 0
        # Of each item that was asked for, a piece of what lies one after the other.
        self._begin, self._length = np.full(self.shape[0], -1), np.zeros(self.shape[0], np.int64)
        self._columns: np.ndarray = np.zeros(0, np.int32)
        self._lifts: np.ndarray = np.zeros(0, np.float32)
        self._n = 0

    def __getitem__(self, items: np.ndarray) -> sparse.csr_array:
        """Return the lift (n, V) by each of ``items`` (n,), see :func:`recsys.signals.co_purchases.lift_of`."""
        missing = np.unique(items[self._begin[items] < 0])
        # Nearly all pairs met once, which does not count unless a live event adds to them.
        often = {name: self._counts[name] for name in ("n_baskets", "held")} | {"met": self._counts["met_often"]}
        is_changed = self._is_changed[missing]
        for counts, some in ((often, missing[~is_changed]), (self._counts, missing[is_changed])):
            if len(some):
                self._keep(some, lift_of(counts, some))
        begin, length = self._begin[items], self._length[items]
        _, place = event_positions(begin, begin + length)
        indptr = np.append(0, np.cumsum(length))
        return sparse.csr_array((self._lifts[place], self._columns[place], indptr), shape=(len(items), self.shape[1]))

    def _keep(self, items: np.ndarray, lift: sparse.csr_array) -> None:
        self._begin[items], self._length[items] = self._n + lift.indptr[:-1], np.diff(lift.indptr)
        begin, self._n = self._n, self._n + lift.nnz
        if self._n > len(self._lifts):
            self._columns, self._lifts = (np.resize(part, 2 * self._n) for part in (self._columns, self._lifts))
        self._columns[begin : self._n], self._lifts[begin : self._n] = lift.indices, lift.data


class LiveFrailty:
    """Factors of the items asked for, see :class:`recsys.signals.repurchase.HazardTables`."""

    def __init__(self, counts: Counts, group: np.ndarray, groups: np.ndarray) -> None:
        self._of = counts, group, groups
        self._kept = np.full(len(group), np.nan, dtype=np.float32)

    def __getitem__(self, items: np.ndarray) -> np.ndarray:
        """Return the factor (n,) float32 of each of ``items`` (n,)."""
        missing = np.unique(items[np.isnan(self._kept[items])])
        if len(missing):
            self._kept[missing] = frailty_of(*self._of, missing)
        return self._kept[items]


def _nothing_beside(counts: Counts) -> Counts:
    """Return an empty table beside the one of pairs, and of this the pairs that count."""
    met = counts["met"].tocsr()
    often = met.copy()
    often.data[often.data < FEWEST_MEETINGS] = 0
    often.eliminate_zeros()
    return {"met": met, "beside": sparse.csr_array(met.shape, dtype=met.dtype), "met_often": often}
