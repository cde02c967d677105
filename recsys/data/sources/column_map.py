"""The column map of the source ``table``: which of a shop's columns mean what, and which rows are no purchases.

A closed set of words, checked before a row is read; nothing in a map is ever run as code.
"""

import re
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field, model_validator

from recsys import schema
from recsys.errors import ConfigError
from recsys.settings import CONFIGS_DIR, Section, read_yaml, validated

EXAMPLE = CONFIGS_DIR / "columns" / "online_retail.yaml"

#: Parts of a time that ``time_format`` can name, with the digits each may have.
TIME_PARTS = {"%Y": "[0-9]{4}", "%y": "[0-9]{2}"} | dict.fromkeys(("%m", "%d", "%H", "%M", "%S"), "[0-9]{1,2}")

#: Names of rules that validation applies to every source.
_TAKEN = ("missing_user_id", "missing_item_id", "bad_date", "unknown_item", "before_start", "from_end_on")


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
    parts = re.findall("%.?", text)
    unknown = [part for part in parts if part not in TIME_PARTS]
    if unknown:
        raise ValueError(f"{unknown[0]} is not among the parts it may have: {', '.join(TIME_PARTS)}")
    if len(set(parts)) < len(parts) or not {"%m", "%d"} < set(parts) or len({"%Y", "%y"} & set(parts)) != 1:
        raise ValueError("expected a year (%Y or %y), %m and %d, each once, such as '%d/%m/%Y %H:%M'")
    return text


def _attribute(name: str) -> str:
    if name.startswith("_") or name in (schema.USER_ID, schema.ITEM_ID):
        raise ValueError(f"an attribute cannot be called {name}; rename the column")
    return name


_File = Annotated[str, AfterValidator(_inside)]
_TimeFormat = Annotated[str, AfterValidator(_time_format)]
_Pattern = Annotated[str, AfterValidator(_pattern)]
_Separator = Annotated[str, Field(min_length=1, max_length=1)]
_Attributes = Annotated[tuple[Annotated[str, AfterValidator(_attribute)], ...], Field(min_length=1)]


class DropRule(Section):
    """Rows that are no purchases: a name for the report, a column, and exactly one condition on its value.

    A missing value meets no condition but ``missing``. Text is compared without the spaces around it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="what the validation report counts the rows under")
    column: str = Field(description="column of the purchases' file")
    missing: bool | None = Field(None, description="true: the value is absent or empty; false: it is there")
    equals: str | float | None = Field(None, description="the value is this")
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


class TableMap(Section):
    """What is known of items or users: columns of the purchases' file, or of a file of its own."""

    file: _File | None = Field(None, description="file of its own, within the raw folder; else the purchases' file")
    separator: _Separator = Field(",", description="between the columns of that file, where it is a CSV file")
    attributes: _Attributes = Field(description="columns kept; of the purchases' file, an id's most frequent value")


class ItemsMap(TableMap):
    """What is known of items."""

    item_id: str | None = Field(None, description="id column of that file; as in the purchases' file by default")


class UsersMap(TableMap):
    """What is known of users."""

    user_id: str | None = Field(None, description="id column of that file; as in the purchases' file by default")


class PromotionsMap(Section):
    """What is planned to be advertised or displayed: a file of its own, a row for each item and run of days.

    Only what is known before its days belongs there, past ones too: lists are made from what is planned for next week.
    """

    file: _File = Field(description="file of its own, within the raw folder")
    separator: _Separator = Field(",", description="between the columns of that file, where it is a CSV file")
    item_id: str | None = Field(None, description="id column of that file; as in the purchases' file by default")
    start: str = Field(description="first day: YYYY-MM-DD, or a Parquet date")
    end: str = Field(description="last day")
    time_format: _TimeFormat | None = Field(
        None, description="how these are written, where they are another text; as the purchases' time by default"
    )
    medium: str | None = Field(None, description="medium of promotion: mailer, display, …; one for all by default")
    share: str | None = Field(None, description="share of the shops that take part, above 0, at most 1; all by default")


class ColumnMap(Section):
    """Which column of a table of purchases means what."""

    file: _File | None = Field(None, description="purchases, within the raw folder; not needed where raw is the file")
    separator: _Separator = Field(",", description="between the columns of a CSV file")
    user_id: str = Field(description="who bought")
    item_id: str = Field(description="what was bought")
    time: str = Field(description="when: YYYY-MM-DD, with or without a time, or a Parquet date")
    time_format: _TimeFormat | None = Field(
        None, description="how the time is written, such as '%d/%m/%Y %H:%M', where it is another text"
    )
    price: str | None = Field(None, description="price of one piece")
    quantity: str | None = Field(None, description="pieces")
    channel: str | None = Field(None, description="where it was bought: shop, web, …")
    basket_id: str | None = Field(None, description="receipt or order; without it a day's purchases are one basket")
    items: ItemsMap | None = Field(None, description="what is known of items")
    users: UsersMap | None = Field(None, description="what is known of users")
    promotions: PromotionsMap | None = Field(None, description="what is planned to be promoted")
    drop: tuple[DropRule, ...] = Field((), description="rows that are no purchases; counted under the first that fits")

    @model_validator(mode="after")
    def _rules_have_names_of_their_own(self) -> Self:
        names = sorted(rule.name for rule in self.drop)
        for name, following in pairwise(names):
            if name == following:
                raise ValueError(f"two rules under drop are called {name}; give each a name of its own")
        return self

    def roles(self) -> dict[str, str]:
        """Return the columns of events that are mapped: name in the schema → name in the file."""
        named = {role: getattr(self, role) for role in (*schema.EVENT_REQUIRED, *schema.EVENT_OPTIONAL)}
        return {role: column for role, column in named.items() if column is not None}


def load_column_map(path: Path | None) -> ColumnMap:
    """Return the column map in the YAML file ``path``; a ConfigError says what is missing or cannot be meant."""
    if path is None:
        raise ConfigError(
            f"source: table needs a column map; write one after {EXAMPLE} and name it with --set data.columns=FILE"
        )
    if not path.is_file():
        raise ConfigError(f"column map {path} is missing; write one after {EXAMPLE}, or correct data.columns")
    settings: dict[str, Any] = read_yaml(path)
    lacking = [role for role in schema.EVENT_REQUIRED if role not in settings]
    if lacking and settings.keys() <= ColumnMap.model_fields.keys():
        raise ConfigError(f"{path} does not say which column is the {lacking[0]}; add a line '{lacking[0]}: COLUMN'")
    return validated(settings, ColumnMap, str(path))
