"""Reader of any table of purchases, CSV or Parquet, by a column map: how a shop brings its own data.

Ids come out as clean text (see :func:`recsys.data.expressions.clean_text`) in every file alike, so that they meet.
Where decimals were taken from text, the rows are counted in the report, as ``1`` and ``1.0`` become one.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import narwhals as nw
from narwhals.dtypes import DType

from recsys import schema
from recsys.config import DataConfig
from recsys.data.engine import Engine
from recsys.data.expressions import clean_text, is_whole_decimal, number
from recsys.data.sources.base import RawTables, Rule, Source, require_file
from recsys.data.sources.column_map import TIME_PARTS, ColumnMap, DropRule, TableMap, load_column_map
from recsys.errors import DataError, nearest

_ENDINGS = (".parquet", ".csv", ".csv.gz", ".csv.zip", ".zip", ".gz", ".tsv", ".txt")


def read(config: DataConfig, engine: Engine) -> RawTables:
    """Return what the column map ``config.columns`` finds under ``config.raw``.

    Attributes taken from the purchases' own file are those of the rows that no rule drops. ConfigError where there is
    no column map, or it is not one; DataError where a file or a column is missing.
    """
    columns = load_column_map(config.columns)
    raw = config.raw or Path()
    folder = raw.parent if raw.is_file() else raw
    path = _purchases(raw, columns, config.columns)
    frame = _scan(engine, path, columns.separator)
    _require(frame, columns, path, config.columns)
    marks = {f"_drop_{place}": _condition(rule, frame) for place, rule in enumerate(columns.drop)}
    mended = mended_ids(columns.roles(), frame)
    events = frame.select(
        *event_columns(columns.roles(), frame, columns.time_format),
        *(mark.alias(name) for name, mark in (marks | mended).items()),
    )
    kept = frame
    for mark in marks.values():
        kept = kept.filter(~mark.fill_null(nw.lit(False)))
    items = _attributes(columns.items, schema.ITEM_ID, columns.item_id, kept, folder, engine)
    users = _attributes(columns.users, schema.USER_ID, columns.user_id, kept, folder, engine)
    parts = (columns.items, columns.users, columns.promotions)
    own_files = [folder / part.file for part in parts if part and part.file]
    return RawTables(
        events=events,
        items=items,
        users=users,
        promotions=_promotions(columns, folder, engine),
        inputs=(path, *own_files, *([config.columns] if config.columns else [])),
        rules=(
            *(Rule(rule.name, nw.col(name)) for name, rule in zip(marks, columns.drop, strict=True)),
            *(Rule(name.removeprefix("_"), nw.col(name), drops=False) for name in mended),
        ),
        sold_items_only=columns.items is None or columns.items.file is None,
        partial_users=columns.users is not None and columns.users.file is None,
    )


def _purchases(raw: Path, columns: ColumnMap, origin: Path | None) -> Path:
    """Return the file of purchases: ``raw`` itself, or the one in the folder ``raw`` that the map names."""
    if raw.is_file():
        if columns.file is not None and Path(columns.file).name != raw.name:
            raise DataError(
                f"data.raw is the file {raw}, but {origin} says file: {columns.file}; leave one of them out"
            )
        return require_file(raw)
    found = [path.name for path in sorted(raw.glob("*")) if path.name.endswith(_ENDINGS)]
    there = f"{raw} holds {', '.join(found) or 'no table'}" if raw.is_dir() else f"{raw} does not exist"
    if columns.file is None:
        raise DataError(f"{there}; name the file of purchases with --raw, or with 'file: NAME' in {origin}")
    if not (raw / columns.file).is_file():
        raise DataError(f"{raw / columns.file} is missing ({there}); put it there, or correct 'file' in {origin}")
    return require_file(raw / columns.file)


def _scan(engine: Engine, path: Path, separator: str) -> nw.LazyFrame[Any]:
    if not path.name.endswith(_ENDINGS):
        raise DataError(f"{path} ends in none of {', '.join(_ENDINGS)}; expected a CSV or Parquet file")
    return engine.scan(path) if path.suffix == ".parquet" else engine.scan_csv(path, separator)


def _require(frame: nw.LazyFrame[Any], columns: ColumnMap, path: Path, origin: Path | None) -> None:
    """Raise a DataError that names the map's key when a column is not in the file."""
    wanted = [*columns.roles().items()]
    for key, part in (("items.attributes", columns.items), ("users.attributes", columns.users)):
        wanted += [(key, name) for name in part.attributes] if part and part.file is None else []
    wanted += [(f"drop {rule.name}: column", rule.column) for rule in columns.drop]
    for key, column in wanted:
        _require_column(frame, column, f"{key}: {column}", path, str(origin))


def _require_column(frame: nw.LazyFrame[Any], column: str, line: str, path: Path, origin: str) -> None:
    found = frame.collect_schema().names()
    if column in found:
        return
    close = nearest(column, found)
    hint = f"did you mean {close}?" if close else "name one of these"
    if len(found) == 1:
        hint = "is the separator right? Say 'separator: \";\"' (or what it is) in the map"
    raise DataError(f"{origin} says '{line}', but {path} has no such column; found {', '.join(found)}; {hint}")


def event_columns(roles: Mapping[str, str], frame: nw.LazyFrame[Any], time_format: str | None = None) -> list[nw.Expr]:
    """Return the expressions of the schema's columns; ``roles`` says which column of ``frame`` each is made of."""
    types = frame.collect_schema()
    expressions = []
    for role, column in roles.items():
        if role == schema.TIME:
            value = _day(column, time_format, types[column])
        else:
            numeric = role in (schema.PRICE, schema.QUANTITY)
            value = nw.col(column) if numeric else clean_text(column, types[column])
        expressions.append(value.alias(role))
    return expressions


def _day(column: str, time_format: str | None, dtype: DType) -> nw.Expr:
    """Return a column of times as validation reads it; ``time_format`` says how they are written where that is text."""
    return iso_time(column, time_format) if time_format is not None and dtype == nw.String else nw.col(column)


def mended_ids(roles: Mapping[str, str], frame: nw.LazyFrame[Any]) -> dict[str, nw.Expr]:
    """Return for each id that is text which rows :func:`clean_text` takes the decimals from."""
    types = frame.collect_schema()
    return {
        f"_{role}_written_as_decimal": is_whole_decimal(roles[role])
        for role in (schema.USER_ID, schema.ITEM_ID)
        if types[roles[role]] == nw.String
    }


def _condition(rule: DropRule, frame: nw.LazyFrame[Any]) -> nw.Expr:
    """Return which rows the rule drops; null where the value is missing, except for the condition ``missing``."""
    dtype = frame.collect_schema()[rule.column]
    text = clean_text(rule.column, dtype)
    missing = text.is_null() | (text == "")
    present_text = nw.when(~missing).then(text)
    if rule.missing is not None:
        return missing if rule.missing else ~missing
    if rule.starts_with is not None:
        return present_text.str.starts_with(rule.starts_with)
    if rule.matches is not None:
        return present_text.str.contains(rule.matches)
    if rule.not_matches is not None:
        return ~present_text.str.contains(rule.not_matches)
    if rule.one_of is not None:
        return nw.when(~missing).then(text.is_in(rule.one_of))
    if isinstance(rule.equals, str):
        return present_text == rule.equals
    value = number(rule.column, dtype)
    present = nw.when(~value.is_nan()).then(value)
    if rule.less_than is not None:
        return present < rule.less_than
    if rule.at_most is not None:
        return present <= rule.at_most
    return present == rule.equals if rule.equals is not None else present > rule.more_than


def _own_file(
    engine: Engine, path: Path, separator: str, table: str, wanted: Iterable[tuple[str, str | None]]
) -> nw.LazyFrame[Any]:
    """Return the rows of a file of its own, which has the ``wanted`` columns: keys of the map and names."""
    frame = _scan(engine, require_file(path), separator)
    for key, name in wanted:
        if name is not None:
            _require_column(frame, name, f"{table}.{key}: {name}", path, "the column map")
    return frame


def _attributes(
    part: TableMap | None, role: str, column: str, kept: nw.LazyFrame[Any], folder: Path, engine: Engine
) -> nw.LazyFrame[Any] | None:
    """Return ``role`` and the attributes of each item or user, from a file of their own or from kept purchases."""
    if part is None:
        return None
    if part.file is None:
        return _most_frequent(kept, role, column, part.attributes)
    column = getattr(part, role) or column
    table = "items" if role == schema.ITEM_ID else "users"
    wanted = [(role, column), *(("attributes", name) for name in part.attributes)]
    frame = _own_file(engine, folder / part.file, part.separator, table, wanted)
    return frame.select(clean_text(column, frame.collect_schema()[column]).alias(role), *part.attributes)


def _promotions(columns: ColumnMap, folder: Path, engine: Engine) -> nw.LazyFrame[Any] | None:
    """Return what is planned to be promoted, from a file of its own."""
    part = columns.promotions
    if part is None:
        return None
    item_id, days = part.item_id or columns.item_id, {schema.START: part.start, schema.END: part.end}
    wanted = {"item_id": item_id, **days, "medium": part.medium, "share": part.share}
    frame = _own_file(engine, folder / part.file, part.separator, "promotions", wanted.items())
    types = frame.collect_schema()
    medium = nw.lit("promotion") if part.medium is None else clean_text(part.medium, types[part.medium])
    return frame.select(
        clean_text(item_id, types[item_id]).alias(schema.ITEM_ID),
        *(_day(name, part.time_format or columns.time_format, types[name]).alias(role) for role, name in days.items()),
        medium.alias(schema.MEDIUM),
        (nw.lit(1.0) if part.share is None else nw.col(part.share)).alias(schema.SHARE),
    )


def _most_frequent(
    kept: nw.LazyFrame[Any], role: str, column: str, attributes: tuple[str, ...]
) -> nw.LazyFrame[Any] | None:
    """Return for each id the most frequent present value of each attribute, the smallest of equally frequent ones."""
    types = kept.collect_schema()
    ids = clean_text(column, types[column]).alias(role)
    named = []
    for place, name in enumerate(attributes):  # empty text, and text of spaces alone, is null
        text = nw.col(name).str.strip_chars()
        named.append((nw.when(text != "").then(text) if types[name] == nw.String else nw.col(name)).alias(f"_{place}"))
    table = kept.select(ids, *named).filter(~nw.col(role).is_null(), nw.col(role) != "")
    result = None
    for place, name in enumerate(attributes):
        value, count = nw.col(f"_{place}"), nw.col("_count")
        counts = table.group_by(role, f"_{place}").agg(nw.len().alias("_count"))
        # An absent value counts as never seen, so that it is taken only where there is no other.
        counts = counts.with_columns(nw.when(~value.is_null()).then(count).otherwise(nw.lit(0)).alias("_count"))
        most = counts.filter(count == count.max().over(role)).group_by(role).agg(value.min().alias(name))
        result = most if result is None else result.join(most, on=role, how="inner")
    return result


def iso_time(column: str, time_format: str) -> nw.Expr:
    """Return text like ``2010-12-01 08:26:00`` from a text ``column`` written as ``time_format``; else the text itself.

    Numbers may lack leading zeros; a year of two digits is of this century. What the calendar does not have (a 31st of
    June) is not noticed here.
    """
    text = nw.col(column).str.strip_chars()
    pieces = re.split("(%.)", time_format.strip())
    patterns = [TIME_PARTS.get(piece, re.escape(piece)) for piece in pieces]
    part = {}
    for place, piece in enumerate(pieces):
        before, behind = "".join(patterns[:place]), "".join(patterns[place + 1 :])
        part[piece] = text.str.replace_all(f"^{before}", "").str.replace_all(f"{behind}$", "")
    joined = [part["%Y"] if "%Y" in part else nw.concat_str(nw.lit("20"), part["%y"])]
    for piece, mark in (("%m", "-"), ("%d", "-"), ("%H", " "), ("%M", ":"), ("%S", ":")):
        two_digits = nw.concat_str(nw.lit("0"), part[piece]).str.tail(2) if piece in part else nw.lit("00")
        joined += [nw.lit(mark), two_digits]
    fits = text.str.contains(f"^{''.join(patterns)}$")
    return nw.when(fits).then(nw.concat_str(*joined)).otherwise(text).alias(column)


SOURCES = {"table": Source(read, "A shop's own purchases, read through a column map.")}
