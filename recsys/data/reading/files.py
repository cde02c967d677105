"""Tables in files of any kind, and in databases, opened as lazy Polars frames; nothing is ever written to them.

Text, workbooks and databases come as text, so that what it means is decided in one place; Parquet, Arrow and JSON lines
come with their own types.
"""

import gzip
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import fastexcel
import polars as pl
import pyarrow as pa

from recsys.data.reading.layout import FILE, LINE, FileForm, OpenTable, table_of_records
from recsys.data.reading.text import read_text
from recsys.errors import DataError

PARQUET: Final = (".parquet", ".pq")
ARROW: Final = (".arrow", ".feather", ".ipc")
JSON_LINES: Final = (".jsonl", ".ndjson", ".json")
WORKBOOKS: Final = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
TEXT: Final = (".csv", ".tsv", ".tab", ".txt", ".dat", ".psv", "")
PACKED: Final = (".gz", ".zip")
#: What files that are no text begin with: what these are, and endings under which they are read.
_FORMATS: Final[dict[bytes, tuple[str, tuple[str, ...]]]] = {
    b"PAR1": ("a Parquet file", PARQUET),
    b"\x1f\x8b": ("a gzip file", (".csv.gz", ".gz")),
    b"PK\x03\x04": ("a workbook or a zip file", (*WORKBOOKS, ".zip")),
    b"\xd0\xcf\x11\xe0": ("an old workbook", (".xls", *WORKBOOKS)),
    b"SQLite format 3": ("a database", ()),
}
#: Sheets of a workbook, at most: rows of several files are told apart by file, then sheet.
_MOST_SHEETS: Final = 100_000
_NOT_TABLES: Final = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$)|/$")


def is_table(path: Path) -> bool:
    """Return whether a file's ending is one of a table."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    return bool(endings) and endings[-1] in (*PARQUET, *ARROW, *JSON_LINES, *WORKBOOKS, *TEXT, *PACKED)


def open_tables(paths: list[Path], form: FileForm, scratch: Path, overlap: str | None = None) -> OpenTable:
    """Return the table that ``paths`` hold together, one below the other; copies are put into ``scratch``.

    Rows that two files hold alike are taken ``once``, or ``all``. DataError where a file cannot be read, their columns
    differ, or rows are in two files and ``overlap`` does not say what to do with these.
    """
    tables = [open_table(path, form, scratch) for path in paths]
    first, is_alone = tables[0], len(tables) == 1
    if is_alone and first.frame.collect_schema().get(FILE) != pl.Int64:  # else it is a workbook of sheets
        return first
    for table in tables[1:]:
        if set(table.columns) != set(first.columns):
            only = sorted(set(table.columns) ^ set(first.columns))[:3]
            raise DataError(
                f"{first.origin} and {table.origin} have different columns ({', '.join(only)} in one of them only); "
                "name only files of one form"
            )
    schemas = [table.frame.collect_schema() for table in tables]
    types = {name: {found[name] for found in schemas} for name in first.columns}
    # What has one type here and another one there becomes text, as in files of text.
    alike = [pl.col(name).cast(pl.String) if len(found) > 1 else pl.col(name) for name, found in types.items()]
    frames = [
        table.frame.select(
            *alike,
            (pl.col(LINE).cast(pl.Int64) if LINE in found else pl.int_range(pl.len(), dtype=pl.Int64).alias(LINE)),
            ((pl.col(FILE) if found.get(FILE) == pl.Int64 else pl.lit(0, pl.Int64)) + place * _MOST_SHEETS).alias(FILE),
        )
        for place, (table, found) in enumerate(zip(tables, schemas, strict=True))
    ]
    counts = [table.n_records for table in tables]
    n_records = None if None in counts else sum(count or 0 for count in counts)
    frame = pl.concat(frames)
    rows = frame.select(FILE, LINE, pl.struct(first.columns).hash(seed=0).alias("hash")).collect(engine="streaming")
    again = rows.filter(pl.col(FILE) > pl.col(FILE).min().over("hash")).select(FILE, LINE)
    notes = [*[f"{len(tables)} files"][is_alone:], *dict.fromkeys(note for table in tables for note in table.notes)]
    if len(again):
        if overlap is None:
            places = again[FILE].unique().sort().to_list()
            names = ", ".join(dict.fromkeys(tables[place // _MOST_SHEETS].origin for place in places[:3]))
            raise DataError(
                f"{len(again):,} rows of {names} stand in an earlier file or sheet too; say overlap: once to "
                "count them once, or overlap: all"
            )
        if overlap == "once":
            frame = frame.join(again.lazy(), on=[FILE, LINE], how="anti")
            n_records = None if n_records is None else n_records - len(again)
            notes.append(f"{len(again):,} rows that stand in two of them are counted once")
    return OpenTable(
        frame, ", ".join(table.origin for table in tables[:2]) + ", …" * (len(tables) > 2), n_records, tuple(notes)
    )


def open_table(path: Path, form: FileForm, scratch: Path) -> OpenTable:
    """Return the table in one file; DataError where there is none, it is empty, or it cannot be read."""
    if not path.is_file():
        found = "a folder; name files in it" if path.is_dir() else "missing; put the file there or name another"
        raise DataError(f"{path} is {found}")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; expected a table; fetch it again")
    try:
        _require_format(path, path.suffix.lower(), path)
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}); check who may read it") from error
    plain, name = _unpacked(path, scratch) if path.suffix.lower() in PACKED else (path, path.name)
    ending = Path(name).suffix.lower()
    _require_format(plain, ending, path)
    if plain != path and ending in PACKED:
        raise DataError(f"{path} is packed twice, expected once; unpack it, and name what is inside")
    try:
        if ending in (*PARQUET, *ARROW):
            frame = pl.scan_parquet(plain, glob=False) if ending in PARQUET else pl.scan_ipc(plain)
            return _typed(frame, path)
        if ending in JSON_LINES:
            return _typed(_json_lines(plain), path)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a table ({one_line(error)}); check the file, or fetch it again"
        ) from error
    if ending in WORKBOOKS:
        return _workbook(plain, form, scratch, path)
    if form.separator is None and ending in (".tsv", ".tab"):
        form = replace(form, separator="\t")
    return read_text(plain, form, scratch, path)


def _require_format(path: Path, ending: str, origin: Path) -> None:
    """Raise a DataError where a file begins as none with this ``ending`` does: many a table has another one's name."""
    with path.open("rb") as stream:
        head = stream.read(24)
    text = f"text ({head.decode(errors='replace')!r})", TEXT if ending in (*WORKBOOKS, *PACKED) else (ending,)
    found, endings = next((known for mark, known in _FORMATS.items() if head.startswith(mark)), text)
    if ending in endings:
        return
    holds, advice = "is", f"name it as sqlite:///{origin}"
    if path != origin:
        holds, advice = "holds", "unpack it, and name what is inside"
    elif head.lstrip().startswith(b"<"):  # a page or XML that a program calls a workbook
        advice = "open it, and save it as .xlsx"
    elif endings:
        advice = f"call it {origin.name.partition('.')[0]}{endings[0]}, or save it anew"
    raise DataError(f"{origin} {holds} {found} by its first bytes, not what its name says; {advice}")


def one_line(error: Exception) -> str:
    """Return what an error says, shortened."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _typed(frame: pl.LazyFrame, origin: Path) -> OpenTable:
    """Return a table with types of its own, records unpacked, and without columns of lists, spans of time, or bytes.

    Bytes that are text are read as such. DataError where no column is left.
    """
    types = frame.collect_schema()  # reads the file's footer: what is damaged is found here
    while records := [
        name
        for name, dtype in types.items()
        if isinstance(dtype, pl.Struct)
        and len(dtype.fields) < 50
        # Where a column is called as a record's would be, the record is left out.
        and not any(f"{name}.{field.name}" in types for field in dtype.fields)
    ]:
        frame = frame.unnest(records, separator=".")
        types = frame.collect_schema()
    texts = [name for name, dtype in types.items() if dtype == pl.Binary and _is_utf8(frame, name)]
    frame = frame.with_columns(pl.col(name).cast(pl.String) for name in texts)
    types = frame.collect_schema()
    odd = [name for name, dtype in types.items() if dtype.is_nested() or dtype in (pl.Binary, pl.Duration, pl.Object)]
    if len(odd) == len(types):
        raise DataError(f"{origin}: {', '.join(odd)} holds lists or records, expected one row a purchase; unpack them")
    note = f"without columns of lists, records or bytes: {', '.join(odd)}"
    return OpenTable(frame.drop(odd), str(origin), notes=(note,) if odd else ())


def _is_utf8(frame: pl.LazyFrame, column: str) -> bool:
    try:
        frame.select(pl.col(column).cast(pl.String).null_count()).collect()
    except pl.exceptions.ComputeError:
        return False
    return True


def _json_lines(path: Path) -> pl.LazyFrame:
    with path.open("rb") as stream:
        head = stream.read(64)
    read = pl.read_json if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[" else pl.read_ndjson
    return read(path.read_bytes()[3:] if head.startswith(b"\xef\xbb\xbf") else path, infer_schema_length=None).lazy()


def _unpacked(path: Path, scratch: Path) -> tuple[Path, str]:
    """Return the unpacked copy of a packed file, and what the file is called inside."""
    target = scratch / f"{len(list(scratch.iterdir()))}.unpacked"
    try:
        with _packed(path) as (packed, name), target.open("wb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 20)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # RuntimeError: a password is asked for, or (NotImplementedError) the packing is unknown.
        raise DataError(
            f"{path} could not be unpacked into {scratch} ({one_line(error)}); fetch it again, or set TMPDIR to a "
            "folder with more space"
        ) from error
    return target, name


@contextmanager
def _packed(path: Path) -> Iterator[tuple[Any, str]]:
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as packed:
            yield packed, path.stem
        return
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if not _NOT_TABLES.search(name)]
        if len(members) != 1:
            found = ", ".join(members[:5]) or "no table"
            raise DataError(f"{path} holds {found}, expected one table; unpack it and name the files")
        with archive.open(members[0]) as packed:
            yield packed, members[0]


def _workbook(path: Path, form: FileForm, scratch: Path, origin: Path) -> OpenTable:
    """Return the sheets of a workbook that have the columns of the first, one below the other."""
    try:
        book = fastexcel.read_excel(path)
        names = book.sheet_names if form.sheet is None else [form.sheet]
        if form.sheet is not None and form.sheet not in book.sheet_names:
            raise DataError(
                f"{origin} has no sheet {form.sheet}; found {', '.join(book.sheet_names)}; name one of these"
            )
        sheets = {name: _rows(book.load_sheet(name, header_row=None, dtypes="string")) for name in names}
    except fastexcel.FastExcelError as error:
        raise DataError(
            f"{origin} cannot be read as a workbook ({one_line(error)}); save it again, or as CSV UTF-8"
        ) from error
    filled = {name: rows for name, rows in sheets.items() if rows}
    if not filled:
        raise DataError(f"{origin} is empty; expected a table with a header")
    frames: list[pl.DataFrame] = []
    for place, (name, rows) in enumerate(filled.items()):
        frame = table_of_records(rows, form.header, f"{origin}, sheet {name}")
        if frames and set(frame.columns) != set(frames[0].columns[:-1]):
            raise DataError(
                f"{origin}: sheets {next(iter(filled))} and {name} have different columns; say sheet: NAME for one of "
                f"{', '.join(filled)}"
            )
        frame = frame.select(frames[0].columns[:-1]) if frames else frame
        frames.append(frame.with_columns(pl.lit(place, pl.Int64).alias(FILE)))
    notes = (f"{len(filled)} sheets: {', '.join(filled)}",) if len(filled) > 1 else ()
    rows_of_all = pl.concat(frames)
    return OpenTable(rows_of_all.lazy(), str(origin), len(rows_of_all), notes)


def _rows(sheet: Any) -> list[tuple[int, list[str]]]:  # noqa: ANN401 - of fastexcel, which has no types
    """Return the line and the fields of the rows of a sheet that hold anything."""
    table = sheet.to_arrow()
    columns = [[value or "" for value in column.to_pylist()] for column in table.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return [(line, row) for line, row in enumerate(rows, start=1) if any(field.strip() for field in row)]
