"""Who buys what, when: invented customers with tastes, and their purchases, drawn in blocks of whole arrays.

Nothing is done per event in Python. Shapes: U customers, E purchases, Y days of the window.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from recsys.data.synthetic.catalogue import N_GROUPS, Catalogue

BLOCK_CUSTOMERS = 50_000
#: Nodes of a customer's taste (three departments, two sections, home group, everything), how often each is drawn from.
_TASTE_SHARE = np.array([0.11, 0.06, 0.04, 0.08, 0.05, 0.40, 0.26])
_HOME_GROUP_SHARE = np.array([0.56, 0.22, 0.09, 0.09, 0.04])
_MEAN_AGE = np.array([38, 24, 35, 37, 31])
_NEVER_BUYS = 0.007  # share of the customers
_DUPLICATE = 0.10  # share of the further rows of a basket that are one more size of the article before
_REPEAT, _OTHER_COLOUR = 0.05, 0.07  # shares of the rows that look back at what was bought before


@dataclass(frozen=True)
class Customers:
    """Hidden traits of customers, in the order of their ids. Shapes: U customers, 7 cells of taste."""

    taste: np.ndarray  # (U, 7) int32: nodes of the tree
    age: np.ndarray  # (U,) int32
    online: np.ndarray  # (U,) float32: share of baskets bought online
    n_baskets: np.ndarray  # (U,) int32
    basket_size: np.ndarray  # (U,) float32: scale of the basket sizes
    middle: np.ndarray  # (U,) float32: middle of the time in which they buy, as a share of the window's traffic
    span: np.ndarray  # (U,) float32: length of that time, likewise; what exceeds the window is folded back into it


@dataclass(frozen=True)
class Calendar:
    """Days of the window. Shape: Y days."""

    names: pa.Array  # (Y,) string YYYY-MM-DD
    traffic: np.ndarray  # (Y+1,) float64: running total of the visits of a day
    week: np.ndarray  # (Y,) int32: weeks end with the window, the first may be short


@dataclass(frozen=True)
class Purchases:
    """Purchases. Shape: E rows."""

    customer: np.ndarray  # (E,) int32
    day: np.ndarray  # (E,) int16
    article: np.ndarray  # (E,) int32: position in taste order
    cents: np.ndarray  # (E,) int32
    channel: np.ndarray  # (E,) int8


def make_calendar(rng: np.random.Generator, end: date, n_days: int) -> Calendar:
    """Return the window with more visits in summer and late in the week, noise, and a few days of sale."""
    dates = [end - timedelta(days=back) for back in range(n_days - 1, -1, -1)]
    day_of_year = np.array([day.timetuple().tm_yday for day in dates])
    late = np.array([day.weekday() in (2, 3, 4, 5) for day in dates])
    visits = 1 + 0.25 * np.cos(2 * np.pi * (day_of_year - 185) / 365.25)
    visits = visits * np.where(late, 1.08, 0.94) * rng.lognormal(0, 0.12, size=n_days)
    visits[rng.random(n_days) < 0.02] *= 1.8
    traffic = np.concatenate([[0.0], np.cumsum(visits)])
    week = (np.arange(n_days) + (-n_days) % 7) // 7
    return Calendar(pa.array([day.isoformat() for day in dates]), traffic, week.astype(np.int32))


def invent_customers(rng: np.random.Generator, catalogue: Catalogue, n: int) -> Customers:
    """Return customers: a home group that goes with age, tastes within it, and a time in which they buy at all."""
    home = rng.choice(N_GROUPS, size=n, p=_HOME_GROUP_SHARE)
    n_baskets = np.clip(np.rint(rng.lognormal(np.log(3.1), 1.25, size=n)), 1, 200).astype(np.int32)
    n_baskets[rng.random(n) < _NEVER_BUYS] = 0
    return Customers(
        taste=_tastes(rng, catalogue, home),
        age=np.clip(np.rint(rng.normal(_MEAN_AGE[home], 12)), 16, 99).astype(np.int32),
        online=rng.beta(1.4, 0.6, size=n).astype(np.float32),
        n_baskets=n_baskets,
        basket_size=rng.lognormal(np.log(2.27), 0.4, size=n).astype(np.float32),
        middle=rng.random(n, dtype=np.float32),
        span=rng.uniform(0.1, 2.0, size=n).astype(np.float32),
    )


def _tastes(rng: np.random.Generator, catalogue: Catalogue, home: np.ndarray) -> np.ndarray:
    """Return the nodes (U, 7) each customer draws from; favourites are likelier the more a node sells in the window."""
    tree = catalogue.tree
    sold = catalogue.popularity.sum(axis=0)
    per_node = sold[tree.high] - sold[tree.low] + 1e-9
    sections = per_node[tree.n_departments : tree.first_group]
    first, second = (_draw_child(rng, sections, tree.group_of_section, home) for _ in range(2))
    departments, above = per_node[: tree.n_departments], tree.section_of_department
    favourites = [_draw_child(rng, departments, above, parent) for parent in (first, first, second)]
    columns = [*favourites, first + tree.n_departments, second + tree.n_departments, home + tree.first_group]
    columns.append(np.full(len(home), len(tree.low) - 1))  # the root
    return np.stack(columns, axis=1).astype(np.int32)


def _draw_child(rng: np.random.Generator, weight: np.ndarray, parent_of: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return for each wanted parent one of its children, in proportion to ``weight``; children are sorted by parent."""
    total = np.concatenate([[0.0], np.cumsum(weight)])
    low, high = np.searchsorted(parent_of, parent), np.searchsorted(parent_of, parent, side="right")
    point = total[low] + rng.random(len(parent)) * (total[high] - total[low])
    return np.asarray(np.clip(np.searchsorted(total, point, side="right") - 1, low, high - 1))


def invent_purchases(
    rng: np.random.Generator,
    customers: Customers,
    catalogue: Catalogue,
    calendar: Calendar,
    advance: Callable[[], None],
) -> Purchases:
    """Return all purchases, sorted by customer and day, made in blocks of customers to bound the memory."""
    blocks = []
    n = len(customers.n_baskets)
    starts = range(0, n, BLOCK_CUSTOMERS)
    for start, block_rng in zip(starts, rng.spawn(len(starts)), strict=True):
        who = np.arange(start, min(start + BLOCK_CUSTOMERS, n), dtype=np.int32)
        blocks.append(_block_purchases(block_rng, who, customers, catalogue, calendar))
        advance()
    # Popped, so that no column is held twice for long.
    return Purchases(**{name: np.concatenate([block.pop(name) for block in blocks]) for name in list(blocks[0])})


def _block_purchases(
    rng: np.random.Generator, who: np.ndarray, customers: Customers, catalogue: Catalogue, calendar: Calendar
) -> dict[str, np.ndarray]:
    """Return the columns of :class:`Purchases` for the customers ``who``, sorted by customer and day."""
    basket_of, customer, day, channel = _baskets(rng, who, customers, calendar)
    week = calendar.week[day]
    cell = _TASTE_SHARE.cumsum().searchsorted(rng.random(len(day)) * _TASTE_SHARE.sum(), side="right")
    node = customers.taste[customer, np.minimum(cell, len(_TASTE_SHARE) - 1)]
    article = _draw_articles(rng, catalogue, node, week)
    article = _repeats(rng, catalogue, article, customer, week)
    cents = _prices(rng, catalogue, article, week)
    # Several sizes of one article in a basket are rows of their own with the same price.
    twin = (rng.random(len(day)) < _DUPLICATE) & (np.diff(basket_of, prepend=-1) == 0)
    source = np.maximum.accumulate(np.where(twin, 0, np.arange(len(day))))
    return {
        "customer": customer,
        "day": day.astype(np.int16),
        "article": article[source].astype(np.int32),
        "cents": cents[source].astype(np.int32),
        "channel": channel,
    }


def _baskets(
    rng: np.random.Generator, who: np.ndarray, customers: Customers, calendar: Calendar
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return for each row its basket, customer, day and channel, sorted by customer and day.

    Times are folded back at both ends of the window, so that over all customers they follow the traffic of the days.
    """
    owner = np.repeat(who, customers.n_baskets[who])
    when = np.abs(customers.middle[owner] + customers.span[owner] * (rng.random(len(owner)) - 0.5))
    when = 1 - np.abs(1 - when)
    day = np.searchsorted(calendar.traffic, when * calendar.traffic[-1], side="right") - 1
    day = np.clip(day, 0, len(calendar.week) - 1)
    order = np.lexsort((day, owner))
    owner, day = owner[order], day[order]
    size = np.clip(np.rint(customers.basket_size[owner] * rng.lognormal(0, 0.8, size=len(owner))), 1, 60)
    channel = np.where(rng.random(len(owner)) < customers.online[owner], 2, 1).astype(np.int8)
    basket_of = np.repeat(np.arange(len(owner)), size.astype(np.int64))
    return basket_of, owner[basket_of], day[basket_of], channel[basket_of]


def _draw_articles(rng: np.random.Generator, catalogue: Catalogue, node: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Return an article (E,) int64 on sale in each row's week, within its node, in proportion to its popularity."""
    article = np.empty(len(node), dtype=np.int64)
    draw = rng.random(len(node))
    order = np.argsort(week.astype(np.int16), kind="stable")
    bounds = np.searchsorted(week[order], np.arange(len(catalogue.popularity) + 1))
    for total, begin, end in zip(catalogue.popularity, bounds[:-1], bounds[1:], strict=True):
        rows = order[begin:end]
        low, high = total[catalogue.tree.low[node[rows]]], total[catalogue.tree.high[node[rows]]]
        sold_out = high <= low  # nothing of the node is on sale: draw from everything
        low[sold_out], high[sold_out] = 0, total[-1]
        point = np.minimum(low + draw[rows] * (high - low), np.nextafter(total[-1], 0))
        article[rows] = np.searchsorted(total, point, side="right") - 1
    return article


def _repeats(
    rng: np.random.Generator, catalogue: Catalogue, fresh: np.ndarray, customer: np.ndarray, week: np.ndarray
) -> np.ndarray:
    """Return ``fresh`` with some rows replaced by an earlier purchase of the customer, or by another of its colours.

    A repeating row points to an earlier row, mostly a recent one; pointers are followed to a fresh purchase. What it
    finds is bought again only if it still is on sale, and the sooner the more its type is bought again at all.
    """
    rows = np.arange(len(fresh))
    first = np.searchsorted(customer, customer)  # customers are sorted
    earlier = rows - first
    back = 1 + np.floor(earlier * rng.random(len(rows)) ** 2).astype(np.int64)
    kind = rng.random(len(rows))
    pointing = (earlier > 0) & (kind < _REPEAT + _OTHER_COLOUR)
    root = np.where(pointing, rows - np.minimum(back, earlier), rows)
    while not np.array_equal(root[root], root):
        root = root[root]
    same = fresh[root]
    shift = np.floor(rng.random(len(rows)) * catalogue.product_size[same]).astype(np.int64)
    start = catalogue.product_start[same]
    sibling = start + (same - start + shift) % catalogue.product_size[same]
    found = np.where(kind < _REPEAT, same, sibling)
    wanted = (kind >= _REPEAT) | (rng.random(len(rows)) < catalogue.again[same])
    return np.where(pointing & wanted & catalogue.on_sale(found, week), found, fresh)


def _prices(rng: np.random.Generator, catalogue: Catalogue, article: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Return prices in cents (E,): full, marked down towards the end of an article's life, or with a discount."""
    launch, end = catalogue.launch_week[article], catalogue.end_week[article]
    gone = (week + 0.5 - launch) / (end - launch)
    markdown = np.where(gone > 0.9, 0.5, np.where(gone > 0.75, 0.3, 0.0)) * (rng.random(len(article)) < 0.7)
    discount = np.where(rng.random(len(article)) < 0.15, rng.choice([0.05, 0.1, 0.2, 0.25], size=len(article)), 0.0)
    return np.asarray(np.rint(catalogue.price_cents[article] * (1 - markdown) * (1 - discount)))
