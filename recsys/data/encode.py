"""Events as numbers: the one pass in which the engine reads every row, and the ranks of the codes that occur."""

from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
from narwhals.dtypes import DType

from recsys import schema
from recsys.data.engine import Engine
from recsys.data.expressions import day_of, millisecond_of_day, number, valid_time
from recsys.data.ids import Ids, distinct_ids, joined_rank
from recsys.data.sources.base import RawTables
from recsys.errors import DataError

BAD_DAY = int(np.iinfo(np.int32).min)

Columns = dict[str, np.ndarray]


def encode_columns(tables: RawTables, items: Ids, users: Ids, engine: Engine) -> tuple[Columns, dict[str, pa.Array]]:
    """Return each event as numbers, and the texts of channels and baskets that are text, whose codes are positions.

    Columns of E values: ``user``, ``item`` int32 rank (UNKNOWN, ABSENT) · ``day`` int32 (BAD_DAY) · ``rule_0`` … bool,
    by position in ``tables.rules`` · where the source has them ``millisecond`` int32, ``price``, ``quantity`` float32
    (NaN), ``channel``, ``basket_id`` int8 or int64 in the order of the values (:func:`missing_code`).

    Raises:
        DataError: the time column is neither text nor Date nor Datetime.
    """
    types = dict(tables.events.collect_schema())
    labels = [name for name in (schema.CHANNEL, schema.BASKET_ID) if name in types and not types[name].is_integer()]
    codes = [name for name in (schema.CHANNEL, schema.BASKET_ID) if name in types and types[name].is_integer()]
    # Converted before the ids are looked up: the fewer strings go through that, the less there is to copy.
    ids = (nw.col(name).cast(nw.String) for name in (schema.USER_ID, schema.ITEM_ID, *labels))
    rules = {f"rule_{place}": rule.rows for place, rule in enumerate(tables.rules) if rule.table == "events"}
    frame = tables.events.with_columns(*ids, *(rows.alias(name) for name, rows in rules.items()))
    numbers = _numbers(types)
    texts = {name: made for name, made in numbers.items() if types[name] == nw.String}
    frame = frame.select(
        schema.USER_ID,
        schema.ITEM_ID,
        *labels,
        *texts,
        *(each for name, made in numbers.items() if name not in texts for each in made),
        *(_code(nw.col(name), types[name]).alias(name) for name in codes),
        *(nw.col(name).fill_null(nw.lit(False)) for name in rules),
    )
    frame = joined_rank(frame, items, "item", engine)
    frame = joined_rank(frame, users, "user", engine)
    texts_of: dict[str, pa.Array] = {}
    for name in labels:
        distinct = distinct_ids(tables.events, name, engine)
        texts_of[name] = distinct.values
        frame = joined_rank(frame, distinct, f"_{name}", engine)
        rank = nw.when(nw.col(f"_{name}") >= 0).then(nw.col(f"_{name}"))
        frame = frame.with_columns(_code(rank, nw.Int64()).alias(name)).drop(f"_{name}")
    return _to_numpy(engine.collect_made(frame, texts)), texts_of


def _code(values: nw.Expr, dtype: DType) -> nw.Expr:
    width = nw.Int8 if dtype == nw.Int8 else nw.Int64
    return values.cast(width).fill_null(nw.lit(missing_code(width()), width))


def missing_code(dtype: DType | np.dtype[Any]) -> int:
    """Return the code of a missing channel or basket: below all values of the type that occur."""
    return -128 if dtype in (nw.Int8, np.dtype(np.int8)) else -(2**62)


def _numbers(types: dict[str, DType]) -> dict[str, list[nw.Expr]]:
    """Return, by the column that is read, the numbers to be made of it."""
    dtype = types[schema.TIME]
    require_dates(dtype, "time column")
    time = valid_time(schema.TIME) if dtype == nw.String else nw.col(schema.TIME)
    numbers = {schema.TIME: [day_of(time, dtype).fill_null(nw.lit(BAD_DAY, nw.Int32)).alias("day")]}
    if dtype != nw.Date:
        numbers[schema.TIME].append(millisecond_of_day(time, dtype).alias("millisecond"))
    for name in (schema.PRICE, schema.QUANTITY):
        if name in types:
            numbers[name] = [number(name, types[name]).cast(nw.Float32).alias(name)]
    return numbers


def require_dates(dtype: DType, what: str) -> None:
    """Raise a DataError where a column, called ``what``, is neither text nor Date nor Datetime, or has a time zone."""
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None:
        # Which day it was depends on the zone, and only one of the engines keeps it: the days would differ.
        raise DataError(
            f"the {what} holds times of the zone {dtype.time_zone}, expected the shop's local time without a "
            "zone; convert it and save the table again"
        )
    if dtype not in (nw.String, nw.Date, nw.Datetime):
        raise DataError(f"the {what} holds {dtype}, expected dates such as 2020-09-22; name the date's column")


def _to_numpy(table: pa.Table) -> Columns:
    columns = {}
    for name in table.column_names:
        columns[name] = table[name].to_numpy()
        table = table.drop_columns(name)  # so that only one column at a time is held twice
    if "millisecond" in columns and not columns["millisecond"].any():
        del columns["millisecond"]
    return columns


def ranked(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 1-based rank (E,) of ``codes`` (E,) among those that occur, and these, ascending.

    The rank is 0 where the code is missing; it has the codes' own dtype.

    >>> [array.tolist() for array in ranked(np.array([7, 3, 7, missing_code(np.dtype("int64"))]))]
    [[2, 1, 2, 0], [3, 7]]
    """
    missing = missing_code(codes.dtype)
    if codes.dtype == np.int8:  # by a table of the 256 values instead of a sort
        occurs = np.zeros(256, dtype=bool)
        occurs[codes.view(np.uint8)] = True
        every = np.arange(256, dtype=np.uint8).view(np.int8)
        values = np.sort(every[occurs & (every != missing)])
        return np.searchsorted(values, every, side="right").astype(np.int8)[codes.view(np.uint8)], values
    values = np.unique(codes)
    values = values[values != missing]
    return np.searchsorted(values, codes, side="right").astype(codes.dtype), values


def channel_ranks(codes: np.ndarray | None, texts: pa.Array | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the channels (E,) int8 of ``codes`` (E,), and the names of those from 1 on.

    Where channels are text, the codes are positions in ``texts``; else they are the channels.
    """
    if codes is None:
        return None, ()
    ranks, values = ranked(codes)
    require_few_channels(len(values))
    names = values.astype(str).tolist() if texts is None else texts.take(pa.array(values)).to_pylist()
    return ranks.astype(np.int8, copy=False), tuple(names)


def require_few_channels(n_channels: int) -> None:
    """Raise a DataError where there are more channels than int8 can number."""
    if n_channels > 127:
        raise DataError(
            f"column {schema.CHANNEL} has {n_channels:,} different values, at most 127 are expected; "
            "is it the right column? Leave it out, or group its values"
        )
