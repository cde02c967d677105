"""The column map of the source ``table``: which of a shop's columns mean what, and which rows are no purchases.

A closed set of words, checked before a row is read; nothing in a map is ever run as code.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from recsys import schema
from recsys.data.reading.layout import FileForm
from recsys.data.reading.times import DIRECTIVES, EXCEL_DAYS, SINCE_1970
from recsys.errors import ConfigError
from recsys.settings import CONFIGS_DIR, Section, read_yaml, validated

#: What ``recsys inspect`` writes where it could not decide.
UNDECIDED = "???"
EXAMPLE = CONFIGS_DIR / "columns" / "online_retail.yaml"

#: Names of rules that validation applies to every source.
_TAKEN = (
    *("missing_user_id", "missing_item_id", "bad_date", "unknown_item", "before_start", "from_end_on"),
    *("repeated_header", "date_before_1980", "date_in_the_future"),
)


def _inside(name: str) -> str:
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    if not name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in parts:
        raise ValueError("expected a path within the raw folder: relative, without '..'")
    return name


def _pattern(text: str) -> str:
    try:
        pc.match_substring_regex(pa.array([""]), pattern=text)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split()).removeprefix("Invalid regular expression: ")
        raise ValueError(f"not a regular expression of the RE2 dialect ({reason})") from error
    return text


def _time_format(text: str) -> str:
    if text in SINCE_1970 or text == EXCEL_DAYS:
        return text
    parts = re.findall("%.?", text)
    unknown = [part for part in parts if part not in DIRECTIVES]
    if unknown:
        raise ValueError(f"{unknown[0]} is not among the parts it may have: {', '.join(DIRECTIVES)}")
    days = {"%m", "%b", "%B"} & set(parts) if "%d" in parts else {"%j"} & set(parts)
    if len(set(parts)) < len(parts) or len(days) != 1 or len({"%Y", "%y"} & set(parts)) != 1:
        raise ValueError(
            "expected a year (%Y or %y), a month (%m or %b) and %d, or %j, each once, as '%d/%m/%Y %H:%M', or one of "
            f"{', '.join(SINCE_1970)} since 1970, {EXCEL_DAYS}"
        )
    return text


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("expected the name of a time zone such as Europe/Berlin or UTC") from error
    return name


def _listed(value: object) -> object:
    """Return a single value as a list of one."""
    return value if isinstance(value, list | tuple) or value is None else [value]


def _as_text(value: object) -> object:
    """Return the number of a column, where there is no header, as text; YAML makes numbers of them."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def may_be_attribute(name: str) -> bool:
    """Return whether an attribute may be called ``name``."""
    return not name.startswith("_") and name not in (schema.USER_ID, schema.ITEM_ID)


def _attribute(name: str) -> str:
    if not may_be_attribute(name):
        raise ValueError(f"an attribute cannot be called {name}; rename the column")
    return name


_File = Annotated[str, AfterValidator(_inside)]
_Files = Annotated[tuple[_File, ...], BeforeValidator(_listed)]
_Column = Annotated[str, BeforeValidator(_as_text)]
_TimeColumns = Annotated[tuple[_Column, ...], BeforeValidator(_listed), Field(min_length=1, max_length=2)]
_TimeFormats = Annotated[
    tuple[Annotated[str, AfterValidator(_time_format)], ...], BeforeValidator(_listed), Field(min_length=1)
]
_OwnId = Annotated[_Column | None, Field(description="id column of that file; as in the purchases' file by default")]
_Pattern = Annotated[str, AfterValidator(_pattern)]
_Separator = Annotated[str, Field(min_length=1, max_length=1)]
_Attributes = tuple[Annotated[_Column, AfterValidator(_attribute)], ...]


class DropRule(Section):
    """Rows that are no purchases: a name for the report, a column, and exactly one condition on its value.

    A missing value meets no condition but ``missing``. Text is compared without the spaces around it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="what the validation report counts the rows under")
    column: _Column = Field(description="column of the purchases' file")
    missing: bool | None = Field(None, description="true: the value is absent or empty; false: it is there")
    equals: StrictBool | StrictInt | StrictFloat | str | None = Field(
        None, description="the value is this; true: it says true, yes or 1"
    )
    one_of: tuple[str, ...] | None = Field(None, min_length=1, description="the value is one of these")
    starts_with: str | None = Field(None, min_length=1, description="the text begins with this")
    matches: _Pattern | None = Field(None, description="a regular expression is found in the text")
    not_matches: _Pattern | None = Field(None, description="a regular expression is not found in the text")
    less_than: float | None = Field(None, description="the number is smaller than this")
    at_most: float | None = Field(None, description="the number is this or smaller")
    more_than: float | None = Field(None, description="the number is greater than this")

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"rule {self.name} has {found}, expected exactly one of {', '.join(CONDITIONS)}")
        if self.name in _TAKEN:
            raise ValueError(f"a rule cannot be called {self.name}: every source has that one; choose another name")
        return self


CONDITIONS = tuple(name for name in DropRule.model_fields if name not in ("name", "column"))


class FileMap(Section):
    """How a file is written; what is left out is found out, and said."""

    separator: _Separator | None = Field(None, description="between the columns of a text file")
    encoding: str | None = Field(None, description="of a text file: utf-8, cp1252, utf-16, …")
    header: bool | None = Field(None, description="false: the first line is a row already; columns are then 1, 2, …")
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="of the columns, where they are fixed")
    sheet: str | None = Field(None, description="of a workbook; all sheets by default")

    @property
    def form(self) -> FileForm:
        """What is stated, as the reader takes it."""
        return FileForm(self.separator, self.encoding, self.header, self.widths, self.sheet)


class TableMap(FileMap):
    """What is known of items or users: columns of the purchases' file, or of a file of its own."""

    file: _File | None = Field(None, description="file of its own, within the raw folder; else the purchases' file")
    attributes: _Attributes = Field(description="columns kept; of the purchases' file, an id's most frequent value")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.attributes and self.file is None:
            raise ValueError("attributes: expected at least one column")
        return self


class JoinMap(FileMap):
    """Columns of another file, such as the customer and the time of each order."""

    file: _File = Field(description="file within the raw folder, a row for each key")
    on: Annotated[tuple[_Column, ...], BeforeValidator(_listed)] = Field(
        min_length=1, description="column, or columns, of the same name in both files"
    )


class ItemsMap(TableMap):
    """What is known of items."""

    item_id: _OwnId = None


class UsersMap(TableMap):
    """What is known of users."""

    user_id: _OwnId = None


class PromotionsMap(FileMap):
    """What is planned to be advertised or displayed: a file of its own, a row for each item and run of days.

    Only what is known before its days belongs there, past ones too: lists are made from what is planned for next week.
    """

    file: _File = Field(description="file of its own, within the raw folder")
    item_id: _OwnId = None
    start: _Column = Field(description="first day")
    end: _Column = Field(description="last day")
    time_format: _TimeFormats | None = Field(
        None, description="how these are written; found out, as the purchases' time is, by default"
    )
    medium: _Column | None = Field(None, description="medium of promotion: mailer, display, …; one for all by default")
    share: _Column | None = Field(
        None, description="share of the shops that take part, above 0, at most 1; all by default"
    )


class ColumnMap(FileMap):
    """Which column of a table of purchases means what."""

    file: _Files | None = Field(
        None, description="purchases, within the raw folder: a name, a pattern such as '2024-*.csv', or a list of them"
    )
    overlap: Literal["once", "all"] | None = Field(
        None, description="rows that two of these files or sheets hold alike: count them"
    )
    database: str | None = Field(
        None, description="address instead of files, such as postgresql://${SHOP_USER}:${SHOP_PASSWORD}@host/shop"
    )
    table: str | None = Field(None, description="of that database")
    query: str | None = Field(None, description="SELECT … instead of a table")
    join: Annotated[tuple[JoinMap, ...], BeforeValidator(_listed)] = Field((), description="files with more columns")
    user_id: _Column = Field(description="who bought")
    item_id: _Column = Field(description="what was bought")
    time: _TimeColumns = Field(description="when; two columns where the clock stands beside the day")
    time_format: _TimeFormats | None = Field(
        None,
        description="how the time is written, such as '%d/%m/%Y %H:%M', a list of such, seconds or milliseconds "
        "since 1970, or excel_days; found out by default",
    )
    timezone: Annotated[str, AfterValidator(_timezone)] | None = Field(
        None, description="of the shop: times with a zone and those since 1970 are brought to it"
    )
    decimal: Literal[".", ","] | dict[_Column, Literal[".", ","]] | None = Field(
        None, description="decimal sign of numbers, or of each column; found out by default"
    )
    missing: tuple[str, ...] | None = Field(
        None, description="words that stand for no customer or no product; NA, NULL, nan, … by default"
    )
    price: _Column | None = Field(None, description="price of one piece")
    quantity: _Column | None = Field(None, description="pieces")
    channel: _Column | None = Field(None, description="where it was bought: shop, web, …")
    basket_id: _Column | None = Field(None, description="receipt or order; without it a day's purchases are one basket")
    items: ItemsMap | None = Field(None, description="what is known of items")
    users: UsersMap | None = Field(None, description="what is known of users")
    promotions: PromotionsMap | None = Field(None, description="what is planned to be promoted")
    drop: tuple[DropRule, ...] = Field((), description="rows that are no purchases; counted under the first that fits")

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        for name, n in sorted(Counter(rule.name for rule in self.drop).items()):
            if n > 1:
                raise ValueError(f"two rules under drop are called {name}; give each a name of its own")
        for name, n in Counter((self.user_id, self.item_id, self.time[0])).items():
            if n > 1:
                raise ValueError(f"the column {name} is named twice among user_id, item_id and time; each has its own")
        if self.database is None and (self.table or self.query):
            raise ValueError("table and query are of a database; say database: ADDRESS too")
        if self.database is not None and self.file is not None:
            raise ValueError("found both file and database; leave one of them out")
        return self

    def roles(self) -> dict[str, str]:
        """Return the columns of events that are mapped, the time apart: name in the schema → name in the file."""
        optional = {role: getattr(self, role) for role in schema.EVENT_OPTIONAL}
        named = {schema.USER_ID: self.user_id, schema.ITEM_ID: self.item_id} | optional
        return {role: column for role, column in named.items() if column is not None}


def _with_on(joins: Any) -> Any:  # noqa: ANN401 - whatever a file holds
    """Return ``join`` with its key ``on``, which YAML 1.1 takes for true."""
    if isinstance(joins, list):
        return [_with_on(join) for join in joins]
    return {"on" if key is True else key: value for key, value in joins.items()} if isinstance(joins, dict) else joins


def load_column_map(columns: Path | dict[str, Any] | None) -> ColumnMap:
    """Return the column map of a YAML file, or what stands under ``data.columns``; ConfigError where it is none."""
    if columns is None:
        raise ConfigError(
            "source: table needs a column map; write one with `recsys inspect FILE --write shop.yaml`, or after "
            f"{EXAMPLE}, and name it with --set data.columns=FILE"
        )
    if isinstance(columns, dict):
        settings, origin = columns, "data.columns"
    elif columns.is_file():
        settings, origin = read_yaml(columns), str(columns)
    else:
        raise ConfigError(f"column map {columns} is missing; write one after {EXAMPLE}, or correct data.columns")
    settings = settings | ({"join": _with_on(settings["join"])} if "join" in settings else {})
    open_ = next((key for key, value in settings.items() if value == UNDECIDED), None)
    if open_ is not None:
        raise ConfigError(f"{origin}: {open_} is not decided yet; its line says what is asked; write the answer there")
    lacking = [role for role in schema.EVENT_REQUIRED if role not in settings]
    if lacking and settings.keys() <= ColumnMap.model_fields.keys():
        raise ConfigError(f"{origin} does not say which column is the {lacking[0]}; add a line '{lacking[0]}: COLUMN'")
    return validated(settings, ColumnMap, origin)
