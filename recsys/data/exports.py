"""Lists as people open them: CSV or Excel, with names of the items, and the reasons where there are any."""

from pathlib import Path
from typing import Final

import polars as pl

from recsys import schema
from recsys.data.item_names import Labels
from recsys.data.purchases import Purchases
from recsys.errors import DataError, UsageError
from recsys.storage import replacing

#: What a table may be called; Parquet is for programs.
ENDINGS: Final = (".parquet", ".csv", ".xlsx")
_EXCEL_ROWS: Final = 1_048_575


def require_ending(path: Path) -> None:
    """Raise a UsageError where a table is to be written in a form that its name does not tell."""
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise UsageError(f"--out {path}: expected the name of a file that ends in {', '.join(ENDINGS)}")


def export_lists(lists: Path, log: Purchases, out: Path, reasons: Path | None = None) -> None:
    """Write the Parquet table ``lists`` to ``out`` as CSV or Excel: user_id, rank, item_id, item_name, score[, reason].

    ``reasons`` is the Parquet table of the same lists. DataError where a sheet cannot hold so many rows.
    """
    labels = Labels(log.items)
    names = [labels.product(index).label for index in range(1, log.n_items + 1)]
    named = pl.LazyFrame({schema.ITEM_ID: log.item_ids.to_pylist(), "item_name": names})
    frame = pl.scan_parquet(lists, glob=False).with_columns(pl.col(schema.USER_ID, schema.ITEM_ID).cast(pl.String))
    frame = frame.join(named, on=schema.ITEM_ID, how="left", maintain_order="left")
    columns = [schema.USER_ID, schema.RANK, schema.ITEM_ID, "item_name", schema.SCORE]
    if reasons is not None:
        texts = pl.scan_parquet(reasons, glob=False).select(
            pl.col(schema.USER_ID).cast(pl.String), schema.RANK, schema.TEXT
        )
        texts = texts.unique([schema.USER_ID, schema.RANK]).rename({schema.TEXT: schema.REASON})
        frame = frame.join(texts, on=[schema.USER_ID, schema.RANK], how="left", maintain_order="left")
        columns.append(schema.REASON)
    table = frame.select(columns).collect()
    if out.suffix.lower() == ".csv":
        with replacing(out) as aside:
            table.write_csv(aside)
        return
    if len(table) > _EXCEL_ROWS:
        raise DataError(f"{out}: {len(table):,} rows, a sheet holds {_EXCEL_ROWS:,}; write a .csv")
    with replacing(out) as aside, aside.open("wb") as stream:
        table.write_excel(stream, "lists", autofit=True)
