"""Tables of the newest day that are counted for the items that a request asks about, and no others."""

from typing import cast

import numpy as np
from scipy import sparse

from recsys.signals.co_purchases import FEWEST_MEETINGS, lift_of
from recsys.signals.counts import Counts
from recsys.signals.repurchase import HazardTables, frailty_of, rates_of


class LiveLift:
    """Lifts of items, counted when they are asked for first: the whole table takes longer than an answer."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.shape = counts["met"].shape
        self._is_changed = np.diff(counts["beside"].indptr) > 0
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __getitem__(self, items: np.ndarray) -> sparse.csr_array:
        """Return the lift (n, V) by each of ``items`` (n,), see :func:`recsys.signals.co_purchases.lift_of`."""
        missing = np.array([item for item in np.unique(items).tolist() if item not in self._kept], dtype=np.int64)
        # Nearly all pairs met once, which does not count unless a live event adds to them.
        often = {name: self._counts[name] for name in ("n_baskets", "held")} | {"met": self._counts["met_often"]}
        is_changed = self._is_changed[missing]
        for counts, some in ((often, missing[~is_changed]), (self._counts, missing[is_changed])):
            if len(some):
                lift = lift_of(counts, some)
                columns, values = (np.split(part, lift.indptr[1:-1]) for part in (lift.indices, lift.data))
                self._kept |= dict(zip(some.tolist(), zip(columns, values, strict=True), strict=True))
        rows = [self._kept[item] for item in np.asarray(items).tolist()]
        indptr = np.cumsum([0, *(len(columns) for columns, _ in rows)])
        if not rows:
            return sparse.csr_array((0, self.shape[1]), dtype=np.float32)
        of_rows, lifts = (np.concatenate(part) for part in zip(*rows, strict=True))
        return sparse.csr_array((lifts, of_rows, indptr), shape=(len(rows), self.shape[1]))


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


def live_hazards(counts: Counts, group: np.ndarray) -> HazardTables:
    """Return the hazards of counts with sums by group, by the ``group`` (V,) of each item."""
    everyone, groups = rates_of(counts["by_group"])
    return HazardTables(everyone, groups, cast("np.ndarray", LiveFrailty(counts, group, groups)))


def with_nothing_beside(counts: Counts) -> Counts:
    """Return an empty table beside the one of pairs, and of this the pairs that count."""
    met = counts["met"].tocsr()
    often = met.copy()
    often.data[often.data < FEWEST_MEETINGS] = 0
    often.eliminate_zeros()
    return {"beside": sparse.csr_array(met.shape, dtype=met.dtype), "met_often": often}
