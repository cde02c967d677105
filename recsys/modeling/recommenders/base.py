"""What every system is, asked about histories at a day for lists, and which items these may hold."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from recsys.config import PredictConfig
from recsys.data.days import day_date
from recsys.data.ids import read_ids
from recsys.data.purchases import Histories, Purchases
from recsys.errors import DataError
from recsys.schema import ITEM_ID


class Candidates(NamedTuple):
    """Which items may be recommended."""

    allowed: np.ndarray  # (V,) bool over item_index, V = n_items + 1; position 0 (padding) is False
    exclude_seen: bool = False  # whether a user's own past items are left out of that user's list


class Recommendations(NamedTuple):
    """Ranked items for each of Q users, best first: K distinct allowed items, then 0 where no more are left."""

    item: np.ndarray  # (Q, K) int32 item_index
    score: np.ndarray  # (Q, K) float32, falling along a row


class Recommender(Protocol):
    """A fitted system that can be asked for lists."""

    @property
    def name(self) -> str:
        """Name under which reports show the system."""

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best allowed items of each history, at its day; a DataError where there are fewer."""


def all_items(n_items: int) -> np.ndarray:
    """Return the mask (V,) bool that allows the whole catalogue and not padding."""
    return np.arange(n_items + 1) > 0


def candidates_at(
    log: Purchases, day: int, settings: PredictConfig, only: np.ndarray | None = None, blocked: np.ndarray | None = None
) -> Candidates:
    """Return which items may be recommended at ``day``.

    Those sold at least once in ``settings.sold_within_days`` before it, all by default; among them ``only`` the given
    item_index, and none that are ``blocked``. DataError: nothing is left.
    """
    allowed = all_items(log.n_items)
    if settings.sold_within_days is not None:
        lately = (log.day >= day - settings.sold_within_days) & (log.day < day)
        allowed &= np.bincount(log.item[lately], minlength=len(allowed)) > 0
    if only is not None:
        allowed &= np.isin(np.arange(len(allowed)), only)
    if blocked is not None:
        allowed[blocked] = False
    if not allowed.any():
        raise DataError(
            f"no item may be recommended at {day_date(day)} (data end {day_date(log.last_day)}); "
            "allow older sales (predict.sold_within_days), or rule out fewer items (--blocklist, exclude=)"
        )
    return Candidates(allowed, settings.exclude_seen)


def read_item_list(path: Path, log: Purchases) -> np.ndarray:
    """Return the item_index (n,) of the item ids in a file: text with one a line, or Parquet with ``item_id``."""
    return known_items(read_ids(path, ITEM_ID), log, str(path))


def known_items(ids: pa.Array, log: Purchases, origin: str) -> np.ndarray:
    """Return the item_index (n,) of ``ids``; a DataError where one is not known, which ``origin`` says were written."""
    index = log.item_index_of(ids)
    unknown = np.flatnonzero(index == 0)
    if len(unknown):
        raise DataError(
            f"{origin}: {len(unknown)} of {len(ids)} items are unknown, such as {ids[int(unknown[0])].as_py()!r}; "
            f"expected ids as in the source, such as {log.item_ids[0].as_py()!r}"
        )
    return index


def require_enough(candidates: Candidates, k: int) -> None:
    """Refuse lists longer than the items that may be recommended with a DataError."""
    n_allowed = int(np.count_nonzero(candidates.allowed))
    if n_allowed < k:
        raise DataError(
            f"only {n_allowed:,} items may be recommended, but lists of {k:,} were asked for; lower predict.k (--k, "
            f"k=, or for the lists that are scored --set predict.k={n_allowed} when training), or allow more items "
            "(predict.sold_within_days; --candidates, candidates=; --blocklist, exclude=)"
        )
