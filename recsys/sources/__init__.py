"""Readers: one module a source, each with ``read(config, engine)`` that returns raw tables.

The columns are those of :mod:`recsys.schema`. A reader only looks at headers; rows flow when the engine collects.
"""

from importlib import import_module

from recsys.config import RAW_DIR, DataConfig
from recsys.engine import Engine
from recsys.sources.base import RawTables

#: Module of each source of :class:`recsys.config.DataConfig`.
READERS = {
    "completejourney": "recsys.sources.completejourney",
    "hm": "recsys.sources.hm",
    "synthetic": "recsys.sources.hm",
    "sequences": "recsys.sources.sequences",
    "table": "recsys.sources.table",
}


def read_source(config: DataConfig, engine: Engine) -> RawTables:
    """Return the raw tables of ``config.source``, from ``data/raw/<source>`` unless ``config.raw`` says otherwise.

    Raises:
        DataError: a file or a column is missing.
    """
    located = config.model_copy(update={"raw": config.raw or RAW_DIR / config.source})
    tables: RawTables = import_module(READERS[config.source]).read(located, engine)
    return tables
