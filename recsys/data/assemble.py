"""From cleaned events to prepared data: arrays, tables, counts and hashes, in memory and, where asked, in a folder."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import schema
from recsys.data.cleaned import Cleaned
from recsys.data.days import day_date
from recsys.data.ids import texts_of
from recsys.data.order import in_history_order
from recsys.data.planned_promotions import promotions_of
from recsys.storage import code_version, replacing, write_json


class Prepared(NamedTuple):
    """What a log is made of, see :mod:`recsys.schema`."""

    arrays: Mapping[str, np.ndarray]  # by name, offsets among them
    tables: Mapping[str, pa.Table]  # users, items and perhaps promotions
    channels: tuple[str, ...]  # names of channels 1, 2, …


def assemble(cleaned: Cleaned) -> Prepared:
    """Return ``cleaned`` as prepared data; its report learns the number of exact duplicates."""
    arrays, cleaned.report.exact_duplicates = in_history_order(cleaned.events, cleaned.users.num_rows)
    tables = {"users": cleaned.users, "items": cleaned.items}
    if cleaned.promotions is not None:
        tables["promotions"] = promotions_of(cleaned.promotions, texts_of(cleaned.items, schema.ITEM_ID))
    return Prepared(arrays, tables, cleaned.channels)


def write_folder(prepared: Prepared, folder: Path, about: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Write ``prepared`` to ``folder``, whole or not at all, and what validation found; return the manifest."""
    with replacing(folder, "manifest.json") as aside:
        aside.mkdir()
        manifest = about | write_prepared(prepared, aside) | {"code_version": code_version()}
        manifest |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "report": report}
        write_json(aside / "report.json", report)
        write_json(aside / "manifest.json", manifest)
    return manifest


def write_prepared(prepared: Prepared, folder: Path | None = None) -> dict[str, Any]:
    """Return counts and hashes of ``prepared`` as the manifest names them; all is written into ``folder``, if any."""
    arrays, tables = prepared.arrays, prepared.tables
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        of_tables = pool.map(lambda name: write_table(folder, name, tables[name]), tables)
        of_arrays = pool.map(lambda name: write_array(folder, name, arrays[name]), arrays)
        hashes, table_hashes = dict(zip(arrays, of_arrays, strict=True)), dict(zip(tables, of_tables, strict=True))
    if "promotions" in tables:
        hashes["promotions"] = table_hashes["promotions"]
    id_hashes = {schema.ITEM_ID: table_hashes["items"], schema.USER_ID: table_hashes["users"]}
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
        "channels": list(prepared.channels),
    }


def fingerprint_of(hashes: dict[str, str], id_hashes: dict[str, str]) -> str:
    """Return the hash over the hashes of all arrays and ids, in the order in which the manifest names them."""
    return hashlib.sha256("".join([*hashes.values(), *id_hashes.values()]).encode()).hexdigest()


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
    digest = hashlib.sha256()
    if name != "promotions":
        for batch in table.select([0]).to_batches(max_chunksize=65_536):
            lines = pc.binary_join_element_wise(batch.column(0).cast(pa.string()), "", "\n")
            _, offsets, text = lines.buffers()
            digest.update(text[: int(np.frombuffer(offsets, np.int32)[len(lines)])])
        return digest.hexdigest()
    for column in table.columns:
        values = column.combine_chunks()
        if pa.types.is_string(values.type):
            values = values.dictionary_encode()
            digest.update("\n".join(values.dictionary.to_pylist()).encode())
            values = values.indices
        digest.update(np.ascontiguousarray(values.to_numpy()).data)
    return digest.hexdigest()
