"""The only place that knows which data engine runs: tables come in and go out, Narwhals expressions in between.

The same expressions give the same rows on every engine, in no particular order.
"""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import narwhals as nw
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.hash_table import HashTable
from recsys.data.reading.files import FileForm, open_table
from recsys.data.reading.layout import TextForm
from recsys.errors import DataError

#: How the files of sources that know them are written.
_COMMAS = FileForm(TextForm(separator=",", header=True))


class Engine(ABC):
    """Reads tables lazily and runs Narwhals expressions over them; a context, as it may hold temporary files."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recsys-")
        self.scratch = Path(self._folder.name)  # copies of files that are packed, quoted or encoded otherwise
        self.n_records: dict[Path, int | None] = {}  # by scanned file, counted apart from the reading
        self._scanned: dict[str, Path] = {}  # by the place that is read, the file that was asked for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    @abstractmethod
    def adopt(self, frame: pl.LazyFrame) -> nw.LazyFrame[Any]:
        """Return what :mod:`recsys.data.reading` opened as a frame of this engine."""

    @abstractmethod
    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the Parquet file with its own types; DataError where it is not a Parquet file."""

    @abstractmethod
    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:
        """Return an in-memory table as a frame of this engine."""

    @abstractmethod
    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:
        """Return the rows of ``frame``, in no particular order; DataError where a file turns out to be malformed."""

    def collect_made(self, frame: nw.LazyFrame[Any], made: Mapping[str, Sequence[nw.Expr]]) -> pa.Table:
        """Return the rows of ``frame`` as :meth:`collect` does, texts replaced by what is made of them.

        The expressions under a column of ``made`` read nothing but its text, a row at a time, so that an engine may
        evaluate them once for each distinct text. Only their results are in the table.
        """
        expressions = [each for of_column in made.values() for each in of_column]
        others = [name for name in frame.collect_schema().names() if name not in made]
        return self.collect(frame.select(*others, *expressions))

    def looked_up(
        self, frame: nw.LazyFrame[Any], column: str, table: pa.Table, name: str, missing: int
    ) -> nw.LazyFrame[Any]:
        """Return ``frame`` with the text in ``column`` replaced by ``name``: what ``table`` has for it, or ``missing``.

        ``table`` holds ``column``, string without repetition, and ``name``, int32.
        """
        joined = frame.join(self.from_arrow(table), on=column, how="left").drop(column)
        return joined.with_columns(nw.col(name).fill_null(nw.lit(missing, nw.Int32)))

    def scan(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the table in ``path``; every column of a text file is text.

        DataError where it cannot be read.
        """
        if path.suffix.lower() == ".parquet":
            return self.scan_parquet(path)
        self._scanned[str(path)] = path
        opened = open_table(path, _COMMAS, self.scratch)
        self.n_records[path] = opened.n_records
        return self.adopt(opened.frame.select(opened.columns))

    def _read_by(self, what: str) -> str:
        """Return the scanned files that ``what`` (a plan or an error) names, or all: one of them is to blame."""
        named = [str(path) for place, path in self._scanned.items() if place in what]
        return " or ".join(named or map(str, self._scanned.values())) or "the input"


class PolarsEngine(Engine):
    """Polars with its streaming engine."""

    def adopt(self, frame: pl.LazyFrame) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        return nw.from_native(frame)

    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        self._scanned[str(path)] = path
        with _one_line(path, pl.exceptions.PolarsError):
            frame = pl.scan_parquet(path, glob=False)
            frame.collect_schema()
        return nw.from_native(frame)

    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        return nw.from_native(pl.DataFrame(pl.from_arrow(table)).lazy())

    def collect_made(self, frame: nw.LazyFrame[Any], made: Mapping[str, Sequence[nw.Expr]]) -> pa.Table:  # noqa: D102
        coded = [column for column in made if self._texts_recur(frame, column)]
        at_once = [each for column in made if column not in coded for each in made[column]]
        others = [name for name in frame.collect_schema().names() if name not in made]
        lazy: pl.LazyFrame = frame.select(*others, *coded, *at_once).to_native()
        rows = self._collected(lazy.with_columns(pl.col(coded).cast(pl.Categorical)))
        for column in coded:
            rows.hstack(_made_once_a_text(rows.drop_in_place(column), made[column]), in_place=True)
        table: pa.Table = rows.to_arrow()
        return table

    def _texts_recur(self, frame: nw.LazyFrame[Any], column: str) -> bool:
        """Return whether the first rows suggest that the texts in ``column`` are few, each in many rows."""
        first = self.collect(frame.select(column).head(10_000))[column]
        return len(first) > 0 and 2 * pc.count_distinct(first, mode="all").as_py() < len(first)

    def looked_up(  # noqa: D102 - as Engine says
        self, frame: nw.LazyFrame[Any], column: str, table: pa.Table, name: str, missing: int
    ) -> nw.LazyFrame[Any]:
        # A join, over text or hashes, costs several times as much.
        hashes = pl.Series(pl.from_arrow(table[column])).hash(seed=0).to_numpy()
        found = HashTable(hashes, table[name].to_numpy(), missing)
        # No two texts of the table may share a hash. That a text outside it shares one is left to chance: once in
        # 400,000 times for the 31.8 million purchases and 1.4 million customers of H&M, if all were of unknown ones.
        if found.collides:
            return super().looked_up(frame, column, table, name, missing)
        value = pl.col(column).map_batches(
            lambda text: pl.Series(text.name, found.values_of(text.hash(seed=0).to_numpy())),
            return_dtype=pl.Int32,
            is_elementwise=True,
        )
        lazy: pl.LazyFrame = frame.to_native()
        return nw.from_native(lazy.select(pl.exclude(column), value.alias(name)))

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        return self._collected(frame.to_native()).to_arrow()

    def _collected(self, lazy: pl.LazyFrame) -> pl.DataFrame:
        try:
            return lazy.collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise _unreadable(self._read_by(lazy.explain(optimized=False)), error) from error


class DuckDBEngine(Engine):
    """DuckDB in memory, through its relations."""

    def __init__(self) -> None:
        super().__init__()
        self._connection = duckdb.connect(config={"preserve_insertion_order": False, "threads": n_threads()})

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        super().__exit__(*error)

    def adopt(self, frame: pl.LazyFrame) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        stored = self.scratch / f"{len(list(self.scratch.iterdir()))}.parquet"
        try:
            frame.sink_parquet(stored, compression="lz4", engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise _unreadable(self._read_by(frame.explain(optimized=False)), error) from error
        return self.scan_parquet(stored)

    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        self._scanned[str(path)] = path
        with _one_line(path, duckdb.Error):
            relation = self._connection.read_parquet(str(path))
        return nw.from_native(relation)

    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        return nw.from_native(self._connection.from_arrow(table))

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        try:
            table: pa.Table = frame.to_native().to_arrow_table()
        except duckdb.Error as error:
            raise _unreadable(self._read_by(str(error)), error) from error
        return table


def n_threads() -> int:
    """Return how many threads the engines use."""
    return int(os.environ.get("POLARS_MAX_THREADS") or os.cpu_count() or 1)


def open_engine(name: Literal["polars", "duckdb"]) -> Engine:
    """Return the engine ``name``; use it in a ``with`` statement."""
    return DuckDBEngine() if name == "duckdb" else PolarsEngine()


def _made_once_a_text(coded: pl.Series, expressions: Sequence[nw.Expr]) -> pl.DataFrame:
    """Return ``expressions`` over the texts in ``coded`` (n,), Categorical, evaluated once for each text."""
    distinct = coded.unique()
    once: pl.DataFrame = nw.from_native(distinct.cast(pl.String).to_frame()).select(*expressions).to_native()
    codes, known = (each.to_physical() for each in (coded, distinct))
    n_codes = int(np.append(known.drop_nulls().to_numpy(), 0).max()) + 1
    row_of_code = np.zeros(n_codes + 1, dtype=np.uint32)
    row_of_code[known.fill_null(n_codes).to_numpy()] = np.arange(len(known))
    return once[row_of_code][codes.fill_null(n_codes)]  # null has the last code


@contextmanager
def _one_line(origin: Path, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise _unreadable(str(origin), error) from error


def _unreadable(origin: str, error: Exception) -> DataError:
    """Return what an engine says about ``origin`` as one line, with what to do about it."""
    reason = " ".join(str(error).split())[:300]
    if any(sign in reason.lower() for sign in ("utf-8", "utf8", "unicode")):
        return DataError(f"{origin} is not encoded as UTF-8 ({reason}); save it again as UTF-8")
    return DataError(f"{origin} cannot be read as a table ({reason}); check the file, or fetch it again")
