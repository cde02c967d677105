"""Dense ids: the index of a row is the rank of its external id among all, as sorted UTF-8 text."""

from dataclasses import dataclass, replace
from typing import Any, Self

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.engine import Engine

UNKNOWN, ABSENT = -1, -2  # in place of the rank of an id


@dataclass(frozen=True)
class Ids:
    """External ids of items, or of users; the rank of an id is its position."""

    column: str
    values: pa.Array  # (n,) string, ascending, without repetition
    n_repeated: int = 0  # rows left out because their id had come before
    n_absent: int = 0  # rows left out because they had no id

    def __len__(self) -> int:
        return len(self.values)

    def united(self, values: pa.Array) -> Self:
        """Return these ids and ``values``."""
        both = pa.chunked_array([self.values, values.filter(pc.invert(self.holds(values)))]).combine_chunks()
        return replace(self, values=both.take(pc.array_sort_indices(both)))

    def holds(self, values: pa.Array) -> pa.Array:
        """Return whether each of ``values`` is one of these ids."""
        return pc.is_in(values, value_set=self.values)


def ids_of(rows: pa.Array, column: str) -> Ids:
    """Return the ids in ``rows`` (n,) of any type, in any order, repeated or absent (null, empty)."""
    text = rows.cast(pa.string())
    ascending = pc.all(pc.less(text[:-1], text[1:]), skip_nulls=False).as_py()
    if ascending and len(text) and text[0].as_py():  # each is there, not empty, and greater than the one before it
        return Ids(column, text)
    present = text.filter(pc.greater(pc.utf8_length(text), 0))
    unique = present.unique()
    unique = unique.take(pc.array_sort_indices(unique))
    return Ids(column, unique, len(present) - len(unique), len(text) - len(present))


def distinct_ids(frame: nw.LazyFrame[Any], column: str, engine: Engine) -> Ids:
    """Return the distinct ids in ``column``."""
    rows = engine.collect(frame.select(nw.col(column).cast(nw.String)).unique())
    return ids_of(rows[column].combine_chunks(), column)


def joined_rank(frame: nw.LazyFrame[Any], ids: Ids, name: str, engine: Engine) -> nw.LazyFrame[Any]:
    """Return ``frame`` with the strings of ``ids.column`` replaced by ``name``: their rank, Int32 from 0.

    UNKNOWN stands for an id that is not among ``ids``, ABSENT for null and the empty string.
    """
    keys = pa.concat_arrays([ids.values, pa.array([""])])
    ranks = pa.array(np.append(np.arange(len(ids), dtype=np.int32), np.int32(ABSENT)))
    frame = frame.with_columns(nw.col(ids.column).fill_null(nw.lit("")))
    return engine.looked_up(frame, ids.column, pa.table({ids.column: keys, name: ranks}), name, UNKNOWN)


def with_attributes(values: pa.Array, table: pa.Table, column: str) -> pa.Table:
    """Return one row for each of ``values`` with the attributes that ``table`` has for it, null where it has none.

    Of several rows with one id the first by all columns is taken.
    """
    table = id_first(_with_plain_strings(table, column), column)
    if table[column].equals(pa.chunked_array([values])):
        return table
    if pc.count_distinct(table[column]).as_py() < len(table):
        # Engines return rows in any order: which of several is taken must not depend on it.
        table = table.sort_by([(name, "ascending") for name in table.column_names])
    rows = table.take(pc.index_in(values, value_set=table[column].combine_chunks()))
    return rows.set_column(0, column, values)


def id_first(table: pa.Table, column: str) -> pa.Table:
    """Return ``table`` with the column of ids first."""
    return table.select([column, *(name for name in table.column_names if name != column)])


def _with_plain_strings(table: pa.Table, column: str) -> pa.Table:
    """Return ``table`` with text, and ``column`` whatever it is, as Arrow's string: engines differ in its types."""
    text_types = (pa.large_string(), pa.string_view(), pa.null())
    fields = [
        field.with_type(pa.string()) if field.name == column or field.type in text_types else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).replace_schema_metadata()


def texts_of(table: pa.Table, column: str) -> pa.Array:
    """Return a column of ids (n,) as text."""
    return table[column].cast(pa.string()).combine_chunks()


def places_in(known: pa.Array, ids: pa.Array) -> np.ndarray:
    """Return the position (n,) int32 in ``known`` of each of ``ids`` (n,); -1 where it is not there."""
    return np.asarray(pc.fill_null(pc.index_in(ids.cast(pa.string()), value_set=known), -1)).astype(np.int32)
