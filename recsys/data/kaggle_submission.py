"""Kaggle's submission for H&M: one line a customer, twelve article ids separated by spaces."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.schema import ITEM_ID, USER_ID
from recsys.storage import replacing

SUBMISSION_K = 12
COLUMNS = ("customer_id", "prediction")
_LINE = rf"^[0-9]{{10}}( [0-9]{{10}}){{{SUBMISSION_K - 1}}}$"


def write_submission(recommendations: Path, path: Path) -> None:
    """Turn a table of recommendations, :data:`SUBMISSION_K` rows a user in rank order, into ``submission.csv``."""
    with replacing(path) as aside, aside.open("wb") as stream:
        stream.write((",".join(COLUMNS) + "\n").encode())
        options = pacsv.WriteOptions(include_header=False, quoting_style="none")
        for batch in pq.ParquetFile(recommendations).iter_batches(65_536 * SUBMISSION_K, columns=[USER_ID, ITEM_ID]):
            users = batch[USER_ID].cast(pa.string()).take(np.arange(0, len(batch), SUBMISSION_K))
            offsets = pa.array(np.arange(0, len(batch) + 1, SUBMISSION_K, dtype=np.int32))
            lists = pa.ListArray.from_arrays(offsets, batch[ITEM_ID].cast(pa.string()))
            lines = pa.table([users, pc.binary_join(lists, " ")], names=list(COLUMNS))
            pacsv.write_csv(lines, stream, options)


def check_submission(path: Path, data: Purchases) -> None:
    """Raise a DataError where a submission is not what Kaggle accepts for these customers and articles."""
    table = pacsv.read_csv(path, convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())))
    if tuple(table.column_names) != COLUMNS:
        raise DataError(f"{path} has the header {','.join(table.column_names)}, expected {','.join(COLUMNS)}")
    wrong = table.filter(pc.invert(pc.match_substring_regex(table[COLUMNS[1]], _LINE)))
    if wrong.num_rows:
        found = wrong[COLUMNS[1]][0].as_py()
        raise DataError(f"{path}: {wrong.num_rows} lines are not {SUBMISSION_K} ten-digit ids, such as {found!r}")
    users = np.sort(data.user_index_of(table[COLUMNS[0]].combine_chunks()))
    if not np.array_equal(users, np.arange(data.n_users)):
        raise DataError(f"{path} has {len(np.unique(users[users >= 0])):,} of {data.n_users:,} customers, not all once")
    items = data.item_index_of(pc.split_pattern(table[COLUMNS[1]], " ").combine_chunks().flatten())
    if not items.all():
        raise DataError(f"{path} names {int((items == 0).sum()):,} articles that {data.folder} does not hold")
    if (np.diff(np.sort(items.reshape(-1, SUBMISSION_K), axis=1)) == 0).any():
        raise DataError(f"{path} names an article twice for a customer; expected {SUBMISSION_K} different ones")
