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
from recsys.data.clean import Cleaned, clean
from recsys.data.engine import Engine, PolarsEngine
from recsys.data.native import AnyFrame, FrameStyle, Use, column_as_arrow, shown
from recsys.data.planned_promotions import usable_promotions
from recsys.data.reading.files import one_line
from recsys.data.reading.values import WHOLE, with_clean_text
from recsys.data.sources.base import RawTables, Rule
from recsys.errors import DataError, nearest

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


def clean_frames(frames: Frames, columns: Mapping[str, str], *, newer: bool = False) -> tuple[Cleaned, FrameStyle]:
    """Return what can be used of the frames, and how they came; ``columns`` are names by the schema's.

    Of ``newer`` purchases optional columns may be missing, and items and promotions are not looked for in the frame of
    items: the log to be extended may know them. DataError where a frame cannot be used, or nothing is left.
    """
    if newer:
        _, names = _narwhals_frame(frames.events, _EVENTS)
        columns = {role: name for role, name in columns.items() if role in schema.EVENT_REQUIRED or name in names}
    opened = _in_memory(frames.events, _EVENTS, columns.values())
    with PolarsEngine() as engine:
        tables, planned = _raw_tables(opened, frames, columns, engine), None
        if newer:
            planned = None if tables.promotions is None else usable_promotions(tables.promotions, engine, _EVENTS)[0]
            tables = replace(tables, promotions=None, partial_items=True, partial_users=True, sold_items_only=False)
        cleaned = clean(tables, DataConfig(), engine)
    return replace(cleaned, promotions=planned) if newer else cleaned, FrameStyle.of(opened, columns)


def _raw_tables(opened: nw.DataFrame[Any], frames: Frames, columns: Mapping[str, str], engine: Engine) -> RawTables:
    if not len(opened):
        raise DataError(f"{_EVENTS} has no rows, expected one row a purchase; check how it was made")
    read = {role: _column(opened, name, _use(role), _EVENTS) for role, name in columns.items()}
    events = engine.from_arrow(pa.table(read))
    types = events.collect_schema()
    mended = {
        f"_{role}_written_as_decimal": nw.col(role).str.strip_chars().str.contains(WHOLE)
        for role in (schema.USER_ID, schema.ITEM_ID)
        if types[role] == nw.String
    }
    return RawTables(
        events=with_clean_text(
            events.with_columns(nw.all(), **mended), [role for role in columns if _use(role) == "id"]
        ),
        items=_beside(frames.items, "items", schema.ITEM_ID, columns, engine),
        users=_beside(frames.users, "users", schema.USER_ID, columns, engine),
        promotions=_promotions(frames.promotions, columns, engine),
        rules=tuple(Rule(name.removeprefix("_"), nw.col(name), drops=False) for name in mended),
        sold_items_only=frames.items is None,
        origin=_EVENTS,
    )


def _promotions(frame: AnyFrame, columns: Mapping[str, str], engine: Engine) -> nw.LazyFrame[Any] | None:
    plans = _beside(frame, "promotions", schema.ITEM_ID, columns, engine, _PLAN)
    if plans is None:
        return None
    names = plans.collect_schema().names()
    medium = nw.col(schema.MEDIUM) if schema.MEDIUM in names else nw.lit("promotion")
    share = nw.col(schema.SHARE) if schema.SHARE in names else nw.lit(1.0)
    plans = plans.with_columns(medium.alias(schema.MEDIUM), share.alias(schema.SHARE))
    completed: nw.LazyFrame[Any] = with_clean_text(plans, [schema.MEDIUM])
    return completed


def _beside(
    frame: AnyFrame, table: str, role: str, columns: Mapping[str, str], engine: Engine, wanted: Iterable[str] = ()
) -> nw.LazyFrame[Any] | None:
    """Return the id ``role`` as text and the columns ``wanted``, all where none is; None where no frame was given.

    The column of ids is called as in the purchases, else by its role. Wanted times must be there.
    """
    if frame is None:
        return None
    what = f"the frame of {table}"
    opened = _in_memory(frame, what)
    names = opened.columns
    column = role if columns[role] not in names and role in names else columns[role]
    for name in (column, *(name for name in wanted if name in _TIMES)):
        _require_column(name, names, what)
    uses = {name: _use(name) for name in wanted if name in names} or dict.fromkeys(names, "attribute")
    read = {name: _column(opened, name, use, what) for name, use in uses.items() if name not in (column, role)}
    table_of_ids = pa.table({role: _column(opened, column, "id", what)} | read)
    cleaned: nw.LazyFrame[Any] = with_clean_text(engine.from_arrow(table_of_ids), [role])
    return cleaned


def _use(role: str) -> Use:
    return "time" if role in _TIMES else "number" if role in _NUMBERS else "id"


def _column(frame: nw.DataFrame[Any], name: str, use: Use, what: str) -> pa.Array:
    return column_as_arrow(frame[name], use, f"column {name} of {what}")


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
