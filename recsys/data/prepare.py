"""Write cleaned purchases as a folder of flat arrays and tables, whole or not at all."""

from dataclasses import asdict
from typing import Any

from recsys.config import DataConfig
from recsys.data.assemble import assemble, write_folder
from recsys.data.clean import clean
from recsys.data.engine import open_engine
from recsys.data.shards import assemble_shards, shards_of
from recsys.data.sources import read_source
from recsys.spark import Spark
from recsys.storage import require_absent


def prepare(config: DataConfig, *, force: bool = False, spark: Spark = None) -> dict[str, Any]:
    """Write the prepared data of ``config`` to its folder, whole or not at all, and return the manifest.

    ``spark`` is a session of Spark or the address of a cluster, where that is the engine.
    OutputExistsError where the folder exists and ``force`` is false, DataError where the input cannot be used.
    """
    require_absent(config.folder, force=force)
    with open_engine(config.engine, spark) as engine:
        tables = read_source(config, engine)
        inputs = [{"name": path.name, "bytes": path.stat().st_size} for path in tables.inputs]
        settings = {"settings": config.model_dump(mode="json"), "window": {"start": config.start, "end": config.end}}
        about = {"source": config.source, **settings, "inputs": inputs, "notes": list(tables.notes)}
        about["stated_rules"] = [rule.name for rule in tables.rules if rule.is_stated]
        if shards := shards_of(tables, config, engine):
            prepared, report = assemble_shards(tables, shards, config, engine)
            return write_folder(prepared, config.folder, about, asdict(report))
        cleaned = clean(tables, config, engine)
    prepared = assemble(cleaned)  # the report learns of duplicates
    return write_folder(prepared, config.folder, about, asdict(cleaned.report))
