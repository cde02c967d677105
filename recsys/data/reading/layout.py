"""Where the records of a text begin, what parts their fields, and whether the first of them names columns."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

import polars as pl
import pyarrow as pa

from recsys.data.reading.values import content_of
from recsys.errors import DataError

#: Row numbers of the file, counted from 1 as an editor does; tables hold them beside their columns.
LINE: Final = "_line"
#: Position of a row's file among several.
FILE: Final = "_file"
SEPARATORS: Final = (",", ";", "\t", "|")
#: Records that are looked at to find out the form.
SHOWN_RECORDS: Final = 500
_HEAD_BYTES: Final = 1 << 18
#: Title lines above a header at most.
_MOST_TITLE_LINES: Final = 30


@dataclass(frozen=True)
class FileForm:
    """What is stated of a file, or a database; None is found out."""

    separator: str | None = None
    encoding: str | None = None
    header: bool | None = None
    widths: tuple[int, ...] = ()  # of the columns, where these have a fixed width
    sheet: str | None = None  # of a workbook; all by default
    table: str | None = None  # of a database
    query: str | None = None


@dataclass(frozen=True)
class Layout:
    """Where the records begin and what their columns are called."""

    separator: str
    names: tuple[str, ...]  # of the columns that are kept
    n_fields: int  # of a record; one more than names where each line ends with a separator
    first_line: int  # number of the first record's line, from 1
    has_header: bool

    @property
    def ends_open(self) -> bool:
        """Whether each line ends with a separator, behind which there is no column."""
        return self.n_fields > len(self.names)


@dataclass(frozen=True)
class OpenTable:
    """A table: its rows, how many there are by an independent count, and what was found out about its form."""

    frame: pl.LazyFrame
    origin: str
    n_records: int | None = None  # None where the file's own reader counts
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrow(cls, table: pa.Table, origin: str) -> Self:
        """Return a table in memory."""
        return cls(pl.DataFrame(pl.from_arrow(table)).lazy(), origin)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, without those that the readers add."""
        return [name for name in self.frame.collect_schema().names() if name not in (LINE, FILE)]


def first_lines(path: Path) -> str:
    """Return the first whole lines."""
    with path.open("rb") as stream:
        block = stream.read(_HEAD_BYTES)
        whole = block if len(block) < _HEAD_BYTES else block[: block.rfind(b"\n") + 1] or block
    return whole.decode("utf-8-sig", errors="ignore").replace("\r\n", "\n")


def find_layout(head: str, form: FileForm, origin: Path) -> Layout:
    """Return where the records of a text begin whose first lines are ``head``, and what its columns are called.

    DataError where it is empty, no separator is found, or the header has another number of fields than the lines.
    """
    if not head.strip():
        raise DataError(f"{origin} is empty; expected a table with a header")
    first, _, rest = head.partition("\n")
    skipped, stated = 0, form.separator
    if first.strip().lower().startswith("sep=") and len(first.strip()) in (4, 5):  # a line for Excel
        stated, head, skipped = stated or first.strip()[4:] or "\t", rest, 1
    separator = stated or _separator_of(head, origin)
    # A quotation mark within a field is doubled, or stands behind a backslash: the way by which records are more alike.
    ways = [list(shown_records(head, separator, escape)) for escape in (None, "\\")[: 1 + ('\\"' in head)]]
    records = max(ways, key=lambda way: max(Counter(len(row) for _, row in way).values(), default=0))
    lengths = Counter(len(row) for _, row in records)
    n_fields = max(lengths, key=lambda length: (lengths[length], length))
    titles = n_titles(records, n_fields)
    number, fields = records[titles]
    following = [row for _, row in records[titles + 1 :] if len(row) == n_fields]
    has_header = is_header(fields, following) if form.header is None else form.header
    if len(fields) not in (n_fields, n_fields - 1) or (
        len(fields) != n_fields and following and not _all_end_empty(following)
    ):
        raise DataError(
            f"{origin}: line {skipped + number} has {len(fields)} fields, most lines have {n_fields}: "
            f"{separator.join(fields)[:80]!r}; is it the header? Say header: false, or the separator"
        )
    names = column_names(fields, has_header, n_fields, following)
    return Layout(separator, names, n_fields, skipped + number + has_header, has_header)


def table_of_records(records: list[tuple[int, list[str]]], header: bool | None, origin: str) -> pl.DataFrame:
    """Return the table of a sheet's records, each with its line; DataError where there is none below the header."""
    shown = records[:SHOWN_RECORDS]
    titles = n_titles(shown, len(records[0][1]))
    following = [row for _, row in shown[titles + 1 :]]
    has_header = is_header(records[titles][1], following) if header is None else header
    rows = records[titles + has_header :]
    if not rows:
        raise DataError(f"{origin} has a header and no rows; expected one row a purchase")
    filled = max(
        max((place for place, field in enumerate(row, 1) if field.strip()), default=0) for _, row in records[titles:]
    )
    names = column_names(records[titles][1][:filled], has_header, filled, [])
    columns = [
        pl.Series(name, [row[place].strip() or None for _, row in rows], pl.String) for place, name in enumerate(names)
    ]
    return pl.DataFrame([pl.Series(LINE, [line for line, _ in rows], pl.Int64), *columns])


def n_titles(records: list[tuple[int, list[str]]], n_fields: int) -> int:
    """Return how many records above the header, or the first row, are a name of the report, its date, or nothing."""
    for titles, (_, row) in enumerate(records[:_MOST_TITLE_LINES]):
        n_filled = sum(bool(field.strip()) for field in row)
        is_title = n_fields > 2 and n_filled <= n_fields // 2 and (len(row) != n_fields or n_filled <= 1)
        if not is_title or titles == len(records) - 1:
            return titles
    return _MOST_TITLE_LINES


def shown_records(head: str, separator: str, escape: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the fields of the first records, blank ones left out."""
    reader = csv.reader(io.StringIO(head), delimiter=separator, skipinitialspace=True, escapechar=escape)
    try:
        for row in islice(reader, SHOWN_RECORDS):
            if any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error:
        return


def _separator_of(head: str, origin: Path) -> str:
    """Return the separator by which most lines have equally many fields, and the most of them."""
    best, best_score = None, (0.0, 0)
    for separator in SEPARATORS:
        lengths = Counter(len(row) for _, row in shown_records(head, separator))
        length, n = lengths.most_common(1)[0] if lengths else (1, 0)
        share = n / max(lengths.total(), 1)
        score = (round(share, 1), length)
        if length > 1 and score > best_score:
            best, best_score = separator, score
    if best is None:
        shown = head.partition("\n")[0][:80]
        raise DataError(
            f"{origin}: no separator is found in {shown!r}, expected one of , ; tab |; say separator: '…' in the map, "
            "or widths: [n, …] where columns have a fixed width"
        )
    return best


def is_header(fields: list[str], following: list[list[str]]) -> bool:
    """Return whether ``fields`` name columns: numbers and dates stand below them, and they are none themselves.

    Where all is text, names are unique and do not come again below.
    """
    votes = 0
    fields = fields[: min((len(row) for row in following), default=len(fields))]
    for place, field in enumerate(fields):
        contents = Counter(content_of(row[place]) for row in following if row[place].strip())
        usual = contents.most_common(1)[0][0] if contents else "text"
        if usual != "text":
            votes += -1 if content_of(field) == usual else 1
    if votes:
        return votes > 0
    filled = [field.strip() for field in fields if field.strip()]
    again = any(field.strip() and field == row[place] for place, field in enumerate(fields) for row in following)
    return len(set(filled)) == len(filled) and not again


def _all_end_empty(rows: list[list[str]]) -> bool:
    return all(not row[-1].strip() for row in rows)


def column_names(fields: list[str], has_header: bool, n_fields: int, following: list[list[str]]) -> tuple[str, ...]:
    """Return the names of the columns: one less than ``n_fields`` where each line ends with a separator."""
    names = [" ".join(field.split()) for field in fields] if has_header else []
    open_end = (
        n_fields > 1
        and bool(following)
        and _all_end_empty(following)
        and (not has_header or len(names) < n_fields or not names[-1])
    )
    kept = n_fields - 1 if open_end else n_fields
    if not has_header:
        return tuple(str(number) for number in range(1, kept + 1))
    names = [name if name not in ("", LINE) else f"column {n}" for n, name in enumerate(names[:kept], start=1)]
    twice = {name for name, count in Counter(names).items() if count > 1}
    # What two columns are called says neither: asked for by that name, none is found.
    return tuple(f"{name} (column {place})" if name in twice else name for place, name in enumerate(names, 1))


def unquoted(field: str) -> str:
    """Return a field without the quotation marks around it, where those within it are doubled.

    >>> [unquoted(field) for field in ('"Mug"', '"a ""b"" c"', '"Big" bag', '17"')]
    ['Mug', 'a "b" c', '"Big" bag', '17"']
    """
    inner = field[1:-1]
    is_quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else field
