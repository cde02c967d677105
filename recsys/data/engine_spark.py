"""Spark as a data engine: sources run on it, and purchases come back in shards of whole customers."""

from pathlib import Path
from typing import Any, Final

import narwhals as nw
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.engine import Engine, errors_about
from recsys.errors import DataError
from recsys.spark import Spark, local_place, spark_errors, spark_session

#: What Spark reads of types that it does not have.
_TYPES: Final = {pl.UInt64: pl.Int64, pl.Null: pl.String, pl.Datetime("ns"): pl.Datetime("us")}


class SparkEngine(Engine):
    """Spark, classic or Connect. Everything passes through Parquet files that all machines see, under TMPDIR."""

    in_shards = True
    shard_events = 1 << 23  # about, of which some 2 GB are held at a time

    def __init__(self, spark: Spark = None) -> None:
        super().__init__()
        self.session = self._held.enter_context(spark_session(spark))

    def adopt(self, frame: pl.LazyFrame) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        return self._read(self._stored(frame.cast(_TYPES)))  # type: ignore[arg-type]

    def scan_parquet(self, path: Path) -> nw.LazyFrame[Any]:  # noqa: D102 - as Engine says
        self._scanned[str(path)] = path
        with errors_about(path, pl.exceptions.PolarsError):
            frame = pl.scan_parquet(path, glob=False)
            types = set(frame.collect_schema().values())
        return self.adopt(frame) if types & _TYPES.keys() else self._read(path)

    def collect(self, frame: nw.LazyFrame[Any]) -> pa.Table:  # noqa: D102 - as Engine says
        # Not through the driver's JVM, which is small.
        return pq.read_table(self._write(frame.to_native()))

    def shards(self, frame: nw.LazyFrame[Any], by: str) -> list[Path]:  # noqa: D102 - as Engine says
        native = frame.to_native()
        with spark_errors(self._read_by("")):
            n_shards = 1 + native.count() // self.shard_events
        return sorted(self._write(native.repartitionByRange(n_shards, by)).glob("part-*.parquet"))

    def _read(self, path: Path) -> nw.LazyFrame[Any]:
        with spark_errors(str(path)):
            return nw.from_native(self.session.read.parquet(local_place(path, to_read=True)))

    def _write(self, native: Any) -> Path:  # noqa: ANN401 - a frame of Spark
        place = self._new_place()
        with spark_errors(self._read_by("")):
            # A file a partition, whatever the cluster says: no customer may be in two.
            native.write.option("maxRecordsPerFile", 0).parquet(local_place(place))
        if not any(place.glob("part-*.parquet")):
            raise DataError(
                f"Spark's executors wrote nothing into {place}; set TMPDIR to a folder that all machines see"
            )
        return place
