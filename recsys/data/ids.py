"""Dense ids: the index of a row is the rank of its external id among all, as sorted UTF-8 text."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.order import occurrences_of
from recsys.data.text_codes import Texts, look_up, places_in
from recsys.errors import DataError

UNKNOWN, ABSENT = -1, 0  # in place of the rank of an id


def ascending(ids: pa.Array) -> pa.Array:
    """Return the different texts in ``ids`` (n,) in ascending order; null and the empty text are left out."""
    present = ids.filter(pc.greater(pc.utf8_length(ids), 0))
    if len(present) < 2 or pc.all(pc.less(present[:-1], present[1:])).as_py():
        return present  # a file is often sorted, and this is fast
    unique = present.unique()
    return unique.take(pc.array_sort_indices(unique))


def ranks_in(known: pa.Array, column: Texts, *, add: bool = False) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """Return the rank (E,) int32 of each text from 1, the ids that have ranks, and which of these (n,) are ``known``.

    These are the known ids, with which the values of ``column`` begin, and where ``add``, its others too, ascending.
    The rank is UNKNOWN for another text and ABSENT for null and the empty one.
    """
    n_known, new = len(known), column.values[len(known) :]
    ids, is_known = known, np.ones(n_known, dtype=bool)
    place = np.append(np.arange(n_known), np.full(len(new), UNKNOWN - 1))
    is_absent = np.asarray(pc.equal(new, ""))
    if add and len(new) > np.count_nonzero(is_absent):
        ids = ascending(pa.concat_arrays([known, new]))
        is_known, place = np.asarray(pc.is_in(ids, value_set=known)), places_in(ids, column.values)
    place[n_known:][is_absent] = ABSENT - 1
    return look_up(np.append(place + 1, ABSENT).astype(np.int32), column.codes), ids, is_known


def occurring(ranks: np.ndarray, ids: pa.Array, stays: np.ndarray | None = None) -> tuple[np.ndarray, pa.Array]:
    """Return ``ranks`` (E,) int32, written over, among the ``ids`` (n,) that occur or ``stays`` (n,), and these ids."""
    kept = occurrences_of(ranks, len(ids) + 1)[1:] > 0
    if stays is not None:
        kept |= stays
    if kept.all():
        return ranks, ids
    return look_up(np.append(0, np.cumsum(kept)).astype(np.int32), ranks), ids.filter(pa.array(kept))


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


def read_ids(path: Path, column: str) -> pa.Array:
    """Return the ids (n,) in a file: text with one a line, or Parquet with ``column``; a DataError says it has none."""
    what = column.replace("_", " ") + "s"
    if not path.is_file():
        raise DataError(f"{path} is missing; expected {what}, one a line, or a Parquet table with {column}")
    try:
        if path.suffix == ".parquet":
            ids = pq.read_table(path, columns=[column])[column].cast(pa.string()).combine_chunks()
        else:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            ids = pa.array(lines[1:] if lines[:1] == [column] else lines, type=pa.string())
    except (pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected ids as text, or Parquet with {column}") from error
    if not len(ids):
        raise DataError(f"{path} holds no {what}; expected one a line")
    return ids
