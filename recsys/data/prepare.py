"""Write cleaned purchases as a folder of flat arrays and tables, whole or not at all."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.config import DataConfig
from recsys.data.clean import Cleaned, clean
from recsys.data.days import day_date
from recsys.data.engine import n_threads, open_engine
from recsys.data.order import Histories, in_history_order
from recsys.data.sources import read_source
from recsys.storage import code_version, replacing, require_absent, write_json


def prepare(config: DataConfig, *, force: bool = False) -> dict[str, Any]:
    """Write the prepared data of ``config`` to its folder, whole or not at all, and return the manifest.

    Raises:
        OutputExistsError: the folder exists and ``force`` is false.
        DataError: the input cannot be used.
    """
    require_absent(config.folder, force=force)
    with open_engine(config.engine) as engine:
        tables = read_source(config, engine)
        inputs = [{"name": path.name, "bytes": path.stat().st_size} for path in tables.inputs]
        cleaned = clean(tables, config, engine)
    with replacing(config.folder) as folder:
        folder.mkdir()
        manifest = _describe(config, inputs) | _write(cleaned, folder)
        write_json(folder / "report.json", cleaned.report.to_dict())
        write_json(folder / "manifest.json", manifest | {"report": cleaned.report.to_dict()})
    return manifest | {"report": cleaned.report.to_dict()}


def _describe(config: DataConfig, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": config.source,
        "settings": config.model_dump(mode="json"),
        "window": {"start": config.start, "end": config.end},
        "inputs": inputs,
        "code_version": code_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(cleaned: Cleaned, folder: Path) -> dict[str, Any]:
    """Write arrays and tables into ``folder``; return counts and hashes for the manifest."""
    n_users = cleaned.users.num_rows
    with ThreadPoolExecutor(n_threads()) as pool:
        # The tables first: sorting has stretches that leave a processor idle.
        user_hash = pool.submit(_write_table, folder / "users.parquet", cleaned.users, schema.USER_ID)
        item_hash = pool.submit(_write_table, folder / "items.parquet", cleaned.items, schema.ITEM_ID)
        histories = in_history_order(cleaned.events, n_users, n_threads())
        names = (*schema.EVENT_ARRAYS, schema.OFFSETS)
        hashes = dict(zip(names, pool.map(lambda name: _write_named(name, histories, folder), names), strict=True))
    cleaned.report.exact_duplicates = histories.n_duplicates
    id_hashes = {schema.ITEM_ID: item_hash.result(), schema.USER_ID: user_hash.result()}
    if cleaned.promotions is not None:
        hashes["promotions"] = _write_promotions(folder / "promotions.parquet", cleaned.promotions)
    return {
        "n_events": len(cleaned.events),
        "n_users": n_users,
        "n_items": cleaned.items.num_rows,
        "n_promotions": 0 if cleaned.promotions is None else cleaned.promotions.num_rows,
        "first_day": day_date(histories.arrays["day"].min()).isoformat(),
        "last_day": day_date(histories.arrays["day"].max()).isoformat(),
        "hashes": hashes,
        "id_hashes": id_hashes,
        "fingerprint": fingerprint_of(hashes, id_hashes),
    }


def fingerprint_of(hashes: dict[str, str], id_hashes: dict[str, str]) -> str:
    """Return the hash over the hashes of all arrays and ids, in the order in which the manifest names them."""
    return hashlib.sha256("".join([*hashes.values(), *id_hashes.values()]).encode()).hexdigest()


def _write_named(name: str, histories: Histories, folder: Path) -> str:
    """Write the array ``name``, with what stands for a column that the source does not have; return its SHA-256."""
    if name == schema.OFFSETS:
        return write_array(folder, name, histories.offsets)
    dtype = schema.EVENT_ARRAYS[name]
    made_up = {"price": np.nan, "channel": 0, "quantity": 1}
    values = histories.arrays.get(name)
    values = np.full(int(histories.offsets[-1]), made_up[name], dtype) if values is None else values
    return write_array(folder, name, values.astype(dtype, copy=False))


def write_array(folder: Path, name: str, values: np.ndarray) -> str:
    """Write ``values`` and return the SHA-256 of their bytes.

    Written and not memory-mapped: on a full disk a write fails with an error, a mapped page kills the process.
    """
    with (folder / f"{name}.npy").open("wb") as stream:
        np.lib.format.write_array(stream, values, allow_pickle=False)
    return hashlib.sha256(values.data).hexdigest()


def _write_promotions(path: Path, table: pa.Table) -> str:
    """Write ``table`` and return the SHA-256 of its values, column by column."""
    pq.write_table(table, path)
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
            digest.update("\n".join(column.dictionary.to_pylist()).encode())
            column = column.indices
        digest.update(np.ascontiguousarray(column.to_numpy()).data)
    return digest.hexdigest()


def _write_table(path: Path, table: pa.Table, column: str) -> str:
    """Write ``table``, ``column`` first, and return the SHA-256 of its ids, one a line."""
    table = table.select([column, *(name for name in table.column_names if name != column)])
    pq.write_table(table, path)
    digest = hashlib.sha256()
    for batch in table.select([column]).to_batches(max_chunksize=65_536):
        lines = pc.binary_join_element_wise(batch.column(0).cast(pa.string()), "", "\n")
        _, offsets, text = lines.buffers()
        digest.update(text[: int(np.frombuffer(offsets, np.int32)[len(lines)])])
    return digest.hexdigest()
