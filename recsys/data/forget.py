"""Users removed from what is written: prepared folders, and tables with a row a user or more."""

from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.purchases import open_purchases
from recsys.errors import DataError
from recsys.schema import USER_ID
from recsys.storage import replacing

#: In the manifest of a prepared folder: its fingerprints before users were removed, the oldest first.
FORGOTTEN_FROM: Final = "forgotten_from"


def fingerprints_of(manifest: dict[str, object]) -> set[str]:
    """Return the fingerprint of prepared data and those of the data before users were removed from them."""
    earlier = manifest.get(FORGOTTEN_FROM, [])
    return {str(manifest.get("fingerprint")), *(earlier if isinstance(earlier, list) else [])}


class Forgotten(NamedTuple):
    """What was removed from a prepared folder."""

    n_users: int = 0
    n_events: int = 0
    n_days: int = 0  # by which the data now end earlier


def forget_in_folder(folder: Path, user_ids: pa.Array) -> Forgotten:
    """Write the prepared ``folder`` anew without users, whole or not at all.

    Items keep their numbers; the other users move up. DataError where nobody's purchases would be left.
    """
    log = open_purchases(folder)
    is_kept = np.ones(log.n_users, dtype=bool)
    index = log.user_index_of(user_ids)
    is_kept[index[index >= 0]] = False
    if is_kept.all():
        return Forgotten()
    kept = np.flatnonzero(is_kept)
    rest = log.of_users(kept)
    if not rest.n_events:
        raise DataError(f"{folder} holds purchases of these users alone; remove the folder instead")
    users = log.users.to_arrow().take(pa.array(kept))
    users = pa.table([_met_only(column) for column in users.columns], schema=users.schema)
    tables = {"items": log.items.to_arrow(), "users": users}
    if log.promotions is not None:
        tables["promotions"] = log.promotions.to_arrow()
    earlier = [*log.manifest.get(FORGOTTEN_FROM, []), log.fingerprint]
    replace(rest, folder=None, tables=tables, manifest=log.manifest | {FORGOTTEN_FROM: earlier}).save(
        folder, force=True
    )
    n_events, n_days = log.n_events - rest.n_events, log.last_day - rest.last_day
    return Forgotten(log.n_users - len(kept), n_events, n_days)


def forget_in_table(path: Path, user_ids: pa.Array) -> int:
    """Write a Parquet table anew without the rows of users, and return how many there were; without user_id none."""
    with pq.ParquetFile(path) as source:
        columns = source.schema_arrow
        if USER_ID not in columns.names:
            return 0
        groups = range(source.num_row_groups)
        ids = (source.read_row_group(group, columns=[USER_ID])[USER_ID].cast(pa.string()) for group in groups)
        if not any(pc.any(pc.is_in(each, value_set=user_ids)).as_py() for each in ids):
            return 0
        n_rows = 0
        with replacing(path) as aside, pq.ParquetWriter(aside, columns) as writer:
            for group in groups:
                table = source.read_row_group(group)
                rest = table.filter(pc.invert(pc.is_in(table[USER_ID].cast(pa.string()), value_set=user_ids)))
                place = columns.get_field_index(USER_ID)
                writer.write_table(rest.set_column(place, columns.field(place), _met_only(rest[USER_ID])))
                n_rows += len(table) - len(rest)
    return n_rows


def _met_only(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose dictionary, if it has one, holds none but the values that occur."""
    if not pa.types.is_dictionary(column.type):
        return column
    return column.cast(column.type.value_type).dictionary_encode().cast(column.type)
