"""What the seller planned to advertise and to display, known before the days it is for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import narwhals as nw
import numpy as np

from recsys import schema
from recsys.data.order import event_positions
from recsys.data.purchases import Purchases

#: Days ahead, and back, that features tell of.
DAYS = 7


@dataclass(frozen=True)
class Promotions:
    """n promotions of items in K media, sorted by their first day; V = n_items + 1 rows, row 0 is padding."""

    item: np.ndarray  # (n,) int32 item_index
    first_day: np.ndarray  # (n,) int32 days since 1970-01-01
    end_day: np.ndarray  # (n,) int32 the day after the last
    medium: np.ndarray  # (n,) int64 place in ``media``
    share: np.ndarray  # (n,) float32 of the places that sell, above 0, at most 1
    media: tuple[str, ...]
    n_rows: int  # V
    table: nw.DataFrame[Any]  # of which all this was taken

    @classmethod
    def from_table(cls, table: nw.DataFrame[Any], n_items: int) -> Self:
        """Take ``promotions.parquet`` of the prepared data, see :mod:`recsys.schema`."""
        media, medium = np.unique(table[schema.MEDIUM].to_numpy().astype(str), return_inverse=True)
        columns = [table[name].to_numpy() for name in schema.PROMOTION_COLUMNS if name != schema.MEDIUM]
        order = np.argsort(columns[1], kind="stable")
        item, first_day, end_day, share = (column[order] for column in columns)
        return cls(item, first_day, end_day, medium[order], share, tuple(media.tolist()), n_items + 1, table)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features of :meth:`at`, F = 2 K of them."""
        return tuple(f"{medium}_{when}" for when in ("coming", "past") for medium in self.media)

    @property
    def past_features(self) -> tuple[str, ...]:
        """Names of the features of a user's past item by promotions, as many as ``features``."""
        return tuple(f"{whose}bought_in_{medium}" for whose in ("", "user_") for medium in self.media)

    def sums(self, log: Purchases) -> np.ndarray:
        """Return in what shares of places the log's events were promoted, summed up to each (E + 1, K) float64."""
        if log.n_events < len(self.item):
            return self._sums_by_item(log)
        sums = np.zeros((log.n_events + 1, len(self.media)))
        order = np.argsort(log.day, kind="stable")
        days, starts = np.unique(log.day[order], return_index=True)
        for day, rows in zip(days.tolist(), np.split(order, starts)[1:], strict=True):
            sums[rows + 1] = self._shares_on(day)[log.item[rows]]
        return np.cumsum(sums, axis=0, out=sums)

    def _sums_by_item(self, log: Purchases) -> np.ndarray:
        """Return the same of a short log: looking at the promotions of its items takes less than at all of its days."""
        order, keys = self._by_item
        # Those of an item that began no longer ago than the longest takes.
        end = _key(log.item, log.day) + 1
        row, place = event_positions(*(np.searchsorted(keys, one) for one in (end - self._longest_days - 1, end)))
        place = order[place]
        runs = (self.first_day[place] <= log.day[row]) & (log.day[row] < self.end_day[place])
        key = (row[runs] + 1) * len(self.media) + self.medium[place[runs]]
        summed = np.bincount(key, self.share[place[runs]], (log.n_events + 1) * len(self.media))
        shares = np.minimum(summed, 1).astype(np.float32).reshape(-1, len(self.media))
        return np.cumsum(shares, axis=0, dtype=np.float64)

    @cached_property
    def _by_item(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (n,) of the promotions by item and first day, and a number (n,) for both that ascends."""
        keys = _key(self.item, self.first_day)
        order = np.argsort(keys, kind="stable")
        return order, keys[order]

    def at(self, day: int) -> np.ndarray:
        """Return the mean share of places (V, F) float32 by medium, of the week from ``day`` on and the one before.

        That of the day asked last is kept: it is not to be written to.
        """
        if day not in self._kept:
            self._kept.clear()
            self._kept[day] = self._at(day)
        return self._kept[day]

    @cached_property
    def _kept(self) -> dict[int, np.ndarray]:
        return {}

    def _at(self, day: int) -> np.ndarray:
        shares = [self._shares_on(one) for one in range(day - DAYS, day + DAYS)]
        return np.concatenate([np.mean(shares[DAYS:], axis=0), np.mean(shares[:DAYS], axis=0)], axis=1)

    def widest(self, day: int) -> np.ndarray:
        """Return in what share of places each item is promoted (V, K) float32 on its best day of the week to come."""
        return np.max([self._shares_on(one) for one in range(day, day + DAYS)], axis=0)

    @cached_property
    def _longest_days(self) -> int:
        return int((self.end_day - self.first_day).max(initial=0))

    def _shares_on(self, day: int) -> np.ndarray:
        """Return the share of places (V, K) float32 in which each item is promoted on ``day``."""
        # One that runs today began no longer ago than the longest takes.
        oldest = int(np.searchsorted(self.first_day, day - self._longest_days, side="right"))
        begun = slice(oldest, int(np.searchsorted(self.first_day, day, side="right")))
        runs = oldest + np.flatnonzero(self.end_day[begun] > day)
        place = self.item[runs].astype(np.int64) * len(self.media) + self.medium[runs]
        summed = np.bincount(place, weights=self.share[runs], minlength=self.n_rows * len(self.media))
        # Two promotions of one item at once may be of the same place.
        return np.minimum(summed, 1).astype(np.float32).reshape(self.n_rows, len(self.media))


def _key(item: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return one number (n,) int64 for item and day."""
    return (item.astype(np.int64) << 32) + day
