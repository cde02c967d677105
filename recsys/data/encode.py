"""Events as numbers: the one pass in which the engine reads every row."""

from collections.abc import Mapping
from datetime import date

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from narwhals.dtypes import DType

from recsys import schema
from recsys.data.days import day_number
from recsys.data.engine import Engine
from recsys.data.expressions import day_of, millisecond_of_day, number
from recsys.data.ids import ABSENT, ascending, occurring
from recsys.data.sources.base import RawTables
from recsys.data.text_codes import Texts, look_up, places_in
from recsys.errors import DataError

_NO_DATE = date(1, 1, 1)
BAD_DAY = day_number(_NO_DATE)

Columns = dict[str, np.ndarray]


def encode_columns(
    tables: RawTables, engine: Engine, known: Mapping[str, pa.Array]
) -> tuple[Columns, dict[str, Texts]]:
    """Return each event as numbers, and its ids, channel and basket as texts; ``known`` are ids of the other tables.

    Columns of E values: ``day`` int32 (BAD_DAY) · bool for each of ``tables.rules_of("events")`` · where the source has
    them ``millisecond`` int32, ``price``, ``quantity`` float32 (NaN). DataError as of :func:`require_dates`.
    """
    types = dict(tables.events.collect_schema())
    texts = [name for name in (schema.USER_ID, schema.ITEM_ID, schema.CHANNEL, schema.BASKET_ID) if name in types]
    time_type = types[schema.TIME]
    require_dates(time_type, "time column")
    numbers = {schema.TIME: [day_of(schema.TIME, time_type).fill_null(nw.lit(_NO_DATE)).alias("day")]}
    if time_type != nw.Date:
        numbers[schema.TIME].append(millisecond_of_day(schema.TIME, time_type).alias("millisecond"))
    for name in (schema.PRICE, schema.QUANTITY):
        if name in types:
            numbers[name] = [number(name, types[name]).cast(nw.Float32).alias(name)]
    made_of_text = {name: made for name, made in numbers.items() if types[name] == nw.String}
    frame = tables.events.select(
        *(nw.col(name).cast(nw.String) for name in texts),
        *made_of_text,
        *(each for name, made in numbers.items() if name not in made_of_text for each in made),
        *(rule.rows.fill_null(nw.lit(False)).alias(name) for name, rule in tables.rules_of("events").items()),
    )
    none = pa.array([], pa.string())
    columns, coded = engine.collect_columns(frame, {name: known.get(name, none) for name in texts}, made_of_text)
    if "millisecond" in columns and not columns["millisecond"].any():
        del columns["millisecond"]
    return columns, coded


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


def ranked(column: Texts, kept: np.ndarray | slice, dtype: DType) -> tuple[np.ndarray, pa.Array]:
    """Return the rank (n,) int32 from 1 of a channel or basket in rows ``kept``, 0 where it is missing, and all names.

    These are in the order of text, or in that of numbers where ``dtype``, their type in the source, is one of integers.
    """
    labels = in_label_order(column.values, dtype)
    rank = np.append(places_in(labels, column.values) + 1, ABSENT).astype(np.int32)
    return occurring(look_up(rank, column.codes)[kept], labels)


def in_label_order(texts: pa.Array, dtype: DType) -> pa.Array:
    """Return the different channels or baskets in ``texts`` (n,) in the order of text, or of numbers."""
    labels = ascending(texts)
    if dtype.is_integer():
        labels = labels.take(pc.array_sort_indices(labels.cast(pa.uint64() if dtype == nw.UInt64 else pa.int64())))
    return labels


def require_few_channels(n_channels: int) -> None:
    """Raise a DataError where there are more channels than int8 can number."""
    if n_channels > 127:
        raise DataError(
            f"column {schema.CHANNEL} has {n_channels:,} different values, at most 127 are expected; "
            "is it the right column? Leave it out, or group its values"
        )
