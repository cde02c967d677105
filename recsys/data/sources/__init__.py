"""The sources of purchases: each file of this folder reads some, and is found by listing the folder.

A file says by ``SOURCES`` which names of ``data.source`` it serves. The tables it returns have the columns of
:mod:`recsys.schema`.
"""

import difflib
from importlib import import_module
from pkgutil import iter_modules

from recsys.config import RAW_DIR, DataConfig
from recsys.data.engine import Engine
from recsys.data.sources.base import RawTables, Source
from recsys.errors import ConfigError


def all_sources() -> dict[str, Source]:
    """Return all sources by name, in the order of the alphabet."""
    files = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return dict(sorted(pair for file in files for pair in getattr(file, "SOURCES", {}).items()))


def source_named(name: str) -> Source:
    """Return the source that ``data.source`` names.

    Raises:
        ConfigError: there is none; the nearest known one is named.
    """
    known = all_sources()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise ConfigError(f"data.source is {name!r}, which is no source; {hint}")
    return known[name]


def read_source(config: DataConfig, engine: Engine) -> RawTables:
    """Return the raw tables of ``config.source``, from its usual place unless ``config.raw`` says otherwise.

    Raises:
        ConfigError: there is no such source.
        DataError: a file or a column is missing.
    """
    source = source_named(config.source)
    usual = source.usual_raw() if source.usual_raw else RAW_DIR / config.source
    return source.read(config.model_copy(update={"raw": config.raw or usual}), engine)
