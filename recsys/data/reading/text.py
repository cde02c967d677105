"""Text files of any separator, quoting, header and encoding, as tables whose columns are text.

What is not stated is found out, and said in the table's notes. The number of records is counted apart from the
reading, and both must agree. There is one reader whatever the data engine: Polars where nothing is quoted, which is
fast, Arrow where fields are quoted without fault, and Python's csv module for everything else.
"""

import codecs
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

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
    unquoted,
)
from recsys.errors import DataError

_BATCH_ROWS: Final = 1 << 16
_LINES_BYTES: Final = 1 << 22
_SLICE_BYTES: Final = 1 << 18
_ENDS_BYTES: Final = 1 << 20
_NEWLINE, _RETURN, _MARK = (ord(character) for character in '\n\r"')
_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class TextTable:
    """A text file that was read: a lazy Polars frame of text columns, empty fields null, and ``LINE``."""

    frame: pl.LazyFrame
    n_records: int  # counted in the file, apart from the reading
    form: TextForm
    notes: tuple[str, ...] = ()


class _Malformed(Exception):  # noqa: N818 - caught here, never seen
    """A record that cannot be read: its line, and why."""

    def __init__(self, line: int, reason: str = "") -> None:
        super().__init__(line, reason)
        self.line, self.reason = line, reason


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
    n_lines = _count_lines(path, layout)
    if _is_quoted_line_by_line(path, layout) and _store_by_arrow(path, layout, stored) == n_lines:
        return stored, n_lines, []
    said: list[str] = []
    try:
        n_rows = _store(_quoted_records(path, layout), layout, stored)
    except (_Malformed, csv.Error):
        said = ["quotation marks inside fields are read as characters"]
        try:
            n_rows = _store(_line_records(path, layout), layout, stored)
        except _Malformed as error:
            try:  # what looks like whole records in a field may be one's text
                said, n_rows = [], _store(_quoted_records(path, layout, may_swallow=True), layout, stored)
            except (_Malformed, csv.Error):
                raise DataError(f"{origin}: line {error.line} {error.reason}") from error
    # Where a field goes over several lines there are fewer records than lines.
    n_records = n_lines if n_rows == n_lines else _count_records(path, layout)
    if n_rows != n_records:
        raise DataError(
            f"{origin}: {n_rows:,} records were read, but {n_records:,} are counted in the file; look for a quotation "
            "mark that is not closed, or save it again"
        )
    return stored, n_rows, said


def _is_quoted_line_by_line(path: Path, layout: Layout) -> bool:
    """Return whether quotation marks stand around whole fields, or doubled in them, and no field has several lines."""
    separator = ord(layout.separator)
    with path.open("rb") as stream:
        for _ in range(layout.first_line - 1):
            stream.readline()
        while lines := stream.readlines(_LINES_BYTES):
            text = np.frombuffer(b"\n" + b"".join(lines) + b"\n", np.uint8)
            marks = np.flatnonzero(text == _MARK)
            if len(marks) % 2:
                return False
            opening, closing = marks[::2], marks[1::2]
            doubled = opening[1:] == closing[:-1] + 1
            before, behind = text[opening - 1], text[closing + 1]
            opens = np.isin(before, (separator, _NEWLINE)) | np.concatenate([[False], doubled])
            closes = np.isin(behind, (separator, _NEWLINE, _RETURN)) | np.concatenate([doubled, [False]])
            line_ends = np.flatnonzero(text == _NEWLINE)
            if not (opens.all() and closes.all()) or (np.searchsorted(marks, line_ends) % 2).any():
                return False
    return True


def _store_by_arrow(path: Path, layout: Layout, stored: Path) -> int:
    """Write the records of a regularly quoted file to a Parquet file; return how many they are, -1 if it cannot be."""
    names = [*layout.names, *["_"] * layout.ends_open]
    texts = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=list(layout.names),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    schema, n_rows = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in layout.names)]), 0
    try:
        reader = pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(column_names=names, skip_rows=layout.first_line - 1),
            pa_csv.ParseOptions(delimiter=layout.separator, ignore_empty_lines=False),  # else lines are counted wrong
            texts,
        )
        with pq.ParquetWriter(stored, schema, compression="lz4") as writer:
            for batch in reader:
                lines = pa.array(np.arange(len(batch)) + (layout.first_line + n_rows))
                writer.write_batch(pa.record_batch([lines, *batch.columns], schema=schema))
                n_rows += len(batch)
    except pa.ArrowException:
        return -1
    return n_rows


def _opened(path: Path, layout: Layout) -> IO[str]:
    stream = path.open(encoding="utf-8-sig", newline="")
    for _ in range(layout.first_line - 1):
        stream.readline()
    return stream


def _quoted_records(path: Path, layout: Layout, *, may_swallow: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each record, quoted as RFC 4180 has it.

    Raises:
        _Malformed: it is not: text follows a closed quotation mark, a field holds what look like whole records (unless
            it ``may_swallow`` them), or a record has another number of fields.
    """
    with _opened(path, layout) as stream:
        reader = csv.reader(stream, delimiter=layout.separator, strict=True)
        before = layout.first_line - 1
        for row in reader:
            line = layout.first_line + reader.line_num - 1
            if any(field.strip() for field in row):
                if len(row) != layout.n_fields:
                    raise _Malformed(line)
                if line > before + 1 and not may_swallow and _swallows(row, layout):
                    raise _Malformed(line)
                yield before + 1, row
            before = line


def _swallows(row: list[str], layout: Layout) -> bool:
    """Return whether a field holds a whole line of as many fields as a record has."""
    inner = (line for field in row if "\n" in field for line in field.split("\n")[1:-1])
    return layout.n_fields > 1 and any(line.count(layout.separator) >= layout.n_fields - 1 for line in inner)


def _line_records(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each line, of which each is a record: a lone quotation mark is a character.

    Raises:
        _Malformed: however it is read, a line has another number of fields than the others.
    """
    options: dict[str, Any] = {"delimiter": layout.separator}
    ways: tuple[Callable[[str], list[str]], ...] = (
        lambda text: next(csv.reader([text], strict=True, **options)),
        lambda text: next(csv.reader([text], strict=True, escapechar="\\", **options)),
        lambda text: [unquoted(field) for field in text.split(layout.separator)],
        lambda text: next(csv.reader([text], **options)),
    )
    with _opened(path, layout) as stream:
        for line, text in enumerate(stream, start=layout.first_line):
            text = text.rstrip("\r\n")
            if not text.strip(layout.separator + " "):
                continue
            row: list[str] = []
            for way in ways if '"' in text else ways[-1:]:
                try:
                    row = way(text)
                except csv.Error:
                    continue
                if len(row) == layout.n_fields:
                    break
            if len(row) != layout.n_fields:
                counted = f"has {len(row)} fields, expected {layout.n_fields}: {text[:80]!r}; "
                raise _Malformed(line, counted + 'put a field that holds the separator between quotation marks (")')
            yield line, row


def _store(records: Iterator[tuple[int, list[str]]], layout: Layout, path: Path) -> int:
    """Write the records to a Parquet file, and return how many they are."""
    schema = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in layout.names)])
    n_rows = 0
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        while batch := list(islice(records, _BATCH_ROWS)):
            columns = list(zip(*(row for _, row in batch), strict=True))[: len(layout.names)]
            arrays = [pa.array([value or None for value in column], pa.string()) for column in columns]
            lines = pa.array([line for line, _ in batch], pa.int64())
            writer.write_batch(pa.record_batch([lines, *arrays], schema=schema))
            n_rows += len(batch)
    return n_rows


def _count_records(path: Path, layout: Layout) -> int:
    """Return the number of records that Arrow's reader finds, another one than Python's."""
    names = [str(place) for place in range(layout.n_fields)]
    texts = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    reader = pa_csv.open_csv(
        path,
        pa_csv.ReadOptions(column_names=names, skip_rows=layout.first_line - 1),
        pa_csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
        texts,
    )
    n_records = 0
    try:
        for batch in reader:
            columns = [column.to_pylist() for column in batch.columns]
            n_records += sum(any(field.strip() for field in row) for row in zip(*columns, strict=True))
    except pa.ArrowException:
        return -1
    return n_records


def _count_lines(path: Path, layout: Layout) -> int:
    with _opened(path, layout) as stream:
        return sum(bool(line.strip(f"{layout.separator} \r\n")) for line in stream)


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
    with _opened(path, layout) as stream:
        records = ((n, fields(line)) for n, line in enumerate(stream, start=layout.first_line) if line.strip())
        n_rows = _store(records, layout, stored)
    known = replace(form, encoding=encoding, header=has_header)
    return TextTable(pl.scan_parquet(stored, glob=False), n_rows, known, tuple(notes))
