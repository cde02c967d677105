"""Prepared data as everything after ``dataset main`` reads it: memory-mapped arrays, ids, attributes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.errors import DataError
from recsys.signals.categories import CategorySales
from recsys.signals.co_purchases import Baskets
from recsys.signals.item_codes import attribute_codes, category_columns, item_groups
from recsys.signals.promotions import Promotions
from recsys.signals.repurchase import Repurchase
from recsys.signals.user_codes import user_codes
from recsys.storage import read_json


@dataclass(frozen=True)
class Purchases:
    """Purchases of all users as flat arrays, sorted by user and time (see :mod:`recsys.schema`).

    Shapes: E events, U users. ``item`` holds item_index 1 … ``n_items``; 0 is padding.
    """

    folder: Path
    item: np.ndarray  # (E,) int32
    day: np.ndarray  # (E,) int32
    price: np.ndarray  # (E,) float32
    channel: np.ndarray  # (E,) int8
    quantity: np.ndarray  # (E,) float32
    basket: np.ndarray  # (E,) int32
    offsets: np.ndarray  # (U+1,) int64
    manifest: dict[str, Any]

    @property
    def n_events(self) -> int:
        """Number of purchases E."""
        return len(self.item)

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.offsets) - 1

    @cached_property
    def n_items(self) -> int:
        """Number of items; item_index runs from 1 to this."""
        return int(pq.read_metadata(self.folder / "items.parquet").num_rows)

    @cached_property
    def first_day(self) -> int:
        """Day of the earliest purchase."""
        return int(self.day.min())

    @cached_property
    def last_day(self) -> int:
        """Day of the latest purchase."""
        return int(self.day.max())

    @property
    def fingerprint(self) -> str:
        """Hash over the hashes of all arrays: equal for equal data."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def items(self) -> nw.DataFrame[Any]:
        """Item table, row i for item_index i+1."""
        return nw.from_native(pq.read_table(self.folder / "items.parquet"), eager_only=True)

    @cached_property
    def attributes(self) -> np.ndarray:
        """Codes (V, A) int64 of the items' categorical columns, see :func:`recsys.signals.item_codes.attribute_codes`."""
        return attribute_codes(self.items)

    @cached_property
    def groups(self) -> np.ndarray:
        """Group (V,) int64 of each item, see :func:`recsys.signals.item_codes.item_groups`."""
        return item_groups(self.attributes)

    @cached_property
    def categories(self) -> np.ndarray:
        """Kinds (V, C) int64 of each item, see :func:`recsys.signals.item_codes.category_columns`."""
        return category_columns(self.attributes)

    @cached_property
    def category_sales(self) -> CategorySales:
        """How much rarer than everything each kind sells, at any date."""
        return CategorySales(np.asarray(self.item), np.asarray(self.day), self.categories)

    @cached_property
    def repurchase(self) -> Repurchase:
        """How soon what was bought is bought again, at any date."""
        return Repurchase(self.user_of_event(), self.item, self.day, self.groups)

    @cached_property
    def baskets(self) -> Baskets:
        """What goes with what was bought, at any date."""
        return Baskets(self.user_of_event(), np.asarray(self.item), np.asarray(self.day), self.n_items + 1)

    @cached_property
    def promotions(self) -> Promotions | None:
        """What is planned to be promoted; None where the source does not say."""
        path = self.folder / "promotions.parquet"
        if not path.is_file():
            return None
        return Promotions.of(nw.from_native(pq.read_table(path), eager_only=True), self.n_items)

    @cached_property
    def promoted_before(self) -> np.ndarray:
        """Sums (E + 1, K) float64 over the events before each of how much they were promoted then, by kind.

        Raises:
            DataError: the data tell of no promotions.
        """
        if self.promotions is None:
            raise DataError(f"{self.folder} tells of no promotions")
        shares = self.promotions.of_events(self.item, self.day)
        sums: np.ndarray = np.concatenate([np.zeros((1, shares.shape[1])), np.cumsum(shares, axis=0, dtype=np.float64)])
        return sums

    @cached_property
    def _told_of_customers(self) -> tuple[np.ndarray, np.ndarray]:
        return user_codes(self.users)

    @property
    def user_codes(self) -> np.ndarray:
        """Codes (U, C) int32 of each customer, see :func:`recsys.signals.user_codes.user_codes`."""
        return self._told_of_customers[0]

    @property
    def has_user_features(self) -> np.ndarray:
        """Of which customers the user table says anything, (U,) bool."""
        return self._told_of_customers[1]

    @cached_property
    def users(self) -> nw.DataFrame[Any]:
        """User table, row u for user_index u."""
        return nw.from_native(pq.read_table(self.folder / "users.parquet"), eager_only=True)

    @cached_property
    def item_ids(self) -> pa.Array:
        """External ids, position i for item_index i+1."""
        return _ids(self.folder / "items.parquet", schema.ITEM_ID)

    @cached_property
    def user_ids(self) -> pa.Array:
        """External ids, position u for user_index u."""
        return _ids(self.folder / "users.parquet", schema.USER_ID)

    def item_index_of(self, item_ids: pa.Array) -> np.ndarray:
        """Return the item_index (n,) int32 of external ids; 0 where the id is unknown."""
        found = pc.index_in(item_ids.cast(pa.string()), value_set=self.item_ids)
        return np.asarray(pc.fill_null(found, -1)).astype(np.int32) + 1

    def user_index_of(self, user_ids: pa.Array) -> np.ndarray:
        """Return the user_index (n,) int32 of external ids; -1 where the id is unknown."""
        found = pc.index_in(user_ids.cast(pa.string()), value_set=self.user_ids)
        return np.asarray(pc.fill_null(found, -1)).astype(np.int32)

    def ends_before(self, day: int) -> np.ndarray:
        """Return, for each user, the flat position (U,) int64 just after the last event earlier than ``day``."""
        earlier = np.zeros(self.n_events + 1, dtype=np.int64)
        np.cumsum(self.day < day, out=earlier[1:])
        result: np.ndarray = self.offsets[:-1] + earlier[self.offsets[1:]] - earlier[self.offsets[:-1]]
        return result

    def user_of_event(self) -> np.ndarray:
        """Return the user_index (E,) int32 of each event."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.offsets))


def is_prepared(folder: Path) -> bool:
    """Return whether prepared data were written whole into ``folder``."""
    return (folder / "manifest.json").is_file()


def open_purchases(folder: Path, command: str = "recsys dataset main") -> Purchases:
    """Open prepared data without reading it into memory; ``command`` is what an error says to run first.

    Raises:
        DataError: the folder is missing, incomplete, or its arrays do not have the promised lengths and dtypes.
    """
    if not is_prepared(folder):
        raise DataError(f"{folder} holds no prepared data (no manifest.json); run `{command}` first")
    manifest = read_json(folder / "manifest.json")
    arrays = {name: _open_array(folder / f"{name}.npy", dtype) for name, dtype in schema.EVENT_ARRAYS.items()}
    offsets = _open_array(folder / f"{schema.OFFSETS}.npy", "int64")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(offsets) < 2 or set(lengths.values()) != {int(offsets[-1])}:
        raise DataError(
            f"{folder}: arrays of lengths {lengths} do not fit the offsets; run `recsys dataset main --force`"
        )
    return Purchases(folder=folder, offsets=offsets, manifest=manifest, **arrays)


def _open_array(path: Path, dtype: str) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be opened ({error}); run `recsys dataset main --force`") from error
    if array.dtype != np.dtype(dtype) or array.ndim != 1:
        raise DataError(f"{path} is {array.dtype} with {array.ndim} dimensions, expected {dtype} with 1")
    return array


def _ids(path: Path, column: str) -> pa.Array:
    return pq.read_table(path, columns=[column])[column].cast(pa.string()).combine_chunks()


def event_positions(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and flat position, (n,) int64 each, of the events ``begin[row]:end[row]`` of every row, in order.

    >>> event_positions(np.array([0, 5]), np.array([2, 6]))
    (array([0, 0, 1]), array([0, 1, 5]))
    """
    counts = end - begin
    row = np.repeat(np.arange(len(begin), dtype=np.int64), counts)
    return row, np.arange(len(row)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)


@dataclass(frozen=True)
class Windows:
    """Windows over histories: events ``start:start + length`` are targets. W windows, sorted by user then time."""

    user_index: np.ndarray  # (W,) int64
    start: np.ndarray  # (W,) int64 flat position
    length: np.ndarray  # (W,) int64
    first_of_user: np.ndarray  # (U+1,) int64: windows of user u are first_of_user[u]:first_of_user[u+1]


def cut_windows(begin: np.ndarray, end: np.ndarray, max_events: int) -> Windows:
    """Return windows that cover events ``begin[u]:end[u]`` of every user; only a user's first may be short."""
    n_events = end - begin
    n_windows = -(-n_events // max_events)
    first = np.concatenate([[0], np.cumsum(n_windows)])
    user = np.repeat(np.arange(len(n_events)), n_windows)
    back = first[user + 1] - np.arange(len(user))  # 1 for the newest window of a user
    stop = end[user] - (back - 1) * max_events
    start = np.maximum(stop - max_events, begin[user])
    return Windows(user, start, stop - start, first)
