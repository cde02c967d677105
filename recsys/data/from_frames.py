"""From data frames to cleaned events: the way of ``recsys dataset main`` with a column map, without files.

Whatever Narwhals knows is understood: pandas, Polars (eager or lazy), PyArrow, DuckDB relations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import narwhals as nw
import pyarrow as pa

from recsys import schema
from recsys.config import DataConfig
from recsys.data.clean import clean
from recsys.data.cleaned import Cleaned
from recsys.data.engine import PolarsEngine
from recsys.data.native import SCHEMA_NAMES, AnyFrame, FrameStyle, Use, column_as_arrow, shown
from recsys.data.planned_promotions import usable_promotions
from recsys.data.reading.column_map import ColumnMap, may_be_attribute
from recsys.data.reading.files import one_line
from recsys.data.reading.layout import OpenTable
from recsys.data.sources.table import raw_tables
from recsys.errors import DataError, nearest
from recsys.settings import validated

_EVENTS = "the frame of purchases"
_PLAN = (schema.START, schema.END, schema.MEDIUM, schema.SHARE)
_TIMES = (schema.TIME, schema.START, schema.END)
_NUMBERS = (schema.PRICE, schema.QUANTITY, schema.SHARE)
_EXPECTED = "expected a data frame of pandas, Polars, PyArrow or DuckDB"


class Frames(NamedTuple):
    """The frames somebody gave: purchases, and perhaps what is known of items and users and what is promoted."""

    events: AnyFrame
    items: AnyFrame = None
    users: AnyFrame = None
    promotions: AnyFrame = None


def clean_frames(
    frames: Frames, columns: Mapping[str, Any], *, newer: bool = False
) -> tuple[Cleaned, list[str], FrameStyle]:
    """Return what can be used of the frames, how texts were read, and how they came; ``columns`` are words of the map.

    Of ``newer`` purchases optional columns may be missing, and items and promotions are not looked for in the frame of
    items: the log to be extended may know them. DataError where a frame cannot be used, or nothing is left.
    """
    roles = {role: columns[role] for role in SCHEMA_NAMES if role in columns}
    if newer:
        _, names = _narwhals_frame(frames.events, _EVENTS)
        roles = {role: name for role, name in roles.items() if role in schema.EVENT_REQUIRED or name in names}
    opened = _in_memory(frames.events, _EVENTS, roles.values())
    if not len(opened):
        raise DataError(f"{_EVENTS} has no rows, expected one row a purchase; check how it was made")
    beside, parts = {}, {}
    for table, role in (("items", schema.ITEM_ID), ("users", schema.USER_ID), ("promotions", schema.ITEM_ID)):
        frame = getattr(frames, table)
        if frame is not None:
            beside[table], parts[table] = _beside(frame, table, role, roles[role])
    stated = {word: value for word, value in columns.items() if word not in SCHEMA_NAMES}
    column_map = validated(roles | stated | parts, ColumnMap, _EVENTS)
    with PolarsEngine() as engine:
        uses = {name: _use(role) for role, name in roles.items()}
        tables = raw_tables(_table(opened, uses, _EVENTS), beside, column_map, engine, _EVENTS)
        planned = None
        if newer:
            planned = None if tables.promotions is None else usable_promotions(tables.promotions, engine, _EVENTS)[0]
            tables = replace(tables, promotions=None, partial_items=True, partial_users=True, sold_items_only=False)
        cleaned = clean(tables, DataConfig(), engine)
    style = replace(FrameStyle.of(opened, roles), columns=dict(columns))
    return replace(cleaned, promotions=planned) if newer else cleaned, list(tables.notes), style


def _beside(frame: AnyFrame, table: str, role: str, column: str) -> tuple[OpenTable, dict[str, Any]]:
    """Return a frame beside the purchases, and the part of the column map that reads it.

    The column of ids is called ``column``, as in the purchases, else by its ``role``.
    """
    what = f"the frame of {table}"
    opened = _in_memory(frame, what)
    names = opened.columns
    column = role if column not in names and role in names else column
    is_plan = table == "promotions"
    for name in (column, *((schema.START, schema.END) if is_plan else ())):
        _require_column(name, names, what)
    others = [name for name in names if name not in (column, role) and (name in _PLAN if is_plan else True)]
    part: dict[str, Any] = {name: name for name in others}
    if not is_plan:
        others = [name for name in others if may_be_attribute(name)]
        part = {"attributes": others}
    uses = {column: _use(role)} | {name: _use(name) if is_plan else "attribute" for name in others}
    return _table(opened, uses, what), {"file": what, role: column} | part


def _table(frame: nw.DataFrame[Any], uses: Mapping[str, Use], what: str) -> OpenTable:
    columns = {name: column_as_arrow(frame[name], use, f"column {name} of {what}") for name, use in uses.items()}
    return OpenTable.from_arrow(pa.table(columns), what)


def _use(role: str) -> Use:
    return "time" if role in _TIMES else "number" if role in _NUMBERS else "id"


def _in_memory(frame: AnyFrame, what: str, wanted: Iterable[str] | None = None) -> nw.DataFrame[Any]:
    """Return ``frame``, lazy or not, in memory, its columns ``wanted`` alone where they are named."""
    opened, names = _narwhals_frame(frame, what)
    columns = list(names if wanted is None else wanted)
    for column in columns:
        if not isinstance(column, str):
            raise DataError(f"{what} has a column called {shown(column)}, expected names that are text; rename it")
        _require_column(column, names, what)
    try:
        chosen: nw.DataFrame[Any] | nw.LazyFrame[Any] = opened.select(list(dict.fromkeys(columns)))
        if isinstance(chosen, nw.LazyFrame):
            chosen = chosen.collect("polars" if chosen.implementation.is_polars() else "pyarrow")
    except Exception as error:
        raise DataError(f"{what} cannot be read ({one_line(error)}); {_EXPECTED}, and check how it was made") from error
    return chosen


def is_empty(frame: AnyFrame, what: str) -> bool:
    """Return whether ``frame`` has no row; a DataError says that it is no data frame."""
    first = _narwhals_frame(frame, what)[0].head(1)
    return len(first.collect() if isinstance(first, nw.LazyFrame) else first) == 0


def _narwhals_frame(frame: AnyFrame, what: str) -> tuple[Any, list[str]]:
    try:
        opened: Any = nw.from_native(frame)
        return opened, opened.collect_schema().names()
    except TypeError as error:
        raise DataError(f"{what} is {shown(frame)}; {_EXPECTED}") from error
    except Exception as error:
        raise DataError(f"{what} cannot be read ({one_line(error)}); {_EXPECTED} whose columns have names") from error


def _require_column(column: str, names: list[Any], what: str) -> None:
    if column not in names:
        close = nearest(column, names)
        hint = f"did you mean {close}?" if close else "name one of these"
        raise DataError(f"{what} has no column {column}; found {', '.join(map(str, names)) or 'none'}; {hint}")
