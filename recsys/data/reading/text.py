"""Text files of any separator, quoting, header and encoding, as tables whose columns are text.

What is not stated is found out, and said in the table's notes. The number of records is counted apart from the
reading, and both must agree. There is one reader whatever the data engine: Polars where nothing is quoted, which is
fast, Arrow where fields are quoted without fault, and Python's csv module for everything else.
"""

import codecs
import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from recsys.data.reading import records
from recsys.data.reading.encoding import as_utf8, over_parts
from recsys.data.reading.layout import (
    LINE,
    SHOWN_RECORDS,
    FileForm,
    Layout,
    OpenTable,
    column_names,
    find_layout,
    first_lines,
    is_header,
)
from recsys.data.reading.records import Malformed
from recsys.data.reading.values import content_of
from recsys.errors import DataError

_ENDS_BYTES: Final = 1 << 20
_MOST_FOOTER_LINES: Final = 10
_NEWLINE, _MARK = ord("\n"), b'"'
_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def read_text(path: Path, form: FileForm, scratch: Path, origin: Path) -> OpenTable:
    """Return the table in ``path``, which messages call ``origin``; copies that are needed are put into ``scratch``.

    Its columns are text, empty fields null, and ``LINE``. DataError where it is empty, of no known encoding, or a line
    has too many or too few fields; the line is named.
    """
    plain, encoding_notes = as_utf8(path, form.encoding, scratch, origin)
    head = first_lines(plain)
    if form.widths:
        frame, n_rows = _fixed_width(plain, form, head, scratch, origin)
        return OpenTable(frame, str(origin), n_rows, tuple(encoding_notes))
    layout = find_layout(head, form, origin)
    plain, footer_notes = _without_footer(plain, layout, scratch)
    n_records, notes = _plain_records(plain, layout), [*encoding_notes, *footer_notes]
    if n_records is not None:
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
    else:
        stored, n_records, said = _parsed(plain, layout, scratch, origin)
        frame, notes = pl.scan_parquet(stored, glob=False), [*notes, *said]
    if not form.separator:
        notes.append(f"separator {_NAMES.get(layout.separator, repr(layout.separator))}")
    if not layout.has_header:
        above = f", without the {layout.first_line - 1} lines above" if layout.first_line > 1 else ""
        notes.append(f"no header: its columns are called 1, 2, …{above}")
    if layout.has_header and layout.first_line > 2 and form.header is None:
        notes.append(f"header in line {layout.first_line - 1}")
    return OpenTable(frame, str(origin), n_records, tuple(notes))


def _without_footer(path: Path, layout: Layout, scratch: Path) -> tuple[Path, list[str]]:
    """Return ``path``, or a copy of it without the lines of one field of text at its end, and a note of these."""
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - _ENDS_BYTES, 0))
        tail = stream.read().splitlines(keepends=True)
    separator, footer, n_bytes = layout.separator.encode(), list[str](), 0
    while len(tail) > 1:
        text = tail[-1].decode(errors="replace").strip()
        # A number may be what is left of a record; a quotation mark, the end of a field of several lines.
        if separator in tail[-1] or '"' in text or (text and content_of(text) != "text"):
            break
        n_bytes += len(tail.pop())
        footer = [text, *footer] if text else footer
    if not footer or len(footer) > _MOST_FOOTER_LINES:
        return path, []
    copy = scratch / f"{len(list(scratch.iterdir()))}.txt"
    shutil.copyfile(path, copy)
    os.truncate(copy, path.stat().st_size - n_bytes)
    shown = ", ".join(repr(text[:40]) for text in footer[:3])
    return copy, [f"without {len(footer)} lines below the last row, which have one field: {shown}"]


def _plain_records(path: Path, layout: Layout) -> int | None:
    """Return the number of records where each line is one of as many fields as there should be, none of them quoted."""
    separator = layout.separator.encode()
    characters = _NEWLINE, separator[0] if len(separator) == 1 else 0

    def count(blocks: Iterator[np.ndarray]) -> np.ndarray:
        counted = np.zeros(3, dtype=np.int64)
        for block in blocks:
            counted[:2] += [np.count_nonzero(block == character) for character in characters]
            counted[2] += _MARK in block.tobytes()  # whether there is one is enough
        return counted

    n_lines, n_separators, n_marks = np.sum(over_parts(path, count), axis=0).tolist()
    text = np.memmap(path, np.uint8, "r")
    # Lines of separators alone stand at the ends of what a spreadsheet wrote; one without any shows in the sum.
    blank = b"\n" + separator * (layout.n_fields - 1)
    has_blank = any(blank in part.tobytes() for part in (text[:_ENDS_BYTES], text[-_ENDS_BYTES:]))
    with path.open("rb") as stream:
        above = [stream.readline() for _ in range(layout.first_line - 1)]
        begins_with_mark = not above and stream.read(3) == codecs.BOM_UTF8
    n_records = n_lines + (int(text[-1]) != _NEWLINE) - len(above)
    n_expected = n_records * (layout.n_fields - 1) + sum(line.count(separator) for line in above)
    return None if n_marks or has_blank or begins_with_mark or n_separators != n_expected else n_records


def _parsed(path: Path, layout: Layout, scratch: Path, origin: Path) -> tuple[Path, int, list[str]]:
    """Return a Parquet file of the records, how many these are, and what is to be said of their quotation marks."""
    stored = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    n_lines = records.count_lines(path, layout)
    if records.is_quoted_line_by_line(path, layout) and records.store_by_arrow(path, layout, stored) == n_lines:
        return stored, n_lines, []
    said: list[str] = []
    try:
        n_rows = records.store(records.quoted_records(path, layout), layout, stored)
    except (Malformed, csv.Error):
        said = ["quotation marks inside fields are read as characters"]
        try:
            n_rows = records.store(records.line_records(path, layout), layout, stored)
        except Malformed as error:
            try:  # what looks like whole records in a field may be one's text
                swallowing = records.quoted_records(path, layout, may_swallow=True)
                said, n_rows = [], records.store(swallowing, layout, stored)
            except (Malformed, csv.Error):
                raise DataError(f"{origin}: line {error.line} {error.reason}") from error
    # Where a field goes over several lines there are fewer records than lines.
    n_records = n_lines if n_rows == n_lines else records.count_records(path, layout)
    if n_rows != n_records:
        raise DataError(
            f"{origin}: {n_rows:,} records were read, but {n_records:,} are counted in the file; look for a quotation "
            "mark that is not closed, or save it again"
        )
    return stored, n_rows, said


def _fixed_width(path: Path, form: FileForm, head: str, scratch: Path, origin: Path) -> tuple[pl.LazyFrame, int]:
    """Return the rows of a file with columns of the widths ``form.widths``, in characters; the last may be longer."""
    ends = np.cumsum(form.widths).tolist()

    def fields(line: str) -> list[str]:
        pairs = zip([0, *ends[:-1]], [*ends[:-1], None], strict=True)
        return [line.rstrip("\r\n")[begin:end].strip() for begin, end in pairs]

    rows = [fields(line) for line in head.split("\n") if line.strip()]
    if not rows:
        raise DataError(f"{origin} is empty; expected a table with a header")
    has_header = is_header(rows[0], rows[1:SHOWN_RECORDS]) if form.header is None else form.header
    names = column_names(rows[0], has_header, len(ends), [])
    layout = Layout("", names, len(ends), 2 if has_header else 1, has_header)
    stored = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    with records.opened(path, layout) as stream:
        numbered = ((n, fields(line)) for n, line in enumerate(stream, start=layout.first_line) if line.strip())
        n_rows = records.store(numbered, layout, stored)
    return pl.scan_parquet(stored, glob=False), n_rows
