"""Readers: one module a source, each with ``read(config, engine)`` that returns raw tables.

The columns are those of :mod:`recsys.schema`. A reader only looks at headers; rows flow when the engine collects.
"""

from importlib import import_module
from pathlib import Path

from recsys.config import RAW_DIR, DataConfig
from recsys.data.engine import Engine
from recsys.data.sources.base import RawTables

#: Module of each source of :class:`recsys.config.DataConfig`.
READERS = {
    "completejourney": "recsys.data.sources.completejourney",
    "hm": "recsys.data.sources.hm",
    "synthetic": "recsys.data.sources.hm",
    "sequences": "recsys.data.sources.sequences",
    "table": "recsys.data.sources.table",
}


def read_source(config: DataConfig, engine: Engine) -> RawTables:
    """Return the raw tables of ``config.source``, from ``data/raw/<source>`` unless ``config.raw`` says otherwise.

    Without ``data/raw/hm`` H&M's tables may lie in ``data/raw`` itself, as whoever unpacked them there expects.

    Raises:
        DataError: a file or a column is missing.
    """
    located = config.model_copy(update={"raw": config.raw or _usual_place(config.source)})
    tables: RawTables = import_module(READERS[config.source]).read(located, engine)
    return tables


def _usual_place(source: str) -> Path:
    folder = RAW_DIR / source
    lies_above = source == "hm" and not folder.is_dir() and any(RAW_DIR.glob("transactions_train.*"))
    return RAW_DIR if lies_above else folder
