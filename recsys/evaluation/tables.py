"""Recommendations and targets as tables on disk, checked and turned into arrays for scoring."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.data.purchases import Histories, Purchases
from recsys.errors import DataError
from recsys.evaluation.scoring import FoldLists
from recsys.evaluation.splits import Fold

#: Ids are written as dictionaries: a table of a million customers repeats each id many times.
_ID = pa.dictionary(pa.int32(), pa.string())
_OF_USER, _OF_ITEM = (schema.USER_ID, _ID), (schema.ITEM_ID, _ID)
RECOMMENDATIONS_SCHEMA = pa.schema([_OF_USER, (schema.RANK, pa.int32()), _OF_ITEM, (schema.SCORE, pa.float32())])
#: Under which a table of lists names the training that made it (:attr:`recsys.runs.Run.identity`).
MADE_BY = b"recsys_made_by"
#: Continued histories: the place of an item counts from 1; log_probability is the decoder's own, before any cut.
_CONTINUATIONS = [_OF_USER, (schema.PLACE, pa.int32()), _OF_ITEM, (schema.LOG_PROBABILITY, pa.float32())]
CONTINUATIONS_SCHEMA = pa.schema(_CONTINUATIONS)
#: Why each item was recommended; see :mod:`recsys.schema`.
REASONS_SCHEMA = pa.schema(
    [
        _OF_USER,
        (schema.RANK, pa.int32()),
        _OF_ITEM,
        (schema.REASON, pa.dictionary(pa.int8(), pa.string())),
        (schema.PAST_ITEM_ID, _ID),
        (schema.PAST_DATE, pa.date32()),
        (schema.SHARE, pa.float32()),
        (schema.TEXT, pa.string()),
    ]
)
#: Ranks beyond it are never judged, and a list is a row of a dense table.
_MOST_RANKS = 1_000


def read_continuations(path: Path, data: Purchases) -> tuple[np.ndarray, np.ndarray]:
    """Return user_index (Q,) ascending and the items (Q, L) int32 that follow each history, padded with 0."""
    table = _read(path, (schema.USER_ID, schema.PLACE, schema.ITEM_ID))
    user, item = _indices(table, data)
    if not item.all() or (user < 0).any():
        raise DataError(f"{path} names users or items that {data.folder} does not hold; generate it anew")
    place = np.asarray(_counted(path, table, schema.PLACE, "expected 1, 2, 3, …; generate it anew"))
    user_index, row, length = np.unique(user, return_inverse=True, return_counts=True)
    if (place > length[row]).any() or len(np.unique(row * (length.max() + 1) + place)) < len(place):
        raise DataError(f"{path}: the places of a user's items are not 1, 2, 3, … once each; generate it anew")
    return user_index.astype(np.int32), _lists(row, place, item, len(user_index))


def _counted(path: Path, table: pa.Table, column: str, expected: str) -> pa.ChunkedArray:
    """Return a column of whole numbers from 1 as int64; an error ends in ``expected``."""
    try:
        numbers = table[column].cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: column {column} does not hold whole numbers ({error}); {expected}") from error
    if numbers.null_count:
        raise DataError(f"{path} holds an empty {column}; {expected}")
    smallest = pc.min(numbers).as_py()
    if smallest < 1:
        raise DataError(f"{path} holds {column} {smallest}; {expected}")
    return numbers


def list_rows(
    histories: Histories, item: np.ndarray, value: np.ndarray, columns: pa.Schema = RECOMMENDATIONS_SCHEMA
) -> pa.Table:
    """Return lists (Q, K), padded with 0, for ``histories`` (Q) as rows with the original ids, by user and rank.

    ``value`` (Q, K) are scores, or log-probabilities where ``columns`` are those of continuations.
    """
    log, (row, place) = histories.log, np.nonzero(item)
    arrays = [
        _encoded(histories.user_index[row], log.user_ids),
        pa.array(place.astype(np.int32) + 1),
        _encoded(item[row, place] - 1, log.item_ids),
        pa.array(value[row, place].astype(np.float32)),
    ]
    return pa.table(arrays, schema=columns)


def reason_rows(
    histories: Histories, item: np.ndarray, reason: np.ndarray, past: Sequence[np.ndarray], texts: list[list[str]]
) -> pa.Table:
    """Return the reasons for lists ``item`` (Q, K) of some users as rows with the original ids.

    ``reason`` (Q, K) are positions in ``schema.REASONS``, ``past`` item_index, day and share (Q, K, J) of the past
    purchases named, 0 after the last, ``texts`` the reasons in words (Q, K).
    """
    log, (past_item, past_day, share) = histories.log, past
    is_named = past_item > 0
    is_named[..., 0] = True  # an item that no purchase carried has its row too
    row, place, number = np.nonzero(is_named)
    absent = past_item[row, place, number] == 0
    columns = [
        _encoded(histories.user_index[row], log.user_ids),
        pa.array(place.astype(np.int32) + 1),
        _encoded(item[row, place] - 1, log.item_ids),
        pa.DictionaryArray.from_arrays(pa.array(reason[row, place].astype(np.int8)), pa.array(schema.REASONS)),
        _encoded(past_item[row, place, number] - 1, log.item_ids, absent),
        pa.array(past_day[row, place, number].astype(np.int32), mask=absent).cast(pa.date32()),
        pa.array(share[row, place, number].astype(np.float32), mask=absent),
        pa.array([texts[one][k] for one, k in zip(row.tolist(), place.tolist(), strict=True)]),
    ]
    return pa.table(columns, schema=REASONS_SCHEMA)


def _encoded(position: np.ndarray, values: pa.Array, absent: np.ndarray | None = None) -> pa.DictionaryArray:
    """Return ``values[position]`` as a dictionary of those that occur; null where ``absent``."""
    used, place = np.unique(np.maximum(position, 0), return_inverse=True)
    codes = pa.array(place.astype(np.int32), mask=absent)
    return pa.DictionaryArray.from_arrays(codes, values.take(pa.array(used.astype(np.int64))))


def _recommendations(path: Path) -> pa.Table:
    """Return the table user_id string, rank int64, item_id string of a system."""
    table = _read(path, (schema.USER_ID, schema.RANK, schema.ITEM_ID))
    rank = _counted(path, table, schema.RANK, "ranks are whole numbers from 1, the best item first")
    table = table.set_column(table.column_names.index(schema.RANK), schema.RANK, rank)
    counted = table.group_by([schema.USER_ID, schema.RANK]).aggregate([([], "count_all")])
    shared = counted.filter(pc.greater(counted["count_all"], 1)).to_pylist()
    if shared:
        user, place, n_items = (shared[0][name] for name in (schema.USER_ID, schema.RANK, "count_all"))
        raise DataError(f"{path}: user {user!r} has {n_items} items at rank {place}; expected one a rank")
    best = table.group_by(schema.USER_ID).aggregate([(schema.RANK, "min")])
    late = best.filter(pc.greater(best[f"{schema.RANK}_min"], 1))
    if 2 * len(late) > len(best):
        user, place = late[schema.USER_ID][0].as_py(), late[f"{schema.RANK}_min"][0].as_py()
        raise DataError(f"{path}: the best rank of user {user!r} is {place:,}; ranks count from 1 for each user")
    return table.filter(pc.less_equal(table[schema.RANK], _MOST_RANKS))


def read_lists(path: Path, data: Purchases, user_index: np.ndarray, made_by: str | None = None) -> np.ndarray:
    """Return the lists (Q, K) int32 of ``user_index`` (ascending) as item_index in rank order, padded with 0.

    ``made_by`` is the identity of the run that must have made them, where the table names one. A DataError says that
    the file is no such table, or of other data.
    """
    table = _recommendations(path)
    maker = (pq.read_schema(path).metadata or {}).get(MADE_BY)
    if made_by is not None and maker not in (None, made_by.encode()):
        raise DataError(f"{path} was made by another training of this name; run `recsys predict --folds --force` first")
    user, item = _indices(table, data)
    if not item.all():
        unknown = table[schema.ITEM_ID][int(np.flatnonzero(item == 0)[0])].as_py()
        raise DataError(f"{path} recommends item {unknown!r}, which {data.folder} does not hold; write the lists anew")
    row = np.minimum(np.searchsorted(user_index, user), len(user_index) - 1)
    row = np.where(user_index[row] == user, row, -1)
    if (row < 0).all():
        raise DataError(f"{path} has lists for none of the {len(user_index)} customers who bought; write them anew")
    return _lists(row, np.asarray(table[schema.RANK]), item, len(user_index))


def lists_of_tables(lists: Path, bought: Path) -> FoldLists:
    """Return any two tables, lists and what was bought, in the form that is scored; only buyers are asked."""
    recommendations, targets = _recommendations(lists), _read(bought, (schema.USER_ID, schema.ITEM_ID))
    targets = targets.group_by([schema.USER_ID, schema.ITEM_ID]).aggregate([])
    users = pc.unique(targets[schema.USER_ID])
    items = pc.unique(pa.chunked_array(targets[schema.ITEM_ID].chunks + recommendations[schema.ITEM_ID].chunks))
    user = np.asarray(pc.index_in(targets[schema.USER_ID], value_set=users))
    order = np.argsort(user, kind="stable")
    row = np.asarray(pc.fill_null(pc.index_in(recommendations[schema.USER_ID], value_set=users), -1))
    if (row < 0).all():
        raise DataError(
            f"the tables have no user in common: recommendations for {recommendations[schema.USER_ID][0].as_py()!r}, "
            f"targets of {targets[schema.USER_ID][0].as_py()!r}; user_id must be written the same way in both"
        )
    item = np.asarray(pc.index_in(recommendations[schema.ITEM_ID], value_set=items)) + 1
    if not pc.any(pc.is_in(recommendations[schema.ITEM_ID], value_set=pc.unique(targets[schema.ITEM_ID]))).as_py():
        raise DataError(
            f"the tables have no item in common: recommended is {recommendations[schema.ITEM_ID][0].as_py()!r}, bought "
            f"was {targets[schema.ITEM_ID][0].as_py()!r}; item_id must be written the same way in both"
        )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(users)))])
    bought_items = np.asarray(pc.index_in(targets[schema.ITEM_ID], value_set=items))[order] + 1
    undated = Fold("", 0, 1, np.zeros(0, dtype=np.int64), np.arange(len(users)), offsets, bought_items)
    return FoldLists(undated, {lists.stem: _lists(row, np.asarray(recommendations[schema.RANK]), item, len(users))})


def _indices(table: pa.Table, data: Purchases) -> tuple[np.ndarray, np.ndarray]:
    """Return user_index and item_index of each row, -1 and 0 where the data do not hold the id."""
    users, items = (table[name].combine_chunks() for name in (schema.USER_ID, schema.ITEM_ID))
    return data.user_index_of(users), data.item_index_of(items)


def _lists(row: np.ndarray, rank: np.ndarray, item: np.ndarray, n_rows: int) -> np.ndarray:
    known = row >= 0
    lists = np.zeros((n_rows, int(rank[known].max())), dtype=np.int32)
    lists[row[known], rank[known] - 1] = item[known]
    return lists


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Return ``columns`` of a table, in this order, ids as text; DataError where a column, an id or all rows lack."""
    expected = ", ".join(columns)
    try:
        found = pq.read_schema(path).names
        missing = [column for column in columns if column not in found]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(found)}, expected {expected}")
        table = pq.read_table(path, columns=list(columns)).select(columns)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; expected a Parquet table with {expected}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a Parquet table ({error}); expected columns {expected}") from error
    if not table.num_rows:
        raise DataError(f"{path} has no rows; expected {expected}")
    for place, column in enumerate(columns):
        if column in (schema.USER_ID, schema.ITEM_ID):
            table = table.set_column(place, column, table[column].cast(pa.string()))
            if table[column].null_count:
                raise DataError(f"{path} has {table[column].null_count} rows without {column}; remove or complete them")
    return table
