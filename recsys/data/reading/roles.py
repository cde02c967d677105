"""How the columns of a shop's purchases are read: ids as clean text, times, numbers, and which rows are no purchases.

Decided from all values of a column, by what the column map states and otherwise by evidence.
"""

import re
import tempfile
from pathlib import Path
from typing import Final

import narwhals as nw
import polars as pl

from recsys import schema
from recsys.data.reading.column_map import ColumnMap, DropRule
from recsys.data.reading.files import is_table, open_table
from recsys.data.reading.layout import LINE, FileForm
from recsys.data.reading.limits import Limit
from recsys.data.reading.times import FIRST_TIME, TimeForms, find_forms, time_of, tomorrow
from recsys.data.reading.values import NULL_WORDS, WHOLE, clean_text, decimal_of, is_missing, number_of
from recsys.errors import DataError, nearest

_TRUE, _FALSE = ("true", "yes", "y", "t", "1"), ("false", "no", "n", "f", "0")
_NUMBERS: Final = (schema.PRICE, schema.QUANTITY)
_SCIENTIFIC: Final = r"^[0-9]([.,][0-9]+)?[eE][+][0-9]+$"
#: Files beside the purchases that are looked into for a column that these lack.
_MOST_FILES: Final = 20
_TEXT_OF_TIME: Final = "_time_text"
_TIME: Final = "_time"


class RoleReader:
    """How the columns of the purchases are read, decided from all of their values."""

    def __init__(self, frame: pl.LazyFrame, columns: ColumnMap, place: str, folder: Path | None, origin: str) -> None:
        self.columns, self.origin = columns, origin
        self.types = dict(frame.collect_schema())
        self.ids = {schema.USER_ID: columns.user_id, schema.ITEM_ID: columns.item_id}
        self._require(place, folder)
        self.notes: list[str] = []
        self.words = NULL_WORDS if columns.missing is None else tuple(word.strip().lower() for word in columns.missing)
        self.frame = self._with_time_text(frame)
        self.formats = self._time_forms()
        self.decimals = self._decimal_signs()
        self.frame = self._with_values()

    def _require(self, place: str, folder: Path | None) -> None:
        """Raise a DataError that names the map's key when a column is not in the file."""
        columns, found = self.columns, [name for name in self.types if name != LINE]
        wanted = [*columns.roles().items(), *((schema.TIME, name) for name in columns.time)]
        for key, part in (("items.attributes", columns.items), ("users.attributes", columns.users)):
            wanted += [(key, name) for name in part.attributes] if part and part.file is None else []
        wanted += [(f"drop {rule.name}: column", rule.column) for rule in columns.drop]
        wanted += [("decimal", name) for name in columns.decimal] if isinstance(columns.decimal, dict) else []
        for key, column in wanted:
            require_column(found, column, f"{key}: {column}", place, self.origin, folder)

    def _with_time_text(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return ``frame`` with the time as one text in ``_time_text``, or as it is where it has a type of its own."""
        names = self.columns.time
        dtype = self.types[names[0]]
        if len(names) == 1 and dtype.is_temporal():
            if isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, self.columns.timezone):
                self.notes.append(f"times are the clock of {self.columns.timezone or dtype.time_zone}")
            return frame.with_columns(pl.col(names[0]).alias(_TEXT_OF_TIME))
        texts = [clean_text(name, self.types[name]) for name in names]
        if len(names) == 2:
            texts[0] = texts[0].str.replace(r"[ T]0?0:00(:00([.]0+)?)?$", "")
            texts[1] = texts[1].str.replace(r"^(1899-12-3[01]|1904-01-01)[ T]", "")  # of a workbook's clock
        return frame.with_columns(pl.concat_str(texts, separator=" ", ignore_nulls=True).alias(_TEXT_OF_TIME))

    def _time_forms(self) -> tuple[str, ...]:
        """Return the forms of the times: those that the map states, or those that the values leave no doubt of."""
        if self.frame.collect_schema()[_TEXT_OF_TIME].is_temporal():
            return ()
        if self.columns.time_format is not None:
            return self.columns.time_format
        found = self._found_forms()
        if found.question:
            raise DataError(f"{self.origin}: {found.question}")
        if any(not form.startswith("%Y-%m-%d") or form.endswith("%z") for form in found.formats):
            self.notes.append(f"times are read as {found.evidence}")
        return found.formats

    def _found_forms(self) -> TimeForms:
        texts = pl.col(_TEXT_OF_TIME).cast(pl.String).unique(maintain_order=True)
        return find_forms(self.frame.select(texts).collect()[_TEXT_OF_TIME])

    def _decimal_signs(self) -> dict[str, str]:
        """Return the decimal sign of each column of text that holds numbers; what is open is as in the others."""
        named = [getattr(self.columns, role) for role in _NUMBERS]
        compared = [rule.column for rule in self._rules_of_numbers()]
        texts = [name for name in dict.fromkeys([*named, *compared]) if name and self.types[name] == pl.String]
        stated = self.columns.decimal
        if isinstance(stated, str):
            return dict.fromkeys(texts, stated)
        values = {
            name: self.frame.select(pl.col(name).unique().sort()).collect()[name].drop_nulls().to_list()
            for name in texts
        }
        signs: dict[str, str] = {name: decimal_of(column) for name, column in values.items()}
        signs |= stated or {}
        clear = {signs[name] for name in values if signs[name] != "?" and re.search("[.,]", "".join(values[name]))}
        for name in (name for name, sign in signs.items() if sign == "?"):
            # Where no number is without a sign, it may be as well that of decimals, whatever the others have.
            if len(clear) != 1 or not any(re.fullmatch(r"\W*[0-9]+\W*", text) for text in values[name]):
                shown = next(text for mark in ",." for text in values[name] if mark in text)
                signs_of = (f'{{{name}: "{sign}"}}' if clear else f'"{sign}"' for sign in ",.")
                lines = "write " + " or ".join(f"decimal: {each}" for each in signs_of)
                raise DataError(f"{self.origin}: numbers such as {shown} may be read in two ways; {lines}")
            (signs[name],) = clear
        if commas := ", ".join(name for name, sign in signs.items() if sign == ","):
            self.notes.append(f"numbers of {commas} have a decimal comma")
        return signs

    def _with_values(self) -> pl.LazyFrame:
        """Return the frame with what its texts mean: times, numbers and clean ids, each distinct text read once."""
        columns, frame, types = self.columns, self.frame, self.frame.collect_schema()
        if self.formats and types[_TEXT_OF_TIME] == pl.String:
            time = time_of(pl.col(_TEXT_OF_TIME), self.formats, columns.timezone).alias(_TIME)
            frame = _joined_by_text(frame, _TEXT_OF_TIME, [time])
        numbers = {getattr(columns, role) for role in _NUMBERS} | {rule.column for rule in self._rules_of_numbers()}
        texts = {column for role, column in columns.roles().items() if role not in _NUMBERS}
        texts |= {rule.column for rule in columns.drop}
        for column in sorted(name for name in (numbers | texts) if name and self.types[name] == pl.String):
            text, made = pl.col(column), [clean_text(column, self.types[column]).alias(f"_clean {column}")]
            made.append(is_missing(text).alias(f"_missing {column}"))
            if column in numbers:
                number = pl.when(~is_missing(text)).then(number_of(text, self.decimals[column]))
                made.append(number.alias(f"_number {column}"))
            frame = _joined_by_text(frame, column, made)
        return frame

    def clean(self, column: str) -> pl.Expr:
        """Return a column of ids or the like as text: no spaces around it, and no decimals of a whole number."""
        is_text = self.types[column] == pl.String
        return pl.col(f"_clean {column}") if is_text else clean_text(column, self.types[column])

    def number(self, column: str) -> pl.Expr:
        """Return a column as Float64, null where it is missing or none."""
        is_text = self.types[column] == pl.String
        return pl.col(f"_number {column}") if is_text else pl.col(column).cast(pl.Float64, strict=False)

    def unreadable(self, column: str) -> pl.Expr:
        """Return where a column holds something that is no number."""
        if self.types[column] != pl.String:
            return pl.lit(value=False)
        return ~pl.col(f"_missing {column}") & self.number(column).is_null()

    def time(self) -> pl.Expr:
        """Return the time as Datetime or Date."""
        text, dtype = pl.col(_TEXT_OF_TIME), self.frame.collect_schema()[_TEXT_OF_TIME]
        if not dtype.is_temporal():
            return pl.col(_TIME) if self.formats else pl.lit(None, pl.Datetime("us"))
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            zone = self.columns.timezone or dtype.time_zone
            return text.dt.convert_time_zone(zone).dt.replace_time_zone(None)
        return text

    def event_columns(self) -> list[pl.Expr]:
        """Return the columns of the schema, and beside them the texts that messages show."""
        made = [self.time().alias(schema.TIME), pl.col(_TEXT_OF_TIME).cast(pl.String)]
        if LINE in self.types:
            made.append(pl.col(LINE))
        for role, column in self.columns.roles().items():
            if role in _NUMBERS:
                made += [self.number(column).alias(role), pl.col(column).cast(pl.String).alias(f"_{role}_text")]
            else:
                made.append(self.clean(column).alias(role))
        return made

    def lost(self) -> dict[str, pl.Expr]:
        """Return rows that are no purchases of anybody, by what they are counted under."""
        rows = {
            f"{role}_written_as_missing": (self.clean(name) != "") & is_missing(self.clean(name), self.words)
            for role, name in self.ids.items()
            if self.types[name] == pl.String or self.columns.missing is not None
        }
        time = self.time().cast(pl.Datetime("us"))
        # Where columns are called 1, 2, … for want of a header, a customer and a product may be so too, but no time.
        named = (self.clean(name) == name for name in self.ids.values())
        is_time = pl.col(_TEXT_OF_TIME).cast(pl.String) == " ".join(self.columns.time)
        rows["repeated_header"] = pl.all_horizontal(is_time, *named)
        return rows | {"date_before_1980": time < FIRST_TIME, "date_in_the_future": time > tomorrow()}

    def findings(self) -> dict[str, pl.Expr]:
        """Return rows that stay although something is amiss, by what they are counted under."""
        rows: dict[str, pl.Expr] = {}
        for role, name in self.ids.items():
            if self.types[name] == pl.String:
                rows[f"{role}_written_as_decimal"] = pl.col(name).str.strip_chars().str.contains(WHOLE)
            if self.types[name] == pl.String or self.types[name].is_float():  # of floats: those that lost digits
                rows[f"{role}_in_scientific_notation"] = self.clean(name).str.contains(_SCIENTIFIC)
        for role in _NUMBERS:
            column = getattr(self.columns, role)
            if column is not None:
                rows[f"unreadable_{role}"] = self.unreadable(column)
        for rule in self._rules_of_numbers():
            rows[f"unreadable_in_rule_{rule.name}"] = self.unreadable(rule.column)
        return rows

    def _rules_of_numbers(self) -> list[DropRule]:
        """Return the rules that compare a column of text with a number, which true and false are not."""
        of_text = (rule for rule in self.columns.drop if self.types[rule.column] == pl.String)
        values = ((rule, (rule.equals, rule.less_than, rule.at_most, rule.more_than)) for rule in of_text)
        return [rule for rule, compared in values if any(type(value) in (int, float) for value in compared)]

    def limits(self) -> tuple[Limit, ...]:
        """Return what stops the command where it befalls too many rows."""
        time = nw.col(schema.TIME).is_null() & ~nw.col(_TEXT_OF_TIME).is_null()
        made = [Limit("bad_date", time, _TEXT_OF_TIME, self._time_advice)]
        decimal = 'write numbers alone, say decimal: "," or decimal: ".", or name another column'
        shown = {f"unreadable_{role}": f"_{role}_text" for role in _NUMBERS if getattr(self.columns, role) is not None}
        shown |= {f"unreadable_in_rule_{rule.name}": _TEXT_OF_TIME for rule in self._rules_of_numbers()}
        made += [Limit(name, nw.col(f"_{name}"), column, lambda: decimal) for name, column in shown.items()]
        advice = "name the column of products, or say which rows are none with a rule under 'drop:' (missing: true)"
        made.append(Limit("missing_item_id", nw.col(schema.ITEM_ID).is_null(), _TEXT_OF_TIME, lambda: advice))
        return tuple(made)

    def _time_advice(self) -> str:
        found = self._found_forms()
        if found.question:
            return found.question
        stated = " or ".join(self.formats) or "a date such as 2020-09-22"
        if not set(found.formats) - set(self.formats):
            return f"expected {stated}; correct them, or name these rows under 'drop:' if they are no purchases"
        shown = ", ".join(f'"{form}"' for form in found.formats)
        return f"expected {stated}; write time_format: " + (f"[{shown}]" if len(found.formats) > 1 else shown)

    def condition(self, rule: DropRule) -> pl.Expr:
        """Return which rows the rule drops; null where the value is missing, except for the condition ``missing``."""
        text = self.clean(rule.column)
        missing = text.is_null() | (text == "")
        present = pl.when(~missing).then(text)
        if rule.missing is not None:
            return missing if rule.missing else ~missing
        if rule.starts_with is not None:
            return present.str.starts_with(rule.starts_with)
        if rule.matches is not None:
            return present.str.contains(rule.matches)
        if rule.not_matches is not None:
            return ~present.str.contains(rule.not_matches)
        if rule.one_of is not None:
            return present.is_in(rule.one_of)
        if isinstance(rule.equals, bool):
            return present.str.to_lowercase().is_in(_TRUE if rule.equals else _FALSE)
        if isinstance(rule.equals, str):
            return present == rule.equals
        value = self.number(rule.column)
        if rule.less_than is not None:
            return value < rule.less_than
        if rule.at_most is not None:
            return value <= rule.at_most
        return value == rule.equals if rule.equals is not None else value > rule.more_than


def _joined_by_text(frame: pl.LazyFrame, column: str, made: list[pl.Expr]) -> pl.LazyFrame:
    """Return ``frame`` with what is ``made`` of the text in ``column``, computed once for each distinct text."""
    distinct = frame.select(pl.col(column).unique()).collect(engine="streaming")
    return frame.join(
        distinct.with_columns(made).lazy(), on=column, how="left", nulls_equal=True, maintain_order="left"
    )


def require_column(
    found: list[str], column: str, line: str, place: str, origin: str, folder: Path | None = None
) -> None:
    """Raise a DataError where ``column``, which a line of the map names, is not among those ``found``."""
    if column in found:
        return
    close = nearest(column, found)
    hint = f"did you mean {close}?" if close else "name one of these"
    twice = [name for name in found if name.startswith(f"{column} (column ")]
    if twice:
        hint = f"two columns are called {column}; give each a name of its own, or name {' or '.join(twice)}"
    elif len(found) == 1:
        hint = "is the separator right? Leave it out of the map, and it is found out"
    elif found == [str(number) for number in range(1, len(found) + 1)]:
        hint = "the file has no header: name columns by number, or say header: true"
    elif folder is not None and folder.is_dir() and (elsewhere := _in_another_file(column, found, folder)):
        name, on = elsewhere
        hint = f"it stands in {name} beside it; write join: {{file: {name}, on: {on}}}"
    raise DataError(f"{origin} says '{line}', but {place} has no such column; found {', '.join(found)}; {hint}")


def _in_another_file(column: str, found: list[str], folder: Path) -> tuple[str, str] | None:
    """Return the name of a table in ``folder`` that has ``column``, and a column that both have."""
    for path in sorted(folder.iterdir())[:_MOST_FILES]:
        if not path.is_file() or not is_table(path):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                names = open_table(path, FileForm(), Path(scratch)).columns
            except DataError:
                continue
        common = [name for name in names if name in found]
        if column in names and common:
            return path.name, common[0]
    return None
