"""Planned promotions of a source: which rows can be used, and the table that prepared data hold."""

from functools import reduce
from typing import Any

import narwhals as nw
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.data.encode import require_dates
from recsys.data.engine import Engine
from recsys.data.expressions import day_of, number
from recsys.data.ids import texts_of
from recsys.errors import DataError


def usable_promotions(frame: nw.LazyFrame[Any], engine: Engine, origin: str) -> tuple[pa.Table, int]:
    """Return the promotions that can be used, with their dates, and how many rows cannot.

    DataError where the days are neither text nor Date nor Datetime, or there are promotions and none can be used.
    """
    types = frame.collect_schema()
    days = []
    for name in (schema.START, schema.END):
        require_dates(types[name], f"{name} column of promotions")
        days.append(day_of(name, types[name]).alias(name))
    texts = [nw.col(name).cast(nw.String).str.strip_chars().alias(name) for name in (schema.ITEM_ID, schema.MEDIUM)]
    share = number(schema.SHARE, types[schema.SHARE]).cast(nw.Float32).alias(schema.SHARE)
    read = engine.collect(frame.select(*texts, *days, share))
    conditions = (
        pc.greater(pc.utf8_length(read[schema.ITEM_ID]), 0),
        pc.greater(pc.utf8_length(read[schema.MEDIUM]), 0),
        pc.less_equal(read[schema.START], read[schema.END]),
        pc.greater(read[schema.SHARE], 0),
        pc.less_equal(read[schema.SHARE], 1),
    )
    left = read.filter(reduce(pc.and_, conditions))
    if len(read) and not len(left):
        raise DataError(
            f"none of the {len(read):,} promotions beside {origin} can be used; expected an item, a medium, a "
            "first and a last day such as 2020-09-22, and a share above 0 and at most 1; check their columns"
        )
    return left, len(read) - len(left)


def require_sold(promotions: pa.Table, items: pa.Array, origin: str) -> None:
    """Raise a DataError where there are promotions and none of them is of one of ``items``."""
    ids = texts_of(promotions, schema.ITEM_ID)
    if len(ids) and not pc.any(pc.is_in(ids, value_set=items)).as_py():
        raise DataError(
            f"none of the {len(ids):,} promotions beside {origin} is of an item that is known there, e.g. "
            f"{ids[0].as_py()!r}; the items have {items[0].as_py()!r}; check the column of their ids"
        )


def promotions_of(promotions: pa.Table, item_ids: pa.Array) -> pa.Table:
    """Return the promotions of ``item_ids`` with their index, in an order that does not depend on the engine."""
    one = pa.scalar(1, pa.int32())
    index = pc.add(pc.index_in(promotions[schema.ITEM_ID].cast(pa.string()), value_set=item_ids), one)
    columns = {
        "item_index": index,
        "first_day": promotions[schema.START].cast(pa.int32()),
        "end_day": pc.add(promotions[schema.END].cast(pa.int32()), one),
        schema.MEDIUM: promotions[schema.MEDIUM].cast(pa.string()),
        schema.SHARE: promotions[schema.SHARE].cast(pa.float32()),
    }
    return in_promotion_order(pa.table(columns).filter(pc.is_valid(index)))


def in_promotion_order(promotions: pa.Table) -> pa.Table:
    """Return a table of prepared promotions by first day, item, medium, last day and share."""
    order = ("first_day", "item_index", schema.MEDIUM, "end_day", schema.SHARE)
    return promotions.sort_by([(name, "ascending") for name in order])
