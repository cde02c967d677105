"""Purchases of more customers than fit into memory: cleaned and put in order some customers at a time.

An engine puts all rows of a customer into one shard, and shards into the order of ids. A customer's number is its rank
within the shard behind all of the shards before. Shards are gone through twice: what is recommended, and how channels
are numbered, is known once all have been read.
"""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.config import DataConfig
from recsys.data.assemble import Prepared
from recsys.data.clean import clean_part, read_table
from recsys.data.cleaned import Part, Report, summed
from recsys.data.encode import in_label_order, require_few_channels
from recsys.data.engine import Engine, PolarsEngine
from recsys.data.ids import ascending, with_attributes
from recsys.data.order import Events, in_history_order
from recsys.data.planned_promotions import promotions_of
from recsys.data.refusals import require_usable
from recsys.data.sources.base import RawTables
from recsys.data.text_codes import places_in
from recsys.errors import ConfigError

#: Marks columns of the table of users beside those of events.
_OF_USERS: Final = "users:"
#: File of the table of users.
_USERS: Final = "users.arrow"


def shards_of(tables: RawTables, config: DataConfig, engine: Engine) -> list[Path]:
    """Return files of events, each beside the rows of its customers in the table of users; none as the engine says."""
    if not engine.in_shards:
        return []
    if config.top_k_items is not None:
        raise ConfigError("data.top_k_items counts the sales of all customers at once; prepare with data.engine=polars")
    frame = tables.events.with_columns(nw.col(schema.USER_ID).cast(nw.String))
    if tables.users is not None:
        names = tables.users.collect_schema().names()
        beside = (nw.col(name).alias(_OF_USERS + name) for name in names)
        users = tables.users.select(nw.col(schema.USER_ID).cast(nw.String), nw.lit(True).alias(_OF_USERS), *beside)
        frame = nw.concat([frame, users], how="diagonal")
    return engine.shards(frame, schema.USER_ID)


def assemble_shards(
    tables: RawTables, shards: list[Path], config: DataConfig, engine: Engine
) -> tuple[Prepared, Report]:
    """Return the purchases in ``shards``, mapped from files in the engine's folder, and the report.

    What is held of all of them at once is the table of items, and eight bytes a customer.
    """
    report = Report()
    item_table, known_items = read_table(tables, "items", schema.ITEM_ID, engine, report)
    whole, counts, report = _first_pass(tables, shards, known_items, config, engine.scratch, report)
    promotions = require_usable(whole, tables, known_items, config, engine, report)
    items, channels = ascending(whole.item_ids), whole.channels
    if len(channels):
        channels = in_label_order(channels, tables.events.collect_schema()[schema.CHANNEL])
        require_few_channels(len(channels))
    item_of, channel_of = _numbers(items, whole.item_ids), _numbers(channels, whole.channels)
    arrays, report.exact_duplicates = _second_pass(engine.scratch, counts, report.kept, item_of, channel_of)
    prepared = {"users": whole.users, "items": with_attributes(items, item_table, schema.ITEM_ID)}
    if promotions is not None:
        prepared["promotions"] = promotions_of(promotions, items)
    return Prepared(arrays, prepared, tuple(channels.to_pylist())), report


def _first_pass(
    tables: RawTables, shards: list[Path], known_items: pa.Array, config: DataConfig, folder: Path, report: Report
) -> tuple[Part, list[int], Report]:
    """Return the parts of all shards as one without events, how many users each has, and the report of all.

    Events are written to ``folder``, items and channels by their numbers in the part that is returned.
    """
    items = channels = sold = pa.array([], pa.string())
    habits, counts, total, writer = np.zeros(3, np.int64), [], asdict(report), None
    for place, path in enumerate(shards):
        with PolarsEngine() as local:
            found = Report()
            part = clean_part(_tables_in(path, tables, local), known_items, config, local, found)
        total, events = summed(total, asdict(found)), part.events
        items, item_of = _met(items, part.item_ids)
        channels, channel_of = _met(channels, part.channels)
        sold, _ = _met(sold, part.sold)
        habits = np.array([*(habits + part.habits)[:2], max(habits[2], part.habits[2])])
        channel = None if events.channel is None else channel_of[events.channel]
        columns = vars(replace(events, item=item_of[events.item], channel=channel))
        np.savez(folder / f"{place}.npz", **{name: column for name, column in columns.items() if column is not None})
        writer = writer or pa.ipc.new_file(str(folder / _USERS), part.users.schema)
        writer.write_table(part.users)
        counts.append(part.users.num_rows)
    if writer is not None:
        writer.close()
    users = pa.ipc.open_file(pa.memory_map(str(folder / _USERS))).read_all()
    none = np.zeros(0, np.int32)
    return Part(Events(none, none, none), items, users, channels, sold, habits), counts, Report(**total)


def _tables_in(path: Path, tables: RawTables, engine: Engine) -> RawTables:
    """Return the events and users of a shard."""
    frame = engine.scan_parquet(path)
    names = frame.collect_schema().names()
    events, users = [name for name in names if not name.startswith(_OF_USERS)], None
    if tables.users is not None:
        is_user = ~nw.col(_OF_USERS).is_null()
        attributes = (nw.col(name).alias(name.removeprefix(_OF_USERS)) for name in names[len(events) + 1 :])
        frame, users = frame.filter(~is_user), frame.filter(is_user).select(*attributes)
    return replace(tables, events=frame.select(*events), users=users)


def _met(known: pa.Array, ids: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return ``known`` with the new ones of ``ids`` (n,) behind, and the numbers of these."""
    met = pa.concat_arrays([known, ids.filter(pc.invert(pc.is_in(ids, value_set=known)))])
    return met, _numbers(met, ids)


def _numbers(known: pa.Array, ids: pa.Array) -> np.ndarray:
    """Return the number (1 + n,) int32 from 1 among ``known`` of each of ``ids`` (n,), behind a 0 for none."""
    return np.append(0, places_in(known, ids) + 1).astype(np.int32)


def _second_pass(
    folder: Path, counts: list[int], n_events: int, item_of: np.ndarray, channel_of: np.ndarray
) -> tuple[dict[str, np.ndarray], int]:
    """Return the arrays of :mod:`recsys.schema` mapped from ``folder``, and how many events equal the one before."""
    offsets, n_duplicates = [np.zeros(1, np.int64)], 0
    with ExitStack() as opened:
        files = {name: opened.enter_context((folder / name).open("wb")) for name in schema.EVENT_ARRAYS}
        for place, n_users in enumerate(counts):
            with np.load(folder / f"{place}.npz") as stored:
                events = Events(**stored)
            channel = None if events.channel is None else channel_of[events.channel].astype(np.int8)
            events = replace(events, item=item_of[events.item], channel=channel)
            arrays, n_same = in_history_order(events, n_users, first_user=sum(counts[:place]))
            n_duplicates += n_same
            for name, file in files.items():
                arrays[name].tofile(file)
            offsets.append(arrays[schema.OFFSETS][1:] + offsets[-1][-1])
    mapped = {
        name: np.memmap(folder / name, dtype, "r", shape=(n_events,)) for name, dtype in schema.EVENT_ARRAYS.items()
    }
    return {**mapped, schema.OFFSETS: np.concatenate(offsets)}, n_duplicates
