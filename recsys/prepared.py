"""Prepared data as everything after ``dataset main`` reads it: memory-mapped arrays, ids, attributes."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.attributes import attribute_codes, item_groups, kind_columns
from recsys.companions import Baskets
from recsys.customer_codes import customer_codes
from recsys.errors import DataError
from recsys.kind_sales import KindSales
from recsys.promotions import Promotions
from recsys.renewals import Renewals
from recsys.storage import read_json

EPOCH = date(1970, 1, 1)


def day_number(value: date) -> int:
    """Return the days from 1970-01-01 to ``value``.

    >>> day_number(date(1970, 1, 8))
    7
    """
    return (value - EPOCH).days


def day_date(day: int) -> date:
    """Return the date that lies ``day`` days after 1970-01-01.

    >>> day_date(7).isoformat()
    '1970-01-08'
    """
    return EPOCH + timedelta(days=int(day))


@dataclass(frozen=True)
class PreparedData:
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
        """Codes (V, A) int64 of the items' categorical columns, see :func:`recsys.attributes.attribute_codes`."""
        return attribute_codes(self.items)

    @cached_property
    def groups(self) -> np.ndarray:
        """Group (V,) int64 of each item, see :func:`recsys.attributes.item_groups`."""
        return item_groups(self.attributes)

    @cached_property
    def kinds(self) -> np.ndarray:
        """Kinds (V, C) int64 of each item, see :func:`recsys.attributes.kind_columns`."""
        return kind_columns(self.attributes)

    @cached_property
    def kind_sales(self) -> KindSales:
        """How much rarer than everything each kind sells, at any date."""
        return KindSales(np.asarray(self.item), np.asarray(self.day), self.kinds)

    @cached_property
    def renewals(self) -> Renewals:
        """How soon what was bought is bought again, at any date."""
        return Renewals(self.user_of_event(), self.item, self.day, self.groups)

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
        return customer_codes(self.users)

    @property
    def customer_codes(self) -> np.ndarray:
        """Codes (U, C) int32 of each customer, see :func:`recsys.customer_codes.customer_codes`."""
        return self._told_of_customers[0]

    @property
    def customer_is_told(self) -> np.ndarray:
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


def load_prepared(folder: Path, command: str = "recsys dataset main") -> PreparedData:
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
    return PreparedData(folder=folder, offsets=offsets, manifest=manifest, **arrays)


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
