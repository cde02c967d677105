"""From data frames to prepared data in memory: the way of ``recsys dataset main`` with a column map, without files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw
import pyarrow as pa

from recsys import schema
from recsys.config import DataConfig
from recsys.data.arrow_columns import Use
from recsys.data.clean import Cleaned, clean
from recsys.data.engine import Engine, PolarsEngine
from recsys.data.expressions import clean_text
from recsys.data.native import FrameStyle, OpenedFrame, narwhals_frame, open_frame, require_column
from recsys.data.planned_promotions import usable_promotions
from recsys.data.sources.base import RawTables, Rule
from recsys.data.sources.table import event_columns, mended_ids
from recsys.errors import DataError

_EVENTS = "the frame of purchases"


@dataclass(frozen=True)
class Frames:
    """The frames somebody gave: purchases, and perhaps what is known of items and users and what is promoted."""

    events: Any
    items: Any = None
    users: Any = None
    promotions: Any = None


def clean_frames(frames: Frames, columns: Mapping[str, str], *, newer: bool = False) -> tuple[Cleaned, FrameStyle]:
    """Return what can be used of the frames, and how they came; ``columns`` are names by the schema's.

    Of ``newer`` purchases optional columns may be missing, and items and promotions are not looked for in the frame of
    items: the log to be extended may know them.

    Raises:
        DataError: a frame or a column of it cannot be used, or nothing is left.
    """
    if newer:
        _, names = narwhals_frame(frames.events, _EVENTS)
        columns = {role: name for role, name in columns.items() if role in schema.EVENT_REQUIRED or name in names}
    opened = open_frame(frames.events, _EVENTS, columns.values())
    with PolarsEngine() as engine:
        tables, planned = _raw_tables(opened, frames, columns, engine), None
        if newer:
            planned = None if tables.promotions is None else usable_promotions(tables.promotions, engine, _EVENTS)[0]
            tables = replace(tables, promotions=None, partial_items=True, partial_users=True, sold_items_only=False)
        cleaned = clean(tables, DataConfig(), engine)
    return replace(cleaned, promotions=planned) if newer else cleaned, opened.style(columns)


def _raw_tables(opened: OpenedFrame, frames: Frames, columns: Mapping[str, str], engine: Engine) -> RawTables:
    events = engine.from_arrow(_events(opened, columns))
    roles = {role: role for role in columns}
    mended = mended_ids(roles, events)
    return RawTables(
        events=events.select(*event_columns(roles, events), *(rows.alias(name) for name, rows in mended.items())),
        items=_described(frames.items, "items", schema.ITEM_ID, columns, engine),
        users=_described(frames.users, "users", schema.USER_ID, columns, engine),
        promotions=_promotions(frames.promotions, columns, engine),
        rules=tuple(Rule(name.removeprefix("_"), nw.col(name), drops=False) for name in mended),
        sold_items_only=frames.items is None,
        origin=_EVENTS,
    )


def _events(opened: OpenedFrame, columns: Mapping[str, str]) -> pa.Table:
    """Return the columns of events under the schema's names."""
    if not len(opened.frame):
        raise DataError(f"{_EVENTS} has no rows, expected one row a purchase; check how it was made")
    uses: dict[str, Use] = {schema.TIME: "time", schema.PRICE: "number", schema.QUANTITY: "number"}
    return pa.table({role: opened.column(name, uses.get(role, "id")) for role, name in columns.items()})


def _described(
    frame: Any,  # noqa: ANN401 - of any library
    table: str,
    role: str,
    columns: Mapping[str, str],
    engine: Engine,
) -> nw.LazyFrame[Any] | None:
    """Return ids and attributes of items or users; None where no frame was given."""
    if frame is None:
        return None
    opened = open_frame(frame, f"the frame of {table}")
    column = _id_column(opened, columns[role], role)
    attributes = [name for name in opened.frame.columns if name not in (column, role)]
    read = {role: opened.column(column, "id")} | {name: opened.column(name, "attribute") for name in attributes}
    lazy = engine.from_arrow(pa.table(read))
    return lazy.select(clean_text(role, lazy.collect_schema()[role]).alias(role), *attributes)


def _id_column(opened: OpenedFrame, column: str, role: str) -> str:
    """Return the name of the column of ids: as in the purchases, else the schema's."""
    names = opened.frame.columns
    if column not in names and role in names:
        return role
    require_column(column, names, opened.what)
    return column


def _promotions(frame: Any, columns: Mapping[str, str], engine: Engine) -> nw.LazyFrame[Any] | None:  # noqa: ANN401
    """Return what is planned to be promoted; None where no frame was given."""
    if frame is None:
        return None
    opened = open_frame(frame, "the frame of promotions")
    item = _id_column(opened, columns[schema.ITEM_ID], schema.ITEM_ID)
    for name in (schema.START, schema.END):
        require_column(name, opened.frame.columns, opened.what)
    read = {schema.ITEM_ID: opened.column(item, "id")}
    read |= {name: opened.column(name, "time") for name in (schema.START, schema.END)}
    optional: tuple[tuple[str, Use, Any], ...] = ((schema.MEDIUM, "id", "promotion"), (schema.SHARE, "number", 1.0))
    for name, use, usual in optional:
        given = name in opened.frame.columns
        read[name] = opened.column(name, use) if given else pa.array([usual] * len(opened.frame))
    lazy = engine.from_arrow(pa.table(read))
    types = lazy.collect_schema()
    texts = [clean_text(name, types[name]).alias(name) for name in (schema.ITEM_ID, schema.MEDIUM)]
    return lazy.select(*texts, schema.START, schema.END, schema.SHARE)
