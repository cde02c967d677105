"""Invented purchases in the schema of H&M's three Kaggle files, at any size, the same for the same seed.

What can be learned from them is put in on purpose: a favourite section, repeats (the same article or another colour),
baskets, and articles that are launched, peak and are sold out. Nothing is taken from real data.
"""

import math
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from recsys.console import progress
from recsys.data.sources.hm import FILES
from recsys.data.synthetic.catalogue import EVERYTHING, GROUP, PRODUCT, SECTION, Catalogue, invent_catalogue
from recsys.errors import UsageError
from recsys.storage import replacing, require_absent

#: Customers made at once, and rows written at once, to bound the memory.
_BLOCK_CUSTOMERS, _CHUNK_ROWS = 50_000, 500_000
#: Prices are cents over this, as in Kaggle's files: 29.99 is 0.0508305084745763.
_CENTS_PER_PRICE = 59_000
#: How near to a customer's favourite article a purchase is, and how often.
_NEARNESS = {SECTION: 0.35, GROUP: 0.40, EVERYTHING: 0.25}
_NEVER_BUYS = 0.007  # share of the customers
_REPEAT, _OTHER_COLOUR = 0.04, 0.08  # shares of the rows that look back at what was bought before


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
    UsageError where a size is out of range, OutputExistsError where a file exists and ``force`` is false.
    """
    if n_customers < 1 or n_days < 7:
        raise UsageError(f"found {n_customers} customers over {n_days} days; expected at least 1 customer and 7 days")
    n_articles = default_articles(n_customers) if n_articles is None else n_articles
    for name in FILES:
        require_absent(folder / name, force=force)
    days = np.datetime64(end) - np.arange(n_days)[::-1]
    week_of_day = (np.arange(n_days) + -n_days % 7) // 7  # weeks end with the window, the first may be short
    day_of_year = (days - days.astype("datetime64[Y]")).astype(int)
    catalogue_rng, visits_rng, table_rng, purchase_rng = np.random.default_rng(seed).spawn(4)
    # More visits in summer, and noise: their running total.
    summer = 1 + 0.25 * np.cos(2 * np.pi * (day_of_year - 185) / 365.25)
    visits = np.concatenate([[0.0], np.cumsum(summer * visits_rng.lognormal(0, 0.12, size=n_days))])
    starts = range(0, n_customers, _BLOCK_CUSTOMERS)
    with progress() as bar, ExitStack() as stack:
        task = bar.add_task("purchases", total=len(starts))
        catalogue = invent_catalogue(catalogue_rng, n_articles, int(week_of_day[-1]) + 1)
        blocks = []
        for start, rng in zip(starts, purchase_rng.spawn(len(starts)), strict=True):
            size = min(_BLOCK_CUSTOMERS, n_customers - start)
            blocks.append(_invent_purchases(rng, start, size, catalogue, visits, week_of_day))
            bar.advance(task)
        # The largest comes last, so that it is the one a full disk is blamed on.
        articles, customers, transactions = (stack.enter_context(replacing(folder / name)) for name in FILES)
        # As Kaggle does: quotes only where a text holds a comma, missing values empty.
        pl.DataFrame(catalogue.table).write_csv(articles, quote_style="necessary")
        table = _customer_table(table_rng, n_customers)
        table.write_csv(customers, quote_style="never")
        bar.update(task, description="writing", total=None)
        _write_transactions(transactions, pl.concat(blocks), table["customer_id"], catalogue, days)


def _invent_purchases(
    rng: np.random.Generator, first: int, n: int, catalogue: Catalogue, visits: np.ndarray, week_of_day: np.ndarray
) -> pl.DataFrame:
    """Return what ``n`` customers, numbered from ``first`` on, buy; rows are sorted by customer and day."""
    customer, day, channel = _baskets(rng, n, visits)
    week = week_of_day[day]
    everything = np.zeros(n, dtype=np.int64), np.full(n, len(catalogue.article_id))
    favourite = _drawn(rng, catalogue.popularity.sum(axis=0), *everything)[customer]
    nearness = rng.choice(list(_NEARNESS), size=len(day), p=list(_NEARNESS.values()))
    low, high = catalogue.low[nearness, favourite], catalogue.high[nearness, favourite]
    article = np.empty(len(day), dtype=np.int64)
    for number, popularity in enumerate(catalogue.popularity):
        rows = np.flatnonzero(week == number)
        article[rows] = _drawn(rng, popularity, low[rows], high[rows])
    article = _with_repeats(rng, catalogue, article, customer, week)
    launch, end = catalogue.launch_week[article], catalogue.end_week[article]
    is_reduced = ((week + 0.5 - launch) / (end - launch) > 0.75) & (rng.random(len(day)) < 0.7)
    columns = {
        "customer": (first + customer).astype(np.int32),
        "day": day.astype(np.int16),
        "article": article.astype(np.int32),
        "cents": np.rint(catalogue.price_cents[article] * np.where(is_reduced, 0.6, 1.0)).astype(np.int32),
        "channel": channel,
    }
    return pl.DataFrame(columns)


def _baskets(rng: np.random.Generator, n: int, visits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each purchase its customer, day and channel, sorted by customer and day.

    A customer buys in a part of the window only; what exceeds its end goes on at its beginning, so that over all
    customers purchases follow the visits of the days.
    """
    n_baskets = np.clip(np.rint(rng.lognormal(np.log(3.1), 1.25, size=n)), 1, 200).astype(np.int64)
    n_baskets[rng.random(n) < _NEVER_BUYS] = 0
    begin, span = rng.random(n), rng.uniform(0.1, 1, size=n)
    usual_size = rng.lognormal(np.log(2.27), 0.4, size=n)

    owner = np.repeat(np.arange(n), n_baskets)
    when = (begin[owner] + span[owner] * rng.random(len(owner))) % 1 * visits[-1]
    day = np.minimum(np.searchsorted(visits, when, side="right") - 1, len(visits) - 2)
    day = day[np.lexsort((day, owner))]
    size = np.clip(np.rint(usual_size[owner] * rng.lognormal(0, 0.8, size=len(owner))), 1, 60).astype(np.int64)
    channel = np.where(rng.random(len(owner)) < 0.7, 2, 1).astype(np.int8)
    return np.repeat(owner, size), np.repeat(day, size), np.repeat(channel, size)


def _drawn(rng: np.random.Generator, running_total: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return an article (n,) of each range from ``low`` to ``high`` (n,), in proportion to its popularity."""
    begin, end = running_total[low], running_total[high]
    sold_out = end <= begin  # nothing of the range is on sale: draw from everything
    begin[sold_out], end[sold_out] = 0, running_total[-1]
    point = np.minimum(begin + rng.random(len(low)) * (end - begin), np.nextafter(running_total[-1], 0))
    return np.asarray(np.searchsorted(running_total, point, side="right") - 1)


def _with_repeats(
    rng: np.random.Generator, catalogue: Catalogue, fresh: np.ndarray, customer: np.ndarray, week: np.ndarray
) -> np.ndarray:
    """Return ``fresh`` (E,) with some replaced by an article of an earlier row, or by another of its colours.

    Recent rows are looked back at more often, and what they found is bought again only while it is on sale.
    """
    n_earlier = np.arange(len(fresh)) - np.searchsorted(customer, customer)  # customers are sorted
    back = np.minimum(1 + (n_earlier * rng.random(len(fresh)) ** 2).astype(np.int64), n_earlier)
    same = fresh[np.arange(len(fresh)) - back]
    low, high = catalogue.low[PRODUCT, same], catalogue.high[PRODUCT, same]
    colour = low + (rng.random(len(fresh)) * (high - low)).astype(np.int64)
    what = rng.random(len(fresh))
    found = np.where(what < _REPEAT, same, colour)
    is_back = (n_earlier > 0) & (what < _REPEAT + _OTHER_COLOUR) & catalogue.on_sale(found, week)
    return np.where(is_back, found, fresh)


def _hashes(rng: np.random.Generator, n: int) -> list[str]:
    """Return ``n`` strings of 64 hexadecimal digits, ascending."""
    return sorted(rng.bytes(32).hex() for _ in range(n))


def _customer_table(rng: np.random.Generator, n: int) -> pl.DataFrame:
    """Return ``customers.csv``: newsletter readers and club members, unknown ages, postal codes as hashes."""
    age = np.clip(np.rint(rng.normal(36, 14, size=n)), 16, 99)
    news, draw = rng.random(n) < 0.35, rng.random(n)
    codes = pl.Series(_hashes(rng, max(1, n // 4)))
    return pl.DataFrame(
        {
            "customer_id": _hashes(rng, n),
            "FN": np.where(news, "1.0", ""),
            "Active": np.where(news & (rng.random(n) < 0.97), "1.0", ""),
            "club_member_status": np.where(draw < 0.925, "ACTIVE", np.where(draw < 0.994, "PRE-CREATE", "")),
            "fashion_news_frequency": np.where(news, "Regularly", np.where(draw < 0.99, "NONE", "")),
            "age": np.where(rng.random(n) < 0.01, "", age.astype(str)),
            "postal_code": codes.gather(rng.integers(len(codes), size=n)),
        }
    )


def _write_transactions(path: Path, rows: pl.DataFrame, ids: pl.Series, catalogue: Catalogue, days: np.ndarray) -> None:
    """Write the rows sorted by day, within a day by customer, in chunks."""
    names, articles = pl.Series(days.astype(str)), pl.Series(catalogue.article_id)
    prices = pl.Series([f"{cents / _CENTS_PER_PRICE:.15g}" for cents in range(int(catalogue.price_cents.max()) + 1)])
    header = "t_dat,customer_id,article_id,price,sales_channel_id\n"
    with path.open("wb") as stream:
        stream.write(header.encode())
        for chunk in rows.sort("day", maintain_order=True).iter_slices(_CHUNK_ROWS):
            texts = chunk.select(
                names.gather(chunk["day"]).alias("day"),
                ids.gather(chunk["customer"]).alias("customer"),
                articles.gather(chunk["article"]).alias("article"),
                prices.gather(chunk["cents"]).alias("price"),
                "channel",
            )
            texts.write_csv(stream, include_header=False, quote_style="never")
