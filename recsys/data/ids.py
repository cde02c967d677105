"""Dense ids: the index of a row is the rank of its external id among all, as sorted UTF-8 text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.engine import Texts

UNKNOWN, ABSENT = -1, 0  # in place of the rank of an id


def ascending(ids: pa.Array) -> pa.Array:
    """Return the different texts in ``ids`` (n,) in ascending order; null and the empty text are left out."""
    present = ids.filter(pc.greater(pc.utf8_length(ids), 0))
    if len(present) < 2 or pc.all(pc.less(present[:-1], present[1:])).as_py():
        return present  # a file is often sorted, and this is fast
    unique = present.unique()
    return unique.take(pc.array_sort_indices(unique))


def with_ids_of(known: pa.Array, column: Texts) -> pa.Array:
    """Return the ``known`` ids and those in ``column``, ascending."""
    new = column.values.filter(pc.invert(pc.is_in(column.values, value_set=known)))
    return ascending(pa.concat_arrays([known, new])) if len(new) else known


def ranks_in(ids: pa.Array, column: Texts) -> np.ndarray:
    """Return the rank (E,) int32 from 1 among ``ids`` (n,): UNKNOWN is none of them, ABSENT null or the empty text."""
    rank = places_in(ids, column.values) + np.int32(1)
    rank[rank == 0] = UNKNOWN
    rank[np.asarray(pc.equal(column.values, ""))] = ABSENT
    return np.asarray(np.append(rank, np.int32(ABSENT))[column.codes])  # the last stands for code -1


def occurring(ranks: np.ndarray, ids: pa.Array, stays: np.ndarray | None = None) -> tuple[np.ndarray, pa.Array]:
    """Return ``ranks`` (E,) int32 among those of ``ids`` (n,) that occur, or ``stays`` (n,), and these ids."""
    kept = np.bincount(ranks, minlength=len(ids) + 1)[1:] > 0
    if stays is not None:
        kept |= stays
    if kept.all():
        return ranks, ids
    return np.append(0, np.cumsum(kept)).astype(np.int32)[ranks], ids.filter(pa.array(kept))


def with_attributes(values: pa.Array, table: pa.Table, column: str) -> pa.Table:
    """Return one row for each of ``values`` with the attributes that ``table`` has for it, null where it has none.

    ``column`` is the first of the table. Of several rows with one id the first by all columns is taken.
    """
    # Engines differ in the types of text: all of it, and ``column`` whatever it is, becomes Arrow's string.
    text_types = (pa.large_string(), pa.string_view(), pa.null())
    fields = [
        field.with_type(pa.string()) if field.name == column or field.type in text_types else field
        for field in table.schema
    ]
    table = table.cast(pa.schema(fields)).replace_schema_metadata()
    if table[column].equals(pa.chunked_array([values])):
        return table
    if pc.count_distinct(table[column]).as_py() < len(table):
        # Engines return rows in any order: which of several is taken must not depend on it.
        table = table.sort_by([(name, "ascending") for name in table.column_names])
    rows = table.take(pc.index_in(values, value_set=table[column].combine_chunks()))
    return rows.set_column(0, column, values)


def texts_of(table: pa.Table, column: str) -> pa.Array:
    """Return a column of ids (n,) as text."""
    return table[column].cast(pa.string()).combine_chunks()


def places_in(known: pa.Array, ids: pa.Array) -> np.ndarray:
    """Return the position (n,) int32 in ``known`` of each of ``ids`` (n,); -1 where it is not there."""
    return np.asarray(pc.fill_null(pc.index_in(ids.cast(pa.string()), value_set=known), -1)).astype(np.int32)
