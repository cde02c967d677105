"""Text files of any separator, quoting, header and encoding, as tables whose columns are text.

What is not stated is found out, and said in the table's notes. The number of records is counted apart from the
reading, and both must agree. There is one reader whatever the data engine: Polars where nothing is quoted, which is
fast, Arrow where fields are quoted without fault, and Python's csv module for everything else.
"""

import codecs
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from recsys.data.reading.encoding import as_utf8
from recsys.data.reading.layout import (
    LINE,
    SHOWN_RECORDS,
    Layout,
    TextForm,
    column_names,
    find_layout,
    first_lines,
    is_header,
)
from recsys.data.reading.records import (
    Malformed,
    count_lines,
    count_records,
    is_quoted_line_by_line,
    line_records,
    opened,
    quoted_records,
    store,
    store_by_arrow,
)
from recsys.errors import DataError

_SLICE_BYTES: Final = 1 << 18
_ENDS_BYTES: Final = 1 << 20
_NEWLINE, _MARK = ord("\n"), ord('"')
_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class TextTable:
    """A text file that was read: a lazy Polars frame of text columns, empty fields null, and ``LINE``."""

    frame: pl.LazyFrame
    n_records: int  # counted in the file, apart from the reading
    form: TextForm
    notes: tuple[str, ...] = ()


def read_text(path: Path, form: TextForm, scratch: Path, origin: Path) -> TextTable:
    """Return the table in ``path``, which messages call ``origin``; copies that are needed are put into ``scratch``.

    Raises:
        DataError: it is empty, of no known encoding, or a line has too many or too few fields; the line is named.
    """
    plain, encoding, notes = as_utf8(path, form.encoding, scratch, origin)
    head = first_lines(plain)
    if form.widths:
        return _fixed_width(plain, form, head, encoding, notes, scratch, origin)
    layout = find_layout(head, form, origin)
    counts = _Counts.of(plain, layout)
    if counts.is_plain(layout):
        frame = pl.scan_csv(
            plain,
            separator=layout.separator,
            quote_char=None,
            has_header=False,
            skip_lines=layout.first_line - 1,
            schema=dict.fromkeys(layout.names, pl.String) | ({"": pl.String} if layout.ends_open else {}),
            glob=False,
            row_index_name=LINE,
            row_index_offset=layout.first_line,
        ).select(LINE, *layout.names)
        n_records = counts.n_lines - (layout.first_line - 1)
    else:
        stored, n_records, said = _parsed(plain, layout, scratch, origin)
        frame, notes = pl.scan_parquet(stored, glob=False), [*notes, *said]
    if not form.separator:
        notes.append(f"separator {_NAMES.get(layout.separator, repr(layout.separator))}")
    if not layout.has_header:
        notes.append("no header: its columns are called 1, 2, …")
    if layout.has_header and layout.first_line > 2 and form.header is None:
        notes.append(f"header in line {layout.first_line - 1}")
    known = replace(form, separator=layout.separator, encoding=encoding, header=layout.has_header)
    return TextTable(frame, n_records, known, tuple(notes))


@dataclass(frozen=True)
class _Counts:
    """What the bytes of a file are."""

    n_lines: int
    n_separators: int  # behind the header
    n_quotes: int
    has_blank_lines: bool
    is_marked: bool  # begins with the mark of UTF-8

    @classmethod
    def of(cls, path: Path, layout: Layout) -> "_Counts":
        """Count in ``path``, which is UTF-8."""
        separator = ord(layout.separator) if layout.separator.isascii() else 0
        text, equal = np.memmap(path, np.uint8, "r"), np.empty(_SLICE_BYTES, dtype=bool)
        counted = np.zeros(3, dtype=np.int64)
        for begin in range(0, len(text), _SLICE_BYTES):  # a slice stays in a core's cache
            part = text[begin : begin + _SLICE_BYTES]
            for place, character in enumerate((_NEWLINE, separator, _MARK)):
                counted[place] += np.count_nonzero(np.equal(part, character, out=equal[: len(part)]))
        lines, separators, quotes = counted.tolist()
        # Lines of separators alone stand at the ends of what a spreadsheet wrote; one without any shows in the sum.
        blank = b"\n" + layout.separator.encode() * (layout.n_fields - 1)
        has_blank = any(blank in part.tobytes() for part in (text[:_ENDS_BYTES], text[-_ENDS_BYTES:]))
        with path.open("rb") as stream:
            first = [stream.readline() for _ in range(layout.first_line - 1)]
            marked = (first[0] if first else stream.read(3)).startswith(codecs.BOM_UTF8)
        behind = separators - sum(line.count(layout.separator.encode()) for line in first)
        return cls(lines + (int(text[-1]) != _NEWLINE), behind, quotes, has_blank, marked)

    def is_plain(self, layout: Layout) -> bool:
        """Return whether each line is a record of as many fields as there should be, none of them quoted."""
        n_records = self.n_lines - (layout.first_line - 1)
        whole = self.n_separators == n_records * (layout.n_fields - 1)
        return (
            whole and not self.n_quotes and not self.has_blank_lines and not (self.is_marked and layout.first_line == 1)
        )


def _parsed(path: Path, layout: Layout, scratch: Path, origin: Path) -> tuple[Path, int, list[str]]:
    """Return a Parquet file of the records, how many these are, and what is to be said of their quotation marks."""
    stored = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    n_lines = count_lines(path, layout)
    if is_quoted_line_by_line(path, layout) and store_by_arrow(path, layout, stored) == n_lines:
        return stored, n_lines, []
    said: list[str] = []
    try:
        n_rows = store(quoted_records(path, layout), layout, stored)
    except (Malformed, csv.Error):
        said = ["quotation marks inside fields are read as characters"]
        try:
            n_rows = store(line_records(path, layout), layout, stored)
        except Malformed as error:
            try:  # what looks like whole records in a field may be one's text
                said, n_rows = [], store(quoted_records(path, layout, may_swallow=True), layout, stored)
            except (Malformed, csv.Error):
                raise DataError(f"{origin}: line {error.line} {error.reason}") from error
    # Where a field goes over several lines there are fewer records than lines.
    n_records = n_lines if n_rows == n_lines else count_records(path, layout)
    if n_rows != n_records:
        raise DataError(
            f"{origin}: {n_rows:,} records were read, but {n_records:,} are counted in the file; look for a quotation "
            "mark that is not closed, or save it again"
        )
    return stored, n_rows, said


def _fixed_width(
    path: Path, form: TextForm, head: str, encoding: str, notes: list[str], scratch: Path, origin: Path
) -> TextTable:
    """Return the table of a file with columns of the widths ``form.widths``, in characters; the last may be longer."""
    ends = np.cumsum(form.widths).tolist()
    begins = [0, *ends[:-1]]

    def fields(line: str) -> list[str]:
        line = line.rstrip("\r\n")
        pairs = zip(begins, [*ends[:-1], None], strict=True)
        return [line[begin:end].strip() for begin, end in pairs]

    lines = head.split("\n")
    rows = [fields(line) for line in lines if line.strip()]
    if not rows:
        raise DataError(f"{origin} is empty; expected a table with a header")
    has_header = is_header(rows[0], rows[1:SHOWN_RECORDS]) if form.header is None else form.header
    names, _ = column_names(rows[0], has_header, len(ends), [])
    layout = Layout("", names, len(ends), 2 if has_header else 1, has_header)
    stored = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    with opened(path, layout) as stream:
        records = ((n, fields(line)) for n, line in enumerate(stream, start=layout.first_line) if line.strip())
        n_rows = store(records, layout, stored)
    known = replace(form, encoding=encoding, header=has_header)
    return TextTable(pl.scan_parquet(stored, glob=False), n_rows, known, tuple(notes))
