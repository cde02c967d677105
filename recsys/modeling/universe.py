"""Which items may be recommended at a date: what sold lately, a list, less a blocklist."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import DataError
from recsys.prepared import PreparedData, day_date
from recsys.schema import ITEM_ID


def candidates_at(
    data: PreparedData,
    day: int,
    sold_within_days: int | None,
    *,
    only: np.ndarray | None = None,
    blocked: np.ndarray | None = None,
) -> np.ndarray:
    """Return which items may be recommended at ``day``: (V,) bool, padding False.

    Args:
        data: the purchases; only those before ``day`` are read.
        day: the date asked.
        sold_within_days: keep items sold at least once in that many days before ``day``; None keeps all.
        only: item_index of a list to choose from.
        blocked: item_index of items never recommended; it wins over ``only``.

    Raises:
        DataError: nothing is left.
    """
    allowed = np.ones(data.n_items + 1, dtype=bool)
    if sold_within_days is not None:
        lately = (data.day >= day - sold_within_days) & (data.day < day)
        allowed &= np.bincount(data.item[lately], minlength=data.n_items + 1) > 0
    if only is not None:
        allowed &= np.isin(np.arange(data.n_items + 1), only)
    if blocked is not None:
        allowed[blocked] = False
    allowed[0] = False
    if not allowed.any():
        raise DataError(
            f"no item may be recommended at {day_date(day)} (data end {day_date(data.last_day)}); "
            "raise --sold-within-days, or shorten the blocklist"
        )
    return allowed


def read_item_list(path: Path, data: PreparedData) -> np.ndarray:
    """Return the item_index (n,) of the item ids in a file: text with one a line, or Parquet with ``item_id``.

    Raises:
        DataError: the file is missing, empty, or names an item that the data do not hold.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; expected item ids, one a line, or a Parquet table with {ITEM_ID}")
    ids = _ids(path)
    if not len(ids):
        raise DataError(f"{path} holds no item ids; expected one a line")
    index = data.item_index_of(ids)
    unknown = np.flatnonzero(index == 0)
    if len(unknown):
        raise DataError(
            f"{path}: {len(unknown)} of {len(ids)} items are unknown, such as {ids[int(unknown[0])].as_py()!r}; "
            f"expected ids as in the source, such as {data.item_ids[0].as_py()!r}"
        )
    return index


def _ids(path: Path) -> pa.Array:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path, columns=[ITEM_ID])[ITEM_ID].cast(pa.string()).combine_chunks()
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); expected item ids as text, or Parquet with {ITEM_ID}"
        ) from error
    ids = [line.strip() for line in lines if line.strip()]
    return pa.array(ids[1:] if ids[:1] == [ITEM_ID] else ids, type=pa.string())
