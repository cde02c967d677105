"""Reader of a shop's own purchases by a column map: files of any form, or a database.

What a cell means is decided here once, whatever the data engine: ids become clean text, times are read as the file
writes them, numbers by its decimal sign. What cannot be read is counted, and beyond a share it stops the command.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from recsys import schema
from recsys.config import DataConfig
from recsys.data.engine import Engine
from recsys.data.reading.column_map import ColumnMap, JoinMap, TableMap, load_column_map
from recsys.data.reading.databases import open_database
from recsys.data.reading.files import is_table, open_table, open_tables
from recsys.data.reading.layout import OpenTable
from recsys.data.reading.limits import MOST_LOST
from recsys.data.reading.roles import RoleReader, require_column
from recsys.data.reading.times import find_forms, time_of
from recsys.data.reading.values import clean_text
from recsys.data.sources.base import RawTables, Rule, Source
from recsys.errors import DataError


def read(config: DataConfig, engine: Engine) -> RawTables:
    """Return the purchases, items and users that the column map ``config.columns`` finds under ``config.raw``.

    ConfigError where there is no column map, DataError where a file or a column is missing, or its form is not clear.
    """
    columns = load_column_map(config.columns)
    map_file = config.columns if isinstance(config.columns, Path) else None
    origin = str(map_file or "data.columns")
    raw = config.raw or Path()
    folder = raw.parent if raw.is_file() else raw
    opened, paths = _purchases(raw, columns, origin, engine)
    opened = replace(opened, frame=_joined(opened, columns, folder, origin, engine))
    parts = {name: getattr(columns, name) for name in ("items", "users", "promotions")}
    beside = {
        name: open_table(folder / part.file, part.form, engine.scratch)
        for name, part in parts.items()
        if part is not None and part.file is not None
    }
    inputs = [*paths, *(folder / parts[name].file for name in beside), *(folder / part.file for part in columns.join)]
    tables = raw_tables(opened, beside, columns, engine, origin, folder)
    return replace(tables, inputs=(*inputs, *([map_file] if map_file else [])))


def raw_tables(
    opened: OpenTable,
    beside: Mapping[str, OpenTable],
    columns: ColumnMap,
    engine: Engine,
    origin: str,
    folder: Path | None = None,
) -> RawTables:
    """Return what ``columns``, which messages call ``origin``, make of opened purchases, from files or from frames.

    ``beside`` holds the tables of their own of ``items``, ``users`` and ``promotions``. Attributes taken from the
    purchases are, per id, the most frequent value among the rows that no rule drops; of values equally frequent the
    first in the alphabet. In ``folder`` other files may have a column that these lack.
    """
    table = RoleReader(opened.frame, columns, opened.origin, folder, origin)
    marks = {f"_drop_{place}": table.condition(rule) for place, rule in enumerate(columns.drop)}
    findings = {f"_{name}": rows for name, rows in table.findings().items()}
    lost = {f"_{name}": rows for name, rows in table.lost().items()}
    flags = {name: rows.fill_null(value=False).alias(name) for name, rows in (marks | findings | lost).items()}
    events = table.frame.select(*table.event_columns(), *flags.values())
    kept = table.frame.filter(~pl.any_horizontal(flags[name] for name in (*marks, *lost)))  # findings stay
    items = _attributes(columns.items, schema.ITEM_ID, columns.item_id, kept, beside.get("items"))
    users = _attributes(columns.users, schema.USER_ID, columns.user_id, kept, beside.get("users"))
    return RawTables(
        events=engine.adopt(events),
        items=None if items is None else engine.adopt(items),
        users=None if users is None else engine.adopt(users),
        promotions=_promotions(columns, table.formats, beside.get("promotions"), engine),
        origin=opened.origin,
        n_records=opened.n_records,
        notes=(*opened.notes, *table.notes),
        rules=(
            *(Rule(name[1:], nw.col(name), is_no_purchase=name == "_repeated_header") for name in lost),
            *(
                Rule(rule.name, nw.col(name), is_stated=True, is_no_purchase=True)  # such as a line of sums
                for name, rule in zip(marks, columns.drop, strict=True)
            ),
            *(Rule(name.removeprefix("_"), nw.col(name), drops=False) for name in findings),
        ),
        limits=table.limits(),
        sold_items_only="items" not in beside,
        partial_users=columns.users is not None and "users" not in beside,
    )


def _purchases(raw: Path, columns: ColumnMap, origin: str, engine: Engine) -> tuple[OpenTable, list[Path]]:
    """Return the table of purchases: that of the map's database, of the file ``raw``, or of the files the map names."""
    if columns.database is not None:
        stated = replace(columns.form, table=columns.table, query=columns.query)
        return open_database(columns.database, stated, engine.scratch), []
    if raw.is_file():
        if columns.file is not None and raw.name not in {Path(name).name for name in columns.file}:
            raise DataError(
                f"data.raw is the file {raw}, but {origin} says file: {', '.join(columns.file)}; leave one of them out"
            )
        return open_tables([raw], columns.form, engine.scratch, columns.overlap), [raw]
    found = [path.name for path in sorted(raw.glob("*")) if is_table(path)]
    there = f"{raw} holds {', '.join(found) or 'no table'}" if raw.is_dir() else f"{raw} does not exist"
    if columns.file is None:
        raise DataError(f"{there}; name the file of purchases with --raw, or with 'file: NAME' in {origin}")
    paths: list[Path] = []
    for name in columns.file:
        # What stands there under the very name is meant, whatever its brackets.
        matches = [raw / name] if (raw / name).is_file() else sorted(path for path in raw.glob(name) if path.is_file())
        if not matches:
            raise DataError(f"{raw / name} is missing ({there}); put it there, or correct 'file' in {origin}")
        paths += matches
    return open_tables(paths, columns.form, engine.scratch, columns.overlap), paths


def _joined(opened: OpenTable, columns: ColumnMap, folder: Path, origin: str, engine: Engine) -> pl.LazyFrame:
    """Return the purchases with the columns of joined files; DataError where keys match too few, or several rows."""
    frame = opened.frame
    for part in columns.join:
        other = open_table(folder / part.file, part.form, engine.scratch)
        for key in part.on:
            for place, names in ((opened.origin, frame.collect_schema().names()), (other.origin, other.columns)):
                require_column(names, key, f"join: on: {key}", place, origin)
        frame = _join(frame, other, part, opened.origin)
    return frame


def _join(frame: pl.LazyFrame, other: OpenTable, part: JoinMap, origin: str) -> pl.LazyFrame:
    types, taken = other.frame.collect_schema(), frame.collect_schema()
    kept = [name for name in other.columns if name in part.on or name not in taken]
    right = other.frame.select(kept).with_columns(clean_text(key, types[key]) for key in part.on).unique()
    twice = right.group_by(part.on).len().filter(pl.col("len") > 1).head(1).collect()
    if len(twice):
        shown = ", ".join(str(value) for value in twice.row(0)[:-1])
        raise DataError(
            f"{other.origin} has several rows for {' and '.join(part.on)} {shown}; expected one; is it the right key?"
        )
    left = frame.with_columns(clean_text(key, taken[key]) for key in part.on)
    unmatched = left.join(right, on=part.on, how="anti").select(pl.len(), pl.col(part.on[0]).first()).collect()
    total = left.select(pl.len()).collect().item()
    lost, example = unmatched.row(0)
    if lost > MOST_LOST * total:
        known = right.select(pl.col(part.on[0]).first()).collect().item()
        raise DataError(
            f"{lost:,} of {total:,} rows of {origin} have no row in {other.origin}, e.g. {part.on[0]} {example!r}; "
            f"there it is written like {known!r}; correct 'join: on'"
        )
    return left.join(right, on=part.on, how="left")


def _attributes(
    part: TableMap | None, role: str, column: str, kept: pl.LazyFrame, other: OpenTable | None
) -> pl.LazyFrame | None:
    """Return ``role`` and the attributes of each item or user, from a table of their own or from kept purchases."""
    if part is None:
        return None
    if other is None:
        return _most_frequent(kept, role, column, part.attributes)
    column = getattr(part, role) or column
    table = "items" if role == schema.ITEM_ID else "users"
    frame = _own_table(other, table, [(role, column), *(("attributes", name) for name in part.attributes)])
    return frame.select(clean_text(column, frame.collect_schema()[column]).alias(role), *part.attributes)


def _own_table(opened: OpenTable, table: str, wanted: Iterable[tuple[str, str | None]]) -> pl.LazyFrame:
    """Return the rows of a table of its own, which has the ``wanted`` columns: keys of the map and names."""
    for key, name in wanted:
        if name is not None:
            require_column(opened.columns, name, f"{table}.{key}: {name}", opened.origin, "the column map")
    return opened.frame


def _promotions(
    columns: ColumnMap, known: tuple[str, ...], other: OpenTable | None, engine: Engine
) -> nw.LazyFrame[Any] | None:
    """Return what is planned to be promoted, if anything is; ``known`` is how purchases' times are written."""
    part = columns.promotions
    if part is None or other is None:
        return None
    item_id, days = part.item_id or columns.item_id, {schema.START: part.start, schema.END: part.end}
    wanted = {"item_id": item_id, **days, "medium": part.medium, "share": part.share}
    frame = _own_table(other, "promotions", wanted.items())
    types = frame.collect_schema()
    formats = part.time_format or _formats(frame, [part.start, part.end], known)
    times = [_day(name, types[name], formats, columns.timezone).alias(role) for role, name in days.items()]
    medium = pl.lit("promotion") if part.medium is None else clean_text(part.medium, types[part.medium])
    share = pl.lit(1.0) if part.share is None else pl.col(part.share)
    item, named = clean_text(item_id, types[item_id]), {schema.MEDIUM: medium, schema.SHARE: share}
    return engine.adopt(frame.select(item.alias(schema.ITEM_ID), *times, **named))


def _formats(frame: pl.LazyFrame, names: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return how the days of promotions are written: by the first and the last together, else as those ``known``."""
    texts = [frame.select(pl.col(name).cast(pl.String).alias("text")) for name in names]
    days = pl.concat(texts).drop_nulls().unique(maintain_order=True).collect()
    found = find_forms(days["text"])
    if found.question and known and days.select(time_of(pl.col("text"), known).is_not_null().all()).item():
        return known
    if found.question:
        raise DataError(f"promotions: {found.question} under promotions")
    return found.formats


def _day(name: str, dtype: pl.DataType, formats: tuple[str, ...], timezone: str | None) -> pl.Expr:
    if dtype.is_temporal():
        return pl.col(name)
    return time_of(pl.col(name).cast(pl.String), formats, timezone) if formats else pl.lit(None, pl.Datetime("us"))


def _most_frequent(kept: pl.LazyFrame, role: str, column: str, attributes: tuple[str, ...]) -> pl.LazyFrame:
    """Return for each id the most frequent present value of each attribute, the smallest of equally frequent ones."""
    types = kept.collect_schema()
    named = []
    for name in attributes:  # empty text, and text of spaces alone, is null
        text = pl.col(name).str.strip_chars()
        named.append((pl.when(text != "").then(text) if types[name] == pl.String else pl.col(name)).alias(f"_{name}"))
    table = kept.select(clean_text(column, types[column]).alias(role), *named).filter(pl.col(role) != "")
    result = None
    for name in attributes:
        value = pl.col(f"_{name}")
        counts = table.group_by(role, value).len()
        # An absent value counts as never seen, so that it is taken only where there is no other.
        counts = counts.with_columns(pl.when(value.is_not_null()).then("len").otherwise(0).alias("len"))
        most = counts.filter(pl.col("len") == pl.col("len").max().over(role))
        most = most.group_by(role).agg(value.min().alias(name))
        result = most if result is None else result.join(most, on=role, how="inner")
    return table.select(role).unique() if result is None else result


SOURCES = {"table": Source(read, "A shop's own purchases, read through a column map.")}
