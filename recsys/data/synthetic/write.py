"""Invented purchases in the schema of H&M's three Kaggle files, at any size, the same for the same seed.

What can be learned from them is put in on purpose: favourite departments and sections, repeats (the same article or
another colour), baskets, and articles that are launched, peak and are sold out. Nothing is taken from real data.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys.console import progress
from recsys.data.sources.hm import FILES
from recsys.data.synthetic.catalogue import Catalogue, invent_catalogue
from recsys.data.synthetic.purchases import (
    BLOCK_CUSTOMERS,
    Calendar,
    Customers,
    Purchases,
    invent_customers,
    invent_purchases,
    make_calendar,
)
from recsys.errors import UsageError
from recsys.storage import replacing, require_absent

_CHUNK_ROWS = 500_000
#: Prices are cents over this, as in Kaggle's files: 29.99 is 0.0508305084745763.
_CENTS_PER_PRICE = 59_000


def default_articles(n_customers: int) -> int:
    """Return a number of articles that suits ``n_customers``: all of Kaggle's at its size, fewer with the square root.

    >>> default_articles(1_371_980), default_articles(1_000)
    (105542, 2849)
    """
    return max(100, round(105_542 * math.sqrt(min(1.0, n_customers / 1_371_980))))


def synthesize(
    folder: Path,
    *,
    n_customers: int,
    n_articles: int | None = None,
    seed: int = 42,
    end: date = date(2020, 9, 22),
    n_days: int = 734,
    force: bool = False,
) -> None:
    """Write ``transactions_train.csv``, ``articles.csv`` and ``customers.csv`` into ``folder``.

    A customer buys 23 articles on average. ``n_articles`` is :func:`default_articles` unless given; the window is the
    ``n_days`` days up to and including ``end``. Equal arguments give equal bytes. The three files appear together.

    Raises:
        UsageError: a size is out of range.
        OutputExistsError: one of the files exists and ``force`` is false.
    """
    if n_customers < 1 or n_days < 7:
        raise UsageError(f"found {n_customers} customers over {n_days} days; expected at least 1 customer and 7 days")
    n_articles = default_articles(n_customers) if n_articles is None else n_articles
    for name in FILES:
        require_absent(folder / name, force=force)
    catalogue_rng, customer_rng, calendar_rng, purchase_rng = np.random.default_rng(seed).spawn(4)
    calendar = make_calendar(calendar_rng, end, n_days)
    n_weeks = int(calendar.week[-1]) + 1
    with progress() as bar, ExitStack() as stack:
        task = bar.add_task("catalogue and customers", total=None)
        catalogue = invent_catalogue(catalogue_rng, n_articles, n_weeks)
        customers = invent_customers(customer_rng, catalogue, n_customers)
        ids = _hashes(customer_rng, n_customers)
        # The largest comes last, so that it is the one a full disk is blamed on.
        articles, people, transactions = (stack.enter_context(replacing(folder / name)) for name in FILES)
        # As Kaggle does: quotes only where a text holds a comma, missing values empty.
        for path, table in ((articles, catalogue.table), (people, _customers_table(customer_rng, customers, ids))):
            pl.DataFrame(table).write_csv(path, quote_style="necessary")
        n_blocks = -(-n_customers // BLOCK_CUSTOMERS)
        bar.update(task, description="purchases", total=n_blocks, completed=0)
        rows = invent_purchases(purchase_rng, customers, catalogue, calendar, lambda: bar.advance(task))
        bar.update(task, description="writing", total=-(-len(rows.day) // _CHUNK_ROWS), completed=0)
        _write_transactions(transactions, rows, ids, catalogue, calendar, lambda: bar.advance(task))


def _hashes(rng: np.random.Generator, n: int) -> pa.Array:
    """Return ``n`` strings of 64 hexadecimal digits, ascending."""
    digits = np.frombuffer(rng.bytes(32 * n).hex().encode(), dtype="S64")
    offsets = np.arange(n + 1, dtype=np.int64) * 64
    return pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(np.sort(digits).tobytes()))


def _customers_table(rng: np.random.Generator, customers: Customers, ids: pa.Array) -> pa.Table:
    """Return ``customers.csv``: newsletter readers and club members, unknown ages, postal codes as hashes."""
    n = len(ids)
    news, draw = rng.random(n) < 0.35, rng.random(n)
    active = news & (rng.random(n) < 0.97)
    codes = _hashes(rng, max(1, n // 4))
    code = np.where(rng.random(n) < 0.09, 0, rng.integers(len(codes), size=n))
    club = np.where(draw < 0.925, "ACTIVE", np.where(draw < 0.994, "PRE-CREATE", ""))
    frequency = np.where(news, "Regularly", np.where(draw < 0.99, "NONE", ""))
    age = np.where(rng.random(n) < 0.01, "", np.array([f"{age}.0" for age in range(100)])[customers.age])
    flags = {"FN": np.where(news, "1.0", ""), "Active": np.where(active, "1.0", "")}
    texts = flags | {"club_member_status": club, "fashion_news_frequency": frequency, "age": age}
    columns = {name: pa.array(text, mask=text == "") for name, text in texts.items()}
    return pa.table({"customer_id": ids, **columns, "postal_code": codes.take(pa.array(code))})


def _write_transactions(
    path: Path, rows: Purchases, ids: pa.Array, catalogue: Catalogue, calendar: Calendar, advance: Callable[[], None]
) -> None:
    """Write the rows sorted by day, within a day by customer, in chunks."""
    prices = pa.array([f"{cents / _CENTS_PER_PRICE:.15g}" for cents in range(int(rows.cents.max(initial=0)) + 1)])
    channels = pa.array(["0", "1", "2"])
    order = np.argsort(rows.day, kind="stable")

    def chunk(start: int) -> pa.RecordBatch:
        part = order[start : start + _CHUNK_ROWS]
        columns = {
            "t_dat": calendar.names.take(pa.array(rows.day[part])),
            "customer_id": ids.take(pa.array(rows.customer[part])),
            "article_id": catalogue.article_id.take(pa.array(rows.article[part])),
            "price": prices.take(pa.array(rows.cents[part])),
            "sales_channel_id": channels.take(pa.array(rows.channel[part])),
        }
        return pa.record_batch(columns)

    with path.open("wb") as stream:
        first = chunk(0)
        stream.write((",".join(first.schema.names) + "\n").encode())
        # Ids, days and numbers need no quotes, so the writer need not look for them.
        options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
        with pa_csv.CSVWriter(stream, first.schema, write_options=options) as writer:
            for start in range(0, len(order), _CHUNK_ROWS):
                writer.write_batch(chunk(start))
                advance()
