"""What a source returns, and how its files are found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import narwhals as nw

from recsys.config import DataConfig
from recsys.data.engine import Engine
from recsys.data.reading.limits import Limit
from recsys.errors import DataError, nearest

#: Endings under which a table may lie in a raw folder, in the order in which they are tried.
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zip", ".zip")


@dataclass(frozen=True)
class Rule:
    """A rule of a source: which rows of a raw table the report counts under ``name``, and whether they are dropped.

    ``rows`` is a boolean expression over the columns of that table as the source returns it; null counts as False.
    Columns that only a rule reads begin with ``_`` and are not kept.
    """

    name: str
    rows: nw.Expr
    drops: bool = True  # False: the rows were mended and stay
    is_stated: bool = False  # by the column map: shown even where it fits no row
    is_no_purchase: bool = False  # what it drops needs neither product nor date
    table: Literal["events", "items", "users"] = "events"  # only rules over events may drop


@dataclass(frozen=True)
class RawTables:
    """Raw tables of a source, with the columns that :mod:`recsys.schema` names.

    Without ``items`` (``users``) the table is made of the distinct ids of the events. An event whose item is not in
    ``items`` is dropped unless ``partial_items``; an event whose user is not in ``users`` is kept, that user without
    attributes. Every id of the tables is kept, with or without events, unless ``sold_items_only``.
    """

    events: nw.LazyFrame[Any]
    items: nw.LazyFrame[Any] | None = None
    users: nw.LazyFrame[Any] | None = None
    promotions: nw.LazyFrame[Any] | None = None
    inputs: tuple[Path, ...] = ()  # files read, for the manifest; the first is what messages name
    origin: str = "the input"  # what messages name where no file was read
    n_records: int | None = None  # rows of events, counted apart from the reading; both must agree
    notes: tuple[str, ...] = ()  # what was found out about the form of the files
    rules: tuple[Rule, ...] = ()
    limits: tuple[Limit, ...] = ()
    sold_items_only: bool = False  # leave items without a kept event out of the item table
    partial_items: bool = False  # ``items`` is known to lack some: events with these stay, and are no finding
    partial_users: bool = False  # ``users`` is known to cover only some of them: the others are no finding

    @property
    def adds_items(self) -> bool:
        """Whether an item that is not in ``items`` is one all the same."""
        return self.items is None or self.partial_items

    def rules_of(self, table: str) -> dict[str, Rule]:
        """Return the rules over ``table``, each under a name for the column of rows that it means."""
        return {f"_rule_{place}": rule for place, rule in enumerate(self.rules) if rule.table == table}


@dataclass(frozen=True)
class Source:
    """A source: its reader, and what reports say of it."""

    read: Callable[[DataConfig, Engine], RawTables]  # only looks at headers: rows flow when the engine collects
    note: str  # one or two sentences: whose data these are, and what must be said wherever they are used
    usual_raw: Callable[[], Path] | None = None  # the raw folder (or file) by default, else ``data/raw/<source>``


def find_table(folder: Path, name: str) -> Path:
    """Return the first file ``name`` plus suffix in ``folder``; DataError where there is none, or it is empty."""
    wanted = [f"{name}{suffix}" for suffix in SUFFIXES]
    found = next((folder / each for each in wanted if (folder / each).is_file()), None)
    if found is not None:
        return require_file(found)
    state = "does not exist; it should hold one of"
    if folder.exists():
        state = "holds none of" if folder.is_dir() else "is a file; expected a folder that holds one of"
    raise DataError(f"{folder} {state} {', '.join(wanted)}; put the file there or name its folder with --raw")


def require_file(path: Path, form: str = "a table with a header") -> Path:
    """Return ``path``; DataError, which says that ``form`` was expected, where it is no file, or an empty one."""
    if not path.is_file():
        raise DataError(f"{path} is missing; put the file there or name another with --raw")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; expected {form}; fetch it again")
    return path


def require_columns(frame: nw.LazyFrame[Any], columns: tuple[str, ...], origin: Path) -> nw.LazyFrame[Any]:
    """Return ``frame``; DataError where it lacks one of ``columns``; the nearest column found is named."""
    found = frame.collect_schema().names()
    for column in (name for name in columns if name not in found):
        close = nearest(column, found)
        hint = f"; is it the one called {close}? Rename it to {column}" if close else f"; add a column {column}"
        if len(found) == 1 and column in found[0]:
            hint = "; separate its columns by commas"
        raise DataError(f"{origin} has no column {column}; found {', '.join(found)}{hint}")
    return frame


def with_text_id(frame: nw.LazyFrame[Any], column: str, name: str, origin: Path) -> nw.LazyFrame[Any]:
    """Return ``frame`` with its id ``column`` first, as text called ``name``."""
    attributes = [other for other in frame.collect_schema().names() if other != column]
    require_columns(frame, (column,), origin)
    return frame.select(nw.col(column).cast(nw.String).alias(name), *attributes)
