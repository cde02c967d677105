"""Invented purchases in the schema of H&M's three Kaggle files, at any size, the same for the same seed.

What can be learned from them is put in on purpose: favourite departments and sections, repeats (the same article or
another colour), baskets, and articles that are launched, peak and are sold out. Nothing is taken from real data.
"""

import math
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from recsys.console import progress
from recsys.data.sources.hm import FILES
from recsys.data.synthetic.catalogue import Catalogue, invent_catalogue
from recsys.data.synthetic.purchases import Customers, daily_visits, invent_customers
from recsys.errors import UsageError
from recsys.storage import replacing, require_absent

#: Customers made at once, and rows written at once, to bound the memory.
_BLOCK_CUSTOMERS, _CHUNK_ROWS = 50_000, 500_000
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
    days = np.datetime64(end) - np.arange(n_days)[::-1]
    week_of_day = (np.arange(n_days) + -n_days % 7) // 7  # weeks end with the window, the first may be short
    catalogue_rng, visits_rng, table_rng, customer_rng = np.random.default_rng(seed).spawn(4)
    starts = range(0, n_customers, _BLOCK_CUSTOMERS)
    with progress() as bar, ExitStack() as stack:
        task = bar.add_task("purchases", total=len(starts))
        catalogue = invent_catalogue(catalogue_rng, n_articles, int(week_of_day[-1]) + 1)
        visits = daily_visits(visits_rng, days)
        blocks = []
        for start, rng in zip(starts, customer_rng.spawn(len(starts)), strict=True):
            size = min(_BLOCK_CUSTOMERS, n_customers - start)
            blocks.append(invent_customers(rng, size, catalogue, visits, week_of_day))
            bar.advance(task)
        # The largest comes last, so that it is the one a full disk is blamed on.
        articles, customers, transactions = (stack.enter_context(replacing(folder / name)) for name in FILES)
        # As Kaggle does: quotes only where a text holds a comma, missing values empty.
        pl.DataFrame(catalogue.table).write_csv(articles, quote_style="necessary")
        table = _customer_table(table_rng, np.concatenate([block.age for block in blocks]))
        table.write_csv(customers, quote_style="never")
        bar.update(task, description="writing", total=None)
        _write_transactions(transactions, blocks, table["customer_id"], catalogue, days)


def _hashes(rng: np.random.Generator, n: int) -> list[str]:
    """Return ``n`` strings of 64 hexadecimal digits, ascending."""
    return sorted(rng.bytes(32).hex() for _ in range(n))


def _customer_table(rng: np.random.Generator, age: np.ndarray) -> pl.DataFrame:
    """Return ``customers.csv``: newsletter readers and club members, unknown ages, postal codes as hashes."""
    n = len(age)
    news, draw = rng.random(n) < 0.35, rng.random(n)
    codes = pl.Series(_hashes(rng, max(1, n // 4)))
    return pl.DataFrame(
        {
            "customer_id": _hashes(rng, n),
            "FN": np.where(news, "1.0", ""),
            "Active": np.where(news & (rng.random(n) < 0.97), "1.0", ""),
            "club_member_status": np.where(draw < 0.925, "ACTIVE", np.where(draw < 0.994, "PRE-CREATE", "")),
            "fashion_news_frequency": np.where(news, "Regularly", np.where(draw < 0.99, "NONE", "")),
            "age": np.where(rng.random(n) < 0.01, "", np.char.add(age.astype(str), ".0")),
            "postal_code": codes.gather(rng.integers(len(codes), size=n)),
        }
    )


def _write_transactions(
    path: Path, blocks: list[Customers], ids: pl.Series, catalogue: Catalogue, days: np.ndarray
) -> None:
    """Write the rows sorted by day, within a day by customer, in chunks."""
    sizes = [len(block.age) for block in blocks]
    first = np.cumsum([0, *sizes[:-1]])
    customer = np.concatenate([block.customer + start for block, start in zip(blocks, first, strict=True)])
    day, article, cents, channel = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("day", "article", "cents", "channel")
    )
    names, articles = pl.Series(days.astype(str)), pl.Series(catalogue.article_id)
    prices = pl.Series([f"{cent / _CENTS_PER_PRICE:.15g}" for cent in range(int(cents.max(initial=0)) + 1)])
    order = np.argsort(day, kind="stable")
    with path.open("wb") as stream:
        for start in range(0, max(len(order), 1), _CHUNK_ROWS):
            rows = order[start : start + _CHUNK_ROWS]
            chunk = {
                "t_dat": names.gather(day[rows]),
                "customer_id": ids.gather(customer[rows]),
                "article_id": articles.gather(article[rows]),
                "price": prices.gather(cents[rows]),
                "sales_channel_id": channel[rows],
            }
            pl.DataFrame(chunk).write_csv(stream, include_header=start == 0, quote_style="never")
