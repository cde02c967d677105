"""The sources of purchases: each file of this folder reads some, and is found by listing the folder.

A file says by ``SOURCES`` which names of ``data.source`` it serves. The tables it returns have the columns of
:mod:`recsys.schema`.
"""

from importlib import import_module
from pkgutil import iter_modules

from recsys.config import RAW_DIR, DataConfig
from recsys.data.engine import Engine
from recsys.data.sources.base import RawTables, Source
from recsys.errors import ConfigError, nearest


def all_sources() -> dict[str, Source]:
    """Return all sources by name, in the order of the alphabet."""
    files = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return dict(sorted(pair for file in files for pair in getattr(file, "SOURCES", {}).items()))


def read_source(config: DataConfig, engine: Engine) -> RawTables:
    """Return the raw tables of ``config.source``, from its usual place unless ``config.raw`` says otherwise.

    ConfigError where there is no such source, DataError where a file or a column is missing.
    """
    known = all_sources()
    if config.source not in known:
        close = nearest(config.source, known)
        hint = f"did you mean {close}?" if close else f"expected one of {', '.join(known)}"
        raise ConfigError(f"data.source is {config.source!r}, which is no source; {hint}")
    source = known[config.source]
    usual = source.usual_raw() if source.usual_raw else RAW_DIR / config.source
    return source.read(config.model_copy(update={"raw": config.raw or usual}), engine)
