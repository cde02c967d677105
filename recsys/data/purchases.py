"""The log of purchases: flat arrays by user and time, original ids, item and user tables. It knows no feature."""
# Long because: the log, what is known of a user at a day, and how both are made and opened are one contract.

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import schema
from recsys.data.assemble import Prepared, assemble, write_folder, write_prepared
from recsys.data.cleaned import summed
from recsys.data.extend import events_of_log, extend
from recsys.data.from_frames import Frames, clean_frames
from recsys.data.ids import texts_of
from recsys.data.native import AnyFrame, FrameStyle
from recsys.data.order import event_positions as event_positions
from recsys.data.order import offsets_of, user_of_event
from recsys.data.text_codes import places_in
from recsys.errors import DataError, UsageError
from recsys.storage import read_json, require_absent

_DTYPES = {**schema.EVENT_ARRAYS, schema.OFFSETS: "int64"}


@dataclass(frozen=True, repr=False, eq=False)
class Purchases:
    """Purchases of all users as flat arrays, sorted by user and time (see :mod:`recsys.schema`).

    Shapes: E events, U users. ``item`` holds item_index 1 … ``n_items``; 0 is padding.
    """

    item: np.ndarray  # (E,) int32
    day: np.ndarray  # (E,) int32
    price: np.ndarray  # (E,) float32
    channel: np.ndarray  # (E,) int8
    quantity: np.ndarray  # (E,) float32
    basket: np.ndarray  # (E,) int32
    offsets: np.ndarray  # (U+1,) int64
    manifest: dict[str, Any]
    folder: Path | None = None  # where it was opened; None where it was made in memory
    tables: Mapping[str, pa.Table] | None = None  # items, users and perhaps promotions of a log made in memory
    style: FrameStyle = field(default_factory=FrameStyle)  # how the frame came of which it was made

    @classmethod
    def from_frame(
        cls,
        df: AnyFrame,
        *,
        user: str,
        item: str,
        time: str,
        price: str | None = None,
        quantity: str | None = None,
        basket: str | None = None,
        channel: str | None = None,
        items: AnyFrame = None,
        users: AnyFrame = None,
        promotions: AnyFrame = None,
        time_format: str | Sequence[str] | None = None,
        timezone: str | None = None,
        decimal: str | Mapping[str, str] | None = None,
        missing: Sequence[str] | None = None,
    ) -> Self:
        """Return the purchases in a data frame: what ``recsys dataset main`` prepares of the same rows in a file.

        Frames are those of pandas, Polars (also lazy), PyArrow or DuckDB. Rows that cannot be used are left out and
        counted in ``manifest["report"]``; how texts were read stands in ``manifest["notes"]``.

        >>> import pyarrow as pa
        >>> days = ["2024-05-01", "2024-05-02", "2024-05-02"]
        >>> df = pa.table({"who": [7, 7, 9], "what": ["b", "a", "b"], "day": days})
        >>> log = Purchases.from_frame(df, user="who", item="what", time="day")
        >>> log.user_ids.to_pylist(), log.item_ids.to_pylist(), log.item.tolist(), log.offsets.tolist()
        (['7', '9'], ['a', 'b'], [2, 1, 2], [0, 2, 3])

        Args:
            df: a row a purchase; the other arguments up to ``channel`` name its columns.
            user: text or whole numbers, which become text.
            item: likewise.
            time: dates, times, or text in any form that leaves no doubt.
            price: of one piece.
            quantity: number of pieces.
            basket: the receipt; without it a day's purchases are one basket.
            channel: where it was bought.
            items: a row an item: the id, under the same name or ``item_id``, and attributes. Purchases of items that it
                lacks are left out.
            users: a row a user, likewise.
            promotions: what is planned: the item's id, ``start`` and ``end`` (the last day), and perhaps ``medium``
                and ``share``.
            time_format: of text, as the column map has it; likewise ``timezone``, ``decimal`` and ``missing``.
            timezone: of the shop.
            decimal: sign of numbers that are text.
            missing: words that stand for no user or item.

        Raises:
            DataError: a frame or a column cannot be used, its form is not clear, or no row is left.
            ConfigError: an argument is not as the column map has it.
        """
        words = {schema.USER_ID: user, schema.ITEM_ID: item, schema.TIME: time, schema.PRICE: price}
        words |= {schema.QUANTITY: quantity, schema.CHANNEL: channel, schema.BASKET_ID: basket}
        stated = {"time_format": time_format, "timezone": timezone, "decimal": decimal, "missing": missing}
        columns = {word: value for word, value in (words | stated).items() if value is not None}
        cleaned, notes, style = clean_frames(Frames(df, items, users, promotions), columns)
        prepared = assemble(cleaned)  # the report learns of duplicates
        about = {"source": "frame", "notes": notes, "report": asdict(cleaned.report)}
        return cls._in_memory(prepared, about, style)

    @classmethod
    def without_users(cls, items: pa.Table, style: FrameStyle | None = None) -> Self:
        """Return a log of no purchase over the item table ``items``: what is known where only a snapshot is at hand."""
        arrays: dict[str, Any] = {name: np.zeros(0, dtype) for name, dtype in schema.EVENT_ARRAYS.items()}
        arrays[schema.OFFSETS] = np.zeros(1, dtype=np.int64)
        tables = {"items": items, "users": pa.table({schema.USER_ID: pa.array([], pa.string())})}
        return cls(**arrays, manifest={}, tables=tables, style=style or FrameStyle())

    @classmethod
    def _in_memory(cls, prepared: Prepared, manifest: dict[str, Any], style: FrameStyle) -> Self:
        arrays: dict[str, Any] = dict(prepared.arrays)
        return cls(**arrays, manifest=manifest | write_prepared(prepared), tables=prepared.tables, style=style)

    def extended(
        self, events: AnyFrame | Self, *, items: AnyFrame = None, users: AnyFrame = None, promotions: AnyFrame = None
    ) -> Self:
        """Return this log with newer events: it equals the log made of all rows at once, but for the numbers of ids.

        Known users, items and channels keep their numbers, new ones come behind them. Within a user's day new events
        come behind the known ones. Limits of a configuration, such as the most sold items, are not applied to them.

        Args:
            events: a frame with the columns that :meth:`from_frame` was given (for a log opened from a folder those of
                :mod:`recsys.schema`), or another log, whose tables count too. Optional columns may be missing.
            items: attributes of new items, null for those it does not name; known items keep theirs.
            users: attributes of new users, likewise.
            promotions: further plans, of known or new items.

        Raises:
            DataError: as :meth:`from_frame`.
        """
        if isinstance(events, Purchases):
            if any(frame is not None for frame in (items, users, promotions)):
                raise DataError("items, users and promotions come with a log; expected none of them beside it")
            newer, added = events_of_log(events._prepared), events.manifest.get("report", {})
        else:
            newer, *_ = clean_frames(Frames(events, items, users, promotions), self.style.columns, newer=True)
            added = asdict(newer.report)
        report = summed(self.manifest.get("report", {}), added)
        return self._in_memory(extend(self._prepared, newer), self.manifest | {"report": report}, self.style)

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write the prepared data to ``folder``, whole or not at all: :func:`open_purchases` gives them back.

        OutputExistsError where the folder exists and ``force`` is false.
        """
        if not isinstance(folder, str | os.PathLike):
            raise UsageError(f"folder is of type {type(folder).__name__}; expected a path")
        require_absent(Path(folder), force=force)
        write_folder(self._prepared, Path(folder), self.manifest, self.manifest.get("report", {}))

    @property
    def _prepared(self) -> Prepared:
        arrays = {name: np.ascontiguousarray(getattr(self, name), dtype) for name, dtype in _DTYPES.items()}
        tables = {"users": self.users.to_arrow(), "items": self.items.to_arrow()}
        if self.promotions is not None:
            tables["promotions"] = self.promotions.to_arrow()
        # Of prepared data that do not name their channels, these are called by their numbers.
        numbers = map(str, range(1, int(self.channel.max(initial=0)) + 1))
        return Prepared(arrays, tables, tuple(self.manifest.get("channels", numbers)))

    def __repr__(self) -> str:
        return f"Purchases({self.n_events:,} events, {self.n_users:,} users, {self.n_items:,} items; {self.origin})"

    @property
    def origin(self) -> str:
        """What messages call the log."""
        return "the purchases given" if self.folder is None else str(self.folder)

    @property
    def n_events(self) -> int:
        """Number of purchases E."""
        return len(self.item)

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        """Number of items; item_index runs from 1 to this."""
        return len(self.item_ids)

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
        return nw.from_native(self._table("items"), eager_only=True)

    @cached_property
    def users(self) -> nw.DataFrame[Any]:
        """User table, row u for user_index u."""
        return nw.from_native(self._table("users"), eager_only=True)

    @cached_property
    def promotions(self) -> nw.DataFrame[Any] | None:
        """Table of planned promotions (see :mod:`recsys.schema`); None where the source does not say."""
        found = self.folder is not None and (self.folder / "promotions.parquet").is_file()
        known = found if self.tables is None else "promotions" in self.tables
        return nw.from_native(self._table("promotions"), eager_only=True) if known else None

    @cached_property
    def item_ids(self) -> pa.Array:
        """External ids, position i for item_index i+1."""
        return texts_of(self._table("items", schema.ITEM_ID), schema.ITEM_ID)

    @cached_property
    def user_ids(self) -> pa.Array:
        """External ids, position u for user_index u."""
        return texts_of(self._table("users", schema.USER_ID), schema.USER_ID)

    def item_index_of(self, item_ids: pa.Array) -> np.ndarray:
        """Return the item_index (n,) int32 of external ids; 0 where the id is unknown."""
        return places_in(self.item_ids, item_ids) + np.int32(1)

    def user_index_of(self, user_ids: pa.Array) -> np.ndarray:
        """Return the user_index (n,) int32 of external ids; -1 where the id is unknown."""
        return places_in(self.user_ids, user_ids)

    def of_users(self, user_index: np.ndarray) -> Self:
        """Return the purchases of the users ``user_index`` (n,) alone, numbered from 0; tables stay those of all."""
        return self.of_events(*event_positions(self.offsets[user_index], self.offsets[user_index + 1]), len(user_index))

    def of_events(self, row: np.ndarray, position: np.ndarray, n_rows: int) -> Self:
        """Return the events at flat ``position`` (n,) as the histories ``row`` (n,) ascending of ``n_rows`` users."""
        arrays = {name: getattr(self, name)[position] for name in schema.EVENT_ARRAYS}
        return replace(self, offsets=offsets_of(row, n_rows), **arrays)

    def ends_before(self, day: int) -> np.ndarray:
        """Return, for each user, the flat position (U,) int64 just after the last event earlier than ``day``."""
        earlier = np.zeros(self.n_events + 1, dtype=np.int64)
        np.cumsum(self.day < day, out=earlier[1:])
        return np.asarray(self.offsets[:-1] + earlier[self.offsets[1:]] - earlier[self.offsets[:-1]])

    def user_of_event(self) -> np.ndarray:
        """Return the user_index (E,) int32 of each event."""
        return user_of_event(self.offsets)

    def histories(self, day: int) -> "Histories":
        """Return what is known of every user when ``day`` is asked."""
        return Histories(self, np.arange(self.n_users, dtype=np.int32), self.ends_before(day), day)

    def _table(self, name: str, *columns: str) -> pa.Table:
        if self.tables is not None:
            return self.tables[name]
        if self.folder is None:
            raise DataError(f"{self.origin} have no table of {name}")
        path = self.folder / f"{name}.parquet"
        try:
            return pq.read_table(path, columns=list(columns) or None)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read ({error}); run `recsys dataset main --force`") from error


@dataclass(frozen=True)
class Histories:
    """What is known of some users (Q) when a day is asked: events ``offsets[user]:end`` of each, none of it or later.

    A fold whose targets have no common date asks at the last day of the data and cuts each history by position.
    """

    log: Purchases
    user_index: np.ndarray  # (Q,) int32
    end: np.ndarray  # (Q,) int64 flat position after the last known event
    day: int
    #: Rows (Q,) int32 of the table of users in which these stand, -1 for none, where ``log`` holds none but them.
    table_rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user_index)

    @cached_property
    def begin(self) -> np.ndarray:
        """Flat position (Q,) int64 of each user's first event."""
        return np.asarray(self.log.offsets[self.user_index])

    @property
    def known_as(self) -> np.ndarray:
        """Row (Q,) int32 of each in the table of users; -1 of whom it does not hold."""
        return self.user_index if self.table_rows is None else self.table_rows

    @property
    def n_events(self) -> np.ndarray:
        """Number of known events (Q,) int64."""
        return np.asarray(self.end - self.begin)

    def of(self, rows: np.ndarray | slice | list[int]) -> Self:
        """Return the histories at ``rows``: places, a mask or a slice."""
        table_rows = None if self.table_rows is None else self.table_rows[rows]
        return type(self)(self.log, self.user_index[rows], self.end[rows], self.day, table_rows)

    def events(self) -> tuple[np.ndarray, np.ndarray]:
        """Return row and flat position, (n,) int64 each, of every known event, in time order per row."""
        return event_positions(self.begin, self.end)


def is_prepared(folder: Path) -> bool:
    """Return whether prepared data were written whole into ``folder``."""
    return (folder / "manifest.json").is_file()


def open_purchases(folder: str | Path, command: str = "recsys dataset main") -> Purchases:
    """Open prepared data without reading it into memory; ``command`` is what an error says to run first.

    DataError where the folder is missing, incomplete, or its arrays do not have the promised lengths and dtypes.
    """
    folder = Path(folder)
    if not is_prepared(folder):
        raise DataError(f"{folder} holds no prepared data (no manifest.json); run `{command}` first")
    manifest = read_json(folder / "manifest.json")
    arrays: dict[str, Any] = {name: _open_array(folder / f"{name}.npy", dtype) for name, dtype in _DTYPES.items()}
    offsets, lengths = arrays[schema.OFFSETS], {name: len(arrays[name]) for name in schema.EVENT_ARRAYS}
    if len(offsets) < 2 or set(lengths.values()) != {int(offsets[-1])}:
        raise DataError(f"{folder}: arrays of lengths {lengths} unlike the offsets; run `recsys dataset main --force`")
    return Purchases(folder=folder, manifest=manifest, **arrays)


def _open_array(path: Path, dtype: str) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be opened ({error}); run `recsys dataset main --force`") from error
    if array.dtype != np.dtype(dtype) or array.ndim != 1:
        raise DataError(f"{path} is {array.dtype} with {array.ndim} dimensions, expected {dtype} with 1")
    return array


class Windows(NamedTuple):
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
