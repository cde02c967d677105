"""The only place that knows which data engine runs: tables come in and go out, Narwhals expressions in between.

Everything is lazy until :meth:`Engine.collect`; the same expressions give the same rows on every engine, in no
particular order.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import narwhals as nw
import pyarrow as pa


class Engine(AbstractContextManager["Engine"], ABC):
    """Reads tables lazily and runs Narwhals expressions over them; a context, as it may hold temporary files."""

    name: str

    @abstractmethod
    def scan_csv(self, path: Path, separator: str = ",") -> nw.LazyFrame[Any]:
        """Return the CSV file (plain, gzipped or the only member of a zip) with every column as strings."""

    @abstractmethod
    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the Parquet file with its own types."""

    @abstractmethod
    def from_arrow(self, table: pa.Table) -> nw.LazyFrame[Any]:
        """Return an in-memory table as a frame of this engine."""

    @abstractmethod
    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:
        """Return the rows of ``frame``, in no particular order."""

    def scan(self, path: Path) -> nw.LazyFrame[Any]:
        """Return the table in ``path``: Parquet by its ending, else CSV."""
        return self.scan_parquet(path) if path.suffix == ".parquet" else self.scan_csv(path)
