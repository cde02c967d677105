"""Dense ids: the index of a row is the rank of its external id among all, as sorted UTF-8 text."""

from dataclasses import dataclass
from typing import Any, Self

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.engine import Engine


@dataclass(frozen=True)
class IdTable:
    """External ids in ascending order, without repetition, and what is known of each."""

    column: str
    table: pa.Table  # string ``column`` and attributes
    n_repeated: int = 0  # rows left out because their id had come before
    n_absent: int = 0  # rows left out because they had no id

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def ids(self) -> pa.Array:
        """Return the ids (n,) in ascending order."""
        return self.table[self.column].combine_chunks()

    def ranks(self) -> pa.Table:
        """Return the ids beside ``rank``, int32 from 0."""
        rank = pa.array(np.arange(len(self), dtype=np.int32))
        return pa.table({self.column: self.table[self.column], "rank": rank})

    def extended(self, ids: pa.Array) -> Self:
        """Return the table with ``ids`` that it lacked added; their attributes are null."""
        lacking = ids.filter(pc.invert(pc.is_in(ids, value_set=self.ids())))
        added = pa.table({self.column: lacking})
        both = pa.concat_tables([self.table, added], promote_options="default").sort_by(self.column)
        return type(self)(self.column, both, self.n_repeated, self.n_absent)


def id_table(table: pa.Table, column: str) -> IdTable:
    """Return the rows of ``table`` sorted by ``column``; of rows with one id the first by all columns stays."""
    table = _with_plain_strings(table, column)
    present = table.filter(pc.and_(pc.is_valid(table[column]), pc.not_equal(table[column], "")))
    ordered = present.sort_by(column)
    ids = ordered[column].combine_chunks()
    first = np.ones(len(ids), dtype=bool)
    first[1:] = np.asarray(pc.not_equal(ids[1:], ids[:-1]))
    if not first.all():
        # Engines return rows in any order: which of several stays must not depend on it.
        others = [name for name in ordered.column_names if name != column]
        ordered = ordered.sort_by([(name, "ascending") for name in (column, *others)])
    unique = ordered.filter(pa.array(first))
    return IdTable(column, unique, int((~first).sum()), table.num_rows - present.num_rows)


def _with_plain_strings(table: pa.Table, column: str) -> pa.Table:
    """Return ``table`` with text, and ``column`` whatever it is, as Arrow's string: engines differ in their kinds."""
    kinds = (pa.large_string(), pa.string_view(), pa.null())
    fields = [
        field.with_type(pa.string()) if field.name == column or field.type in kinds else field for field in table.schema
    ]
    return table.cast(pa.schema(fields)).replace_schema_metadata()


def distinct_ids(frame: nw.LazyFrame[Any], column: str, engine: Engine) -> pa.Array:
    """Return the distinct values of ``column`` as sorted strings, without null and the empty string."""
    values = engine.collect(frame.select(nw.col(column).cast(nw.String)).unique())
    return id_table(values, column).ids()


def joined_rank(frame: nw.LazyFrame[Any], ids: IdTable, name: str, engine: Engine) -> nw.LazyFrame[Any]:
    """Return ``frame`` with ``name``: the rank, Int32 from 0, of its string column ``ids.column``; null if unknown."""
    ranks = engine.from_arrow(ids.ranks().rename_columns([ids.column, name]))
    return frame.join(ranks, on=ids.column, how="left")
