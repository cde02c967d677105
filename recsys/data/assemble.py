"""From cleaned events to prepared data: arrays, tables, counts and hashes, in memory and, where asked, in a folder."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.data.clean import Cleaned
from recsys.data.days import day_date
from recsys.data.engine import n_threads
from recsys.data.ids import id_first
from recsys.data.order import Histories, in_history_order, made_up
from recsys.storage import code_version, write_json

_NAMES = (*schema.EVENT_ARRAYS, schema.OFFSETS)


@dataclass(frozen=True)
class Assembled:
    """Prepared data, see :mod:`recsys.schema`."""

    arrays: dict[str, np.ndarray]  # by name, offsets among them
    tables: dict[str, pa.Table]  # items, users and perhaps promotions
    facts: dict[str, Any]  # counts and hashes for the manifest


def assemble(cleaned: Cleaned, folder: Path | None = None) -> Assembled:
    """Return ``cleaned`` as prepared data; all of it is written into ``folder`` on the way, where one is named.

    The report of ``cleaned`` learns its number of exact duplicates.
    """
    tables = _tables(cleaned.items, cleaned.users, cleaned.promotions)
    with ThreadPoolExecutor(n_threads()) as pool:
        # The tables first: sorting has stretches that leave a processor idle.
        written = {name: pool.submit(write_table, folder, name, table) for name, table in tables.items()}
        histories = in_history_order(cleaned.events, cleaned.users.num_rows, n_threads())
        arrays = {name: _named(name, histories) for name in _NAMES}
        hashes = dict(zip(_NAMES, pool.map(lambda name: write_array(folder, name, arrays[name]), _NAMES), strict=True))
        table_hashes = {name: hashing.result() for name, hashing in written.items()}
    cleaned.report.exact_duplicates = histories.n_duplicates
    facts = _facts(arrays, tables, hashes, table_hashes) | {"channels": list(cleaned.channels)}
    return Assembled(arrays, tables, facts)


def assembled(
    arrays: Mapping[str, np.ndarray], tables: Mapping[str, pa.Table], folder: Path | None = None
) -> Assembled:
    """Return prepared ``arrays`` and ``tables`` with counts and hashes; they are written into ``folder``, if any."""
    arrays = {name: np.ascontiguousarray(arrays[name], dtype=_dtype(name)) for name in _NAMES}
    tables = _tables(tables["items"], tables["users"], tables.get("promotions"))
    hashes = {name: write_array(folder, name, array) for name, array in arrays.items()}
    table_hashes = {name: write_table(folder, name, table) for name, table in tables.items()}
    return Assembled(arrays, tables, _facts(arrays, tables, hashes, table_hashes))


def _tables(items: pa.Table, users: pa.Table, promotions: pa.Table | None) -> dict[str, pa.Table]:
    tables = {"users": id_first(users, schema.USER_ID), "items": id_first(items, schema.ITEM_ID)}
    return tables if promotions is None else tables | {"promotions": promotions}


def _facts(
    arrays: Mapping[str, np.ndarray],
    tables: Mapping[str, pa.Table],
    hashes: dict[str, str],
    table_hashes: dict[str, str],
) -> dict[str, Any]:
    """Return counts and hashes as the manifest names them."""
    id_hashes = {schema.ITEM_ID: table_hashes["items"], schema.USER_ID: table_hashes["users"]}
    if "promotions" in tables:
        hashes = hashes | {"promotions": table_hashes["promotions"]}
    return {
        "n_events": len(arrays["item"]),
        "n_users": tables["users"].num_rows,
        "n_items": tables["items"].num_rows,
        "n_promotions": tables["promotions"].num_rows if "promotions" in tables else 0,
        "first_day": day_date(arrays["day"].min()).isoformat(),
        "last_day": day_date(arrays["day"].max()).isoformat(),
        "hashes": hashes,
        "id_hashes": id_hashes,
        "fingerprint": fingerprint_of(hashes, id_hashes),
    }


def fingerprint_of(hashes: dict[str, str], id_hashes: dict[str, str]) -> str:
    """Return the hash over the hashes of all arrays and ids, in the order in which the manifest names them."""
    return hashlib.sha256("".join([*hashes.values(), *id_hashes.values()]).encode()).hexdigest()


def _dtype(name: str) -> str:
    return "int64" if name == schema.OFFSETS else schema.EVENT_ARRAYS[name]


def _named(name: str, histories: Histories) -> np.ndarray:
    """Return the array ``name``, with what stands for a column that the source does not have."""
    if name == schema.OFFSETS:
        return histories.offsets
    values = histories.arrays.get(name)
    return made_up(name, int(histories.offsets[-1])) if values is None else values.astype(_dtype(name), copy=False)


def write_manifest(folder: Path, facts: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Write what validation found, and the manifest that is returned, into ``folder``."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = facts | {"code_version": code_version(), "created": created, "report": report}
    write_json(folder / "report.json", report)
    write_json(folder / "manifest.json", manifest)
    return manifest


def write_array(folder: Path | None, name: str, values: np.ndarray) -> str:
    """Return the SHA-256 of the bytes of ``values``, which are written into ``folder``, if there is one.

    Written and not memory-mapped: on a full disk a write fails with an error, a mapped page kills the process.
    """
    if folder is not None:
        with (folder / f"{name}.npy").open("wb") as stream:
            np.lib.format.write_array(stream, values, allow_pickle=False)
    return hashlib.sha256(values.data).hexdigest()


def write_table(folder: Path | None, name: str, table: pa.Table) -> str:
    """Return the SHA-256 of a table, which is written into ``folder``, if there is one.

    Of items and users it is that of their ids, one a line, which are the first column; of promotions all is meant.
    """
    if folder is not None:
        pq.write_table(table, folder / f"{name}.parquet")
    return _values_hash(table) if name == "promotions" else _ids_hash(table)


def _values_hash(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
            digest.update("\n".join(column.dictionary.to_pylist()).encode())
            column = column.indices
        digest.update(np.ascontiguousarray(column.to_numpy()).data)
    return digest.hexdigest()


def _ids_hash(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for batch in table.select([0]).to_batches(max_chunksize=65_536):
        lines = pc.binary_join_element_wise(batch.column(0).cast(pa.string()), "", "\n")
        _, offsets, text = lines.buffers()
        digest.update(text[: int(np.frombuffer(offsets, np.int32)[len(lines)])])
    return digest.hexdigest()
