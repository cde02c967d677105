"""Records of a text file that holds quotation marks: read as RFC 4180 has it, else line by line, and counted."""

import csv
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.data.reading.layout import LINE, Layout, unquoted

_BATCH_ROWS: Final = 1 << 16
_LINES_BYTES: Final = 1 << 22
_NEWLINE, _RETURN, _MARK = (ord(character) for character in '\n\r"')


class Malformed(Exception):  # noqa: N818 - caught by the reader, never seen
    """A record that cannot be read: its line, and why."""

    def __init__(self, line: int, reason: str = "") -> None:
        super().__init__(line, reason)
        self.line, self.reason = line, reason


def is_quoted_line_by_line(path: Path, layout: Layout) -> bool:
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


def store_by_arrow(path: Path, layout: Layout, stored: Path) -> int:
    """Write the records of a regularly quoted file to a Parquet file; return how many they are, -1 if it cannot be."""
    names = [*layout.names, *["_"] * layout.ends_open]
    empty_is_null = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": True}
    schema, n_rows = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in layout.names)]), 0
    try:
        # Empty lines are not passed over: else lines are counted wrong.
        reader = _arrow_reader(path, layout, names, {"ignore_empty_lines": False}, empty_is_null)
        with pq.ParquetWriter(stored, schema, compression="lz4") as writer:
            for batch in reader:
                lines = pa.array(np.arange(len(batch)) + (layout.first_line + n_rows))
                writer.write_batch(pa.record_batch([lines, *batch.columns[: len(layout.names)]], schema=schema))
                n_rows += len(batch)
    except pa.ArrowException:
        return -1
    return n_rows


def _arrow_reader(
    path: Path, layout: Layout, names: list[str], parsing: dict[str, Any], conversion: dict[str, Any]
) -> Any:  # noqa: ANN401 - PyArrow has no types
    """Return what yields batches of the records as text, in columns ``names``."""
    return pa_csv.open_csv(
        path,
        pa_csv.ReadOptions(column_names=names, skip_rows=layout.first_line - 1),
        pa_csv.ParseOptions(delimiter=layout.separator, **parsing),
        pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), **conversion),
    )


def opened(path: Path, layout: Layout) -> IO[str]:
    """Return the text of a file from its first record on."""
    stream = path.open(encoding="utf-8-sig", newline="")
    for _ in range(layout.first_line - 1):
        stream.readline()
    return stream


def quoted_records(path: Path, layout: Layout, *, may_swallow: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each record, quoted as RFC 4180 has it; Malformed or csv.Error where it is not.

    Text follows a closed quotation mark then, a record has another number of fields, or a field holds what look like
    whole records, unless it ``may_swallow`` them.
    """
    with opened(path, layout) as stream:
        reader = csv.reader(stream, delimiter=layout.separator, strict=True, skipinitialspace=True)
        before = layout.first_line - 1
        for row in reader:
            line = layout.first_line + reader.line_num - 1
            if any(field.strip() for field in row):
                if len(row) != layout.n_fields:
                    raise Malformed(line)
                inner = (text for field in row for text in field.split("\n")[1:-1])
                swallows = layout.n_fields > 1 and line > before + 1 and not may_swallow
                if swallows and any(text.count(layout.separator) >= layout.n_fields - 1 for text in inner):
                    raise Malformed(line)
                yield before + 1, row
            before = line


def line_records(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each line, of which each is a record: a lone quotation mark is a character.

    Malformed where a line, however it is read, has another number of fields than the others.
    """
    options: dict[str, Any] = {"delimiter": layout.separator, "skipinitialspace": True}
    ways: tuple[Callable[[str], list[str]], ...] = (
        lambda text: next(csv.reader([text], strict=True, **options)),
        lambda text: next(csv.reader([text], strict=True, escapechar="\\", **options)),
        lambda text: [unquoted(field) for field in text.split(layout.separator)],
        lambda text: next(csv.reader([text], **options)),
    )
    with opened(path, layout) as stream:
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
                quote = 'put a field that holds the separator between quotation marks (")'
                raise Malformed(line, counted + (quote if len(row) > layout.n_fields else "complete it, or delete it"))
            yield line, row


def store(records: Iterator[tuple[int, list[str]]], layout: Layout, path: Path) -> int:
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


def count_records(path: Path, layout: Layout) -> int:
    """Return the number of records that Arrow's reader finds, another one than Python's."""
    names = [str(place) for place in range(layout.n_fields)]
    reader, n_records = _arrow_reader(path, layout, names, {"newlines_in_values": True}, {}), 0
    try:
        for batch in reader:
            columns = [column.to_pylist() for column in batch.columns]
            n_records += sum(any(field.strip() for field in row) for row in zip(*columns, strict=True))
    except pa.ArrowException:
        return -1
    return n_records


def count_lines(path: Path, layout: Layout) -> int:
    """Return the number of lines that hold anything but separators."""
    with opened(path, layout) as stream:
        return sum(bool(line.strip(f"{layout.separator} \r\n")) for line in stream)
