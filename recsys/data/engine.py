"""The only place that knows which data engine runs: tables come in and go out, Narwhals expressions in between.

The same expressions give the same rows on every engine, in no particular order.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import narwhals as nw
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.reading.files import open_table
from recsys.data.reading.layout import FileForm
from recsys.data.text_codes import TextCoder, Texts
from recsys.errors import DataError
from recsys.spark import Spark

_BLOCK_ROWS = 1 << 18
_HASH = "hash of "
#: How the files of sources that know them are written.
_COMMAS = FileForm(separator=",", header=True)


class Engine(ABC):
    """Reads tables lazily and runs Narwhals expressions over them; a context, as it may hold temporary files."""

    in_shards = False  # whether there may be too many rows to come back at once

    def __init__(self) -> None:
        self._held = ExitStack()  # what is given back at the end
        #: For copies of files that are packed, quoted or encoded otherwise.
        self.scratch = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="recsys-")))
        self.n_records: dict[Path, int | None] = {}  # by scanned file, counted apart from the reading
        self._scanned: dict[str, Path] = {}  # by the place that is read, the file that was asked for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @abstractmethod
    def adopt(self, frame: pl.LazyFrame) -> nw.LazyFrame[Any]:
        """Return what :mod:`recsys.data.reading` opened as a frame of this engine."""

    @abstractmethod
    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the Parquet file with its own types; DataError where it is not a Parquet file."""

    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:
        """Return an in-memory table as a frame of this engine."""
        return self.adopt(pl.DataFrame(pl.from_arrow(table)).lazy())

    @abstractmethod
    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:
        """Return the rows of ``frame``, in no particular order; DataError where a file turns out to be malformed."""

    def collect_columns(
        self, frame: nw.LazyFrame[Any], texts: Mapping[str, pa.Array], made: Mapping[str, Sequence[nw.Expr]]
    ) -> tuple[dict[str, np.ndarray], dict[str, Texts]]:
        """Return the columns (E,) of ``frame`` in one pass, rows in no particular order, and apart from them ``texts``.

        Of each of these the texts are given that are known beforehand: with these its values begin. Each column of
        ``made`` is replaced by what these expressions make of it. They read nothing but its text, a row at a time, so
        that an engine may evaluate them once for each distinct text. Dates come as int32, days since 1970-01-01.
        The columns are the caller's, to be written over.
        """
        others = [name for name in frame.collect_schema().names() if name not in made]
        table = self.collect(frame.select(*others, *(each for expressions in made.values() for each in expressions)))
        coded = {name: Texts.of_column(table[name], known) for name, known in texts.items()}
        columns = {name: _in_days(table[name].to_numpy()) for name in table.column_names if name not in coded}
        return {name: np.require(column, requirements="W") for name, column in columns.items()}, coded

    def shards(self, frame: nw.LazyFrame[Any], by: str) -> list[Path]:
        """Write ``frame`` as Parquet files of whole groups of ``by``, ascending, where the engine is one of shards."""
        raise NotImplementedError

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

    def _new_place(self) -> Path:
        return self.scratch / f"{len(list(self.scratch.iterdir()))}.parquet"

    def _stored(self, frame: pl.LazyFrame) -> Path:
        """Return the Parquet file in ``scratch`` that ``frame`` is written to."""
        place = self._new_place()
        with self._reading(frame):
            frame.sink_parquet(place, compression="lz4", engine="streaming")
        return place

    @contextmanager
    def _reading(self, plan: pl.LazyFrame) -> Iterator[None]:
        """Raise what Polars says of ``plan`` as a DataError about the files that it reads."""
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise unreadable(self._read_by(plan.explain(optimized=False)), error) from error

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
        with errors_about(path, pl.exceptions.PolarsError):
            frame = pl.scan_parquet(path, glob=False)
            frame.collect_schema()
        return nw.from_native(frame)

    def collect_columns(  # noqa: D102 - as Engine says
        self, frame: nw.LazyFrame[Any], texts: Mapping[str, pa.Array], made: Mapping[str, Sequence[nw.Expr]]
    ) -> tuple[dict[str, np.ndarray], dict[str, Texts]]:
        recurring = {name: _MadeOfText(name, made[name]) for name in made if self._texts_recur(frame, name)}
        at_once = [each for name in made if name not in recurring for each in made[name]]
        others = [name for name in frame.collect_schema().names() if name not in made]
        lazy: pl.LazyFrame = frame.select(*others, *recurring, *at_once).to_native()
        coders = {name: TextCoder(known) for name, known in texts.items()}
        columns = self._columns(lazy, coders, recurring)
        return columns, {name: Texts(columns.pop(name), coder.values()) for name, coder in coders.items()}

    def _columns(
        self, lazy: pl.LazyFrame, coders: Mapping[str, TextCoder], recurring: "Mapping[str, _MadeOfText]"
    ) -> dict[str, np.ndarray]:
        """Return the columns (E,) of ``lazy``, of some of them the codes, filled a block of rows at a time."""
        every = {**coders, **{name: each.coder for name, each in recurring.items()}}
        hashes = [pl.col(name).hash(coder.seed).alias(_HASH + name) for name, coder in every.items()]
        columns: dict[str, np.ndarray] = {}
        n_rows, n_expected = 0, sum(filter(None, self.n_records.values()))
        for block in self._blocks(lazy.with_columns(hashes)):
            begin, n_rows = n_rows, n_rows + len(block)
            made: dict[str, np.ndarray] = {}
            for name in (name for name in block.columns if not name.startswith(_HASH)):
                if name in recurring:
                    made |= recurring[name].columns(block[_HASH + name].to_numpy(), block[name])
                elif name in coders:
                    made[name] = coders[name].codes(block[_HASH + name].to_numpy(), block[name])
                else:
                    made[name] = _in_days(block[name].to_numpy())
            for name, values in made.items():
                if n_rows > len(columns.setdefault(name, values)):
                    longer = np.zeros(max(n_expected, 2 * n_rows), values.dtype)  # takes memory where it is filled
                    longer[:begin] = columns[name][:begin]
                    columns[name] = longer
                if values.any():
                    columns[name][begin:n_rows] = values
        return {name: column[:n_rows] for name, column in columns.items()}

    def _blocks(self, lazy: pl.LazyFrame) -> Iterator[pl.DataFrame]:
        """Yield the rows of ``lazy``, some at a time, the first block without any."""
        with self._reading(lazy):
            yield lazy.collect_schema().to_frame()
            yield from lazy.collect_batches(chunk_size=_BLOCK_ROWS, maintain_order=False, engine="streaming")

    def _texts_recur(self, frame: nw.LazyFrame[Any], column: str) -> bool:
        """Return whether the first rows suggest that the texts in ``column`` are few, each in many rows."""
        first = self.collect(frame.select(column).head(10_000))[column]
        return len(first) > 0 and 2 * pc.count_distinct(first, mode="all").as_py() < len(first)

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        lazy: pl.LazyFrame = frame.to_native()
        with self._reading(lazy):
            return lazy.collect(engine="streaming").to_arrow()


class _MadeOfText:
    """What expressions make of a column of text, evaluated once for each distinct text."""

    def __init__(self, name: str, expressions: Sequence[nw.Expr]) -> None:
        self._name, self._expressions, self.coder = name, expressions, TextCoder(pa.array([], pa.string()))
        self._n_evaluated = 0
        self._values: dict[str, np.ndarray] = {}  # by column, (n + 1,): of each text, and of null, whose code is -1

    def columns(self, hash_B: np.ndarray, texts: pl.Series) -> dict[str, np.ndarray]:
        """Return what they make (B,) of a block of ``texts`` with these hashes (B,) uint64, by column."""
        code_B = self.coder.codes(hash_B, texts)
        if new := self.coder.texts[self._n_evaluated :]:
            self._n_evaluated += len(new)
            with_null = pl.concat([*new, pl.Series([None], dtype=pl.String)]).rename(self._name)
            made = nw.from_native(with_null.to_frame()).select(*self._expressions)
            for name in made.columns:
                values = _in_days(made[name].to_numpy())
                self._values[name] = np.append(self._values.get(name, values[:1])[:-1], values)
        return {name: values.take(code_B, mode="wrap") for name, values in self._values.items()}


def _in_days(values: np.ndarray) -> np.ndarray:
    """Return dates (n,) as int32, days since 1970-01-01, other values as they are."""
    return values.astype("datetime64[D]").astype(np.int32) if values.dtype.kind == "M" else values


class DuckDBEngine(Engine):
    """DuckDB in memory, through its relations."""

    def __init__(self) -> None:
        super().__init__()
        self._connection = duckdb.connect(config={"preserve_insertion_order": False, "threads": pl.thread_pool_size()})
        self._held.callback(self._connection.close)

    def adopt(self, frame: pl.LazyFrame) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        return self.scan_parquet(self._stored(frame))

    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        self._scanned[str(path)] = path
        with errors_about(path, duckdb.Error):
            relation = self._connection.read_parquet(str(path))
        return nw.from_native(relation)

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        try:
            table: pa.Table = frame.to_native().to_arrow_table()
        except duckdb.Error as error:
            raise unreadable(self._read_by(str(error)), error) from error
        return table


def open_engine(name: Literal["polars", "duckdb", "spark"], spark: Spark = None) -> Engine:
    """Return the engine ``name``, ``spark`` a session or an address of one; use it in a ``with`` statement."""
    if name == "spark":  # loaded for itself alone: it is an extra
        engine: Engine = import_module("recsys.data.engine_spark").SparkEngine(spark)
        return engine
    return DuckDBEngine() if name == "duckdb" else PolarsEngine()


@contextmanager
def errors_about(origin: Path, *errors: type[Exception]) -> Iterator[None]:
    """Raise ``errors`` of an engine about ``origin`` as a DataError of one line."""
    try:
        yield
    except errors as error:
        raise unreadable(str(origin), error) from error


def unreadable(origin: str, error: Exception) -> DataError:
    """Return what an engine says about ``origin`` as one line, with what to do about it."""
    reason = " ".join(str(error).split())[:300]
    if any(sign in reason.lower() for sign in ("utf-8", "utf8", "unicode")):
        return DataError(f"{origin} is not encoded as UTF-8 ({reason}); save it again as UTF-8")
    return DataError(f"{origin} cannot be read as a table ({reason}); check the file, or fetch it again")
