"""Reader of the H&M competition's three tables, and of made-up data in the same form.

``transactions_train`` (t_dat, customer_id, article_id, price, sales_channel_id), ``articles`` and ``customers``, each
as ``.csv``, ``.csv.gz``, ``.csv.zip`` or ``.parquet``. An article id that lost its leading zero (nine digits, as when
a spreadsheet made a number of it) gets it back, with a warning and a count. All articles and all customers are kept.
"""

from pathlib import Path
from typing import Any

import narwhals as nw

from recsys import schema
from recsys.config import RAW_DIR, DataConfig
from recsys.data.engine import Engine
from recsys.data.sources.base import RawTables, Rule, Source, find_table, require_columns, with_text_id

FILES = ("articles.csv", "customers.csv", "transactions_train.csv")
_EVENTS = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")
_MENDED = "_lost_leading_zero"
_CHANNELS = [f"{number:0{width}}" for width in (1, 2) for number in range(10**width)]  # one or two digits


def read(config: DataConfig, engine: Engine) -> RawTables:
    """Return transactions, articles and customers of ``config.raw``; DataError where a file or column is missing."""
    names = ("transactions_train", "articles", "customers")
    transactions, articles, customers = (find_table(config.raw or Path(), name) for name in names)
    return RawTables(
        events=_events(require_columns(engine.scan(transactions), _EVENTS, transactions)),
        items=_with_item_id(require_columns(engine.scan(articles), ("article_id",), articles)),
        users=with_text_id(engine.scan(customers), "customer_id", schema.USER_ID, customers),
        inputs=(transactions, articles, customers),
        rules=(
            Rule("item_id_without_leading_zero", nw.col(_MENDED), drops=False),
            Rule("item_id_without_leading_zero_in_items", nw.col(_MENDED), drops=False, table="items"),
        ),
    )


def _events(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    channel = nw.col("sales_channel_id").cast(nw.String)
    known = channel.is_in(_CHANNELS)
    return _with_item_id(frame).select(
        schema.ITEM_ID,
        _MENDED,
        nw.col("customer_id").cast(nw.String).alias(schema.USER_ID),
        nw.col("t_dat").alias(schema.TIME),
        nw.col("price").alias(schema.PRICE),
        # A channel written otherwise counts as missing.
        nw.when(known).then(channel).otherwise(nw.lit(None, nw.String)).alias(schema.CHANNEL),
    )


def _with_item_id(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    attributes = [name for name in frame.collect_schema().names() if name != "article_id"]
    article = nw.col("article_id").cast(nw.String)
    lost = article.str.contains("^[0-9]{9}$")
    mended = nw.when(lost).then(nw.concat_str(nw.lit("0"), article)).otherwise(article)
    return frame.select(mended.alias(schema.ITEM_ID), lost.alias(_MENDED), *attributes)


def _usual_raw() -> Path:
    """Return ``data/raw/hm``; ``data/raw`` where the tables were unpacked there."""
    folder = RAW_DIR / "hm"
    return RAW_DIR if not folder.is_dir() and any(RAW_DIR.glob("transactions_train.*")) else folder


SOURCES = {
    "hm": Source(
        read, "The data of the H&M Personalized Fashion Recommendations competition on Kaggle.", usual_raw=_usual_raw
    ),
    "synthetic": Source(read, "Made-up purchases in the form of H&M's tables: no shop and no customer is behind them."),
}
