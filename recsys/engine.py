"""The only place that knows which data engine runs: tables come in and go out, Narwhals expressions in between.

Everything is lazy until :meth:`Engine.collect`; the same expressions give the same rows on every engine, in no
particular order. The engines take their number of threads from the environment (``POLARS_MAX_THREADS``) or use all.
"""

import csv
import gzip
import os
import shutil
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import narwhals as nw
import pyarrow as pa

from recsys.errors import DataError


class Engine(ABC):
    """Reads tables lazily and runs Narwhals expressions over them; a context, as it may hold temporary files."""

    name: str

    def __init__(self) -> None:
        self._unpacked: list[tempfile.TemporaryDirectory[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in self._unpacked:
            folder.cleanup()

    @abstractmethod
    def scan_csv(self, path: Path, separator: str = ",") -> nw.LazyFrame[Any]:
        """Return the CSV file (plain, gzipped or the only member of a zip) with every column as strings.

        An empty field is null. Compressed files are unpacked to the temporary folder (``TMPDIR``) first, as
        neither engine streams them.

        Raises:
            DataError: the file is not a CSV file, or its archive cannot be unpacked.
        """

    @abstractmethod
    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the Parquet file with its own types.

        Raises:
            DataError: it is not a Parquet file.
        """

    @abstractmethod
    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:
        """Return an in-memory table as a frame of this engine."""

    @abstractmethod
    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:
        """Return the rows of ``frame``, in no particular order.

        Raises:
            DataError: a file turned out to be malformed on the way.
        """

    def shortened(self, frame: nw.LazyFrame[Any], column: str) -> nw.LazyFrame[Any]:
        """Return ``frame`` with the text in ``column`` replaced by a 64-bit hash, where that makes joins faster.

        The hash is the same within one process. As it is, the frame comes back unchanged.
        """
        return frame

    def scan(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the table in ``path``: Parquet by its ending, else CSV."""
        return self.scan_parquet(path) if path.suffix == ".parquet" else self.scan_csv(path)

    def _plain(self, path: Path) -> Path:
        """Return ``path``, or the unpacked copy of a compressed file."""
        if path.suffix not in (".gz", ".zip"):
            return path
        folder = tempfile.TemporaryDirectory(prefix="recsys-")
        self._unpacked.append(folder)
        plain = Path(folder.name) / "table.csv"
        try:
            _unpack(path, plain)
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} could not be unpacked into {plain.parent} ({error}); fetch it again, or set TMPDIR to a "
                "folder with more space"
            ) from error
        return plain


class PolarsEngine(Engine):
    """Polars with its streaming engine."""

    name = "polars"

    def scan_csv(self, path: Path, separator: str = ",") -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        import polars as pl

        plain = self._plain(path)
        with _one_line(path, pl.exceptions.PolarsError):
            frame = pl.scan_csv(plain, separator=separator, infer_schema=False, glob=False)
            frame.collect_schema()
        return nw.from_native(frame)

    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        import polars as pl

        with _one_line(path, pl.exceptions.PolarsError):
            frame = pl.scan_parquet(path, glob=False)
            frame.collect_schema()
        return nw.from_native(frame)

    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        import polars as pl

        return nw.from_native(pl.DataFrame(pl.from_arrow(table)).lazy())

    def shortened(self, frame: nw.LazyFrame[Any], column: str) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        import polars as pl

        # A join over 64 characters costs five times as much as one over their hash.
        hashed: pl.LazyFrame = frame.to_native().with_columns(pl.col(column).hash(seed=0))
        return nw.from_native(hashed)

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        import polars as pl

        with _one_line("the input", pl.exceptions.PolarsError):
            rows: pl.DataFrame = frame.to_native().collect(engine="streaming")
        table: pa.Table = rows.to_arrow()
        return table


class DuckDBEngine(Engine):
    """DuckDB in memory, through its relations."""

    name = "duckdb"

    def __init__(self) -> None:
        import duckdb

        super().__init__()
        threads = os.environ.get("POLARS_MAX_THREADS")
        settings: dict[str, str | bool | int | float | list[str]] = {"preserve_insertion_order": False}
        self._connection = duckdb.connect(config=settings | ({"threads": threads} if threads else {}))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        super().__exit__(kind, error, trace)

    def scan_csv(self, path: Path, separator: str = ",") -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        import duckdb

        plain = self._plain(path)
        with _one_line(path, duckdb.Error, UnicodeDecodeError, csv.Error):
            with plain.open(encoding="utf-8-sig", newline="") as stream:
                header = next(csv.reader(stream, delimiter=separator), [])
            # Nothing is left to the sniffer: it takes a malformed row for the header, or rows with # for comments.
            relation = self._connection.read_csv(
                str(plain),
                header=True,
                sep=separator,
                quotechar='"',
                escapechar='"',
                auto_detect=False,
                columns=dict.fromkeys(header, "VARCHAR"),
            )
        return nw.from_native(relation)

    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        import duckdb

        with _one_line(path, duckdb.Error):
            relation = self._connection.read_parquet(str(path))
        return nw.from_native(relation)

    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        return nw.from_native(self._connection.from_arrow(table))

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        import duckdb

        with _one_line("the input", duckdb.Error):
            table: pa.Table = frame.to_native().to_arrow_table()
        return table


def open_engine(name: Literal["polars", "duckdb"]) -> Engine:
    """Return the engine ``name``; use it in a ``with`` statement."""
    return DuckDBEngine() if name == "duckdb" else PolarsEngine()


def _unpack(path: Path, plain: Path) -> None:
    if path.suffix == ".gz":
        with gzip.open(path) as packed, plain.open("wb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 20)
        return
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        if len(members) != 1:
            raise zipfile.BadZipFile(f"it holds {len(members)} files, expected one CSV file")
        with archive.open(members[0]) as packed, plain.open("wb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 20)


@contextmanager
def _one_line(origin: Path | str, *kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{origin} cannot be read as a table ({reason}); check the file, or fetch it again") from error
