"""Who buys what, when: invented customers with tastes, and their purchases, drawn in whole arrays.

Shapes: U customers, B baskets, E purchases, Y days of the window, W weeks.
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.synthetic.catalogue import DEPARTMENT, EVERYTHING, GROUP, INDEX_GROUPS, PRODUCT, SECTION, Catalogue

#: A customer's taste: to which of two favourite articles a purchase is related, how nearly, and how often.
_FAVOURITE = np.array([0, 0, 1, 1, 0, 0])
_NEARNESS = np.array([DEPARTMENT, SECTION, DEPARTMENT, SECTION, GROUP, EVERYTHING])
_TASTE_SHARE = np.array([0.14, 0.09, 0.07, 0.05, 0.40, 0.25])
_NEVER_BUYS = 0.007  # share of the customers
_ONE_MORE_SIZE = 0.10  # share of the further rows of a basket that are one more size of the article before
_REPEAT, _OTHER_COLOUR = 0.04, 0.07  # shares of the rows that look back at what was bought before


@dataclass(frozen=True)
class Customers:
    """Customers and what they bought, sorted by customer and day."""

    age: np.ndarray  # (U,) int64
    customer: np.ndarray  # (E,) int32, from 0
    day: np.ndarray  # (E,) int16
    article: np.ndarray  # (E,) int32: position in taste order
    cents: np.ndarray  # (E,) int32
    channel: np.ndarray  # (E,) int8: 1 is a shop, 2 is online


def daily_visits(rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
    """Return the running total (Y+1,) of visits by day: more in summer and late in the week, and noise."""
    day_of_year = (days - days.astype("datetime64[Y]")).astype(int)
    is_late = days.astype(int) % 7 < 3  # 1970-01-01 was a Thursday
    visits = 1 + 0.25 * np.cos(2 * np.pi * (day_of_year - 185) / 365.25)
    visits = visits * np.where(is_late, 1.1, 0.95) * rng.lognormal(0, 0.12, size=len(days))
    return np.concatenate([[0.0], np.cumsum(visits)])


def invent_customers(
    rng: np.random.Generator, n: int, catalogue: Catalogue, visits: np.ndarray, week_of_day: np.ndarray
) -> Customers:
    """Return ``n`` customers; where many are wanted, ask for them in blocks, to bound the memory."""
    home = rng.choice(len(INDEX_GROUPS), size=n, p=[group.customer_share for group in INDEX_GROUPS])
    low, high = (np.searchsorted(catalogue.group, home, side=side) for side in ("left", "right"))
    sold = catalogue.popularity.sum(axis=0)
    favourites = np.stack([_drawn(rng, sold, low, high) for _ in range(2)])
    mean_age = np.array([group.mean_age for group in INDEX_GROUPS])[home]

    basket, customer, day, channel = _baskets(rng, n, visits)
    week = week_of_day[day]
    cell = rng.choice(len(_TASTE_SHARE), size=len(day), p=_TASTE_SHARE)
    favourite, nearness = favourites[_FAVOURITE[cell], customer], _NEARNESS[cell]
    low, high = catalogue.low[nearness, favourite], catalogue.high[nearness, favourite]
    article = np.empty(len(day), dtype=np.int64)
    order = np.argsort(week, kind="stable")
    for rows, total in zip(
        np.split(order, np.searchsorted(week[order], np.arange(1, len(catalogue.popularity)))),
        catalogue.popularity,
        strict=True,
    ):
        article[rows] = _drawn(rng, total, low[rows], high[rows])
    article = _with_repeats(rng, catalogue, article, customer, week)
    cents = _prices(rng, catalogue, article, week)
    # Several sizes of one article in a basket are rows of their own with the same price.
    again = (rng.random(len(day)) < _ONE_MORE_SIZE) & (np.diff(basket, prepend=-1) == 0)
    source = np.maximum.accumulate(np.where(again, 0, np.arange(len(day))))
    return Customers(
        age=np.clip(np.rint(rng.normal(mean_age, 12)), 16, 99).astype(np.int64),
        customer=customer.astype(np.int32),
        day=day.astype(np.int16),
        article=article[source].astype(np.int32),
        cents=cents[source].astype(np.int32),
        channel=channel,
    )


def _baskets(
    rng: np.random.Generator, n: int, visits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return for each purchase its basket, customer, day and channel, sorted by customer and day.

    A customer buys in a part of the window only; what exceeds its end goes on at its beginning, so that over all
    customers purchases follow the visits of the days.
    """
    n_baskets = np.clip(np.rint(rng.lognormal(np.log(3.1), 1.25, size=n)), 1, 200).astype(np.int64)
    n_baskets[rng.random(n) < _NEVER_BUYS] = 0
    begin, span, online = rng.random(n), rng.uniform(0.1, 1, size=n), rng.beta(1.4, 0.6, size=n)
    usual_size = rng.lognormal(np.log(2.27), 0.4, size=n)

    owner = np.repeat(np.arange(n), n_baskets)
    when = (begin[owner] + span[owner] * rng.random(len(owner))) % 1 * visits[-1]
    day = np.minimum(np.searchsorted(visits, when, side="right") - 1, len(visits) - 2)
    day = day[np.lexsort((day, owner))]
    size = np.clip(np.rint(usual_size[owner] * rng.lognormal(0, 0.8, size=len(owner))), 1, 60).astype(np.int64)
    channel = np.where(rng.random(len(owner)) < online[owner], 2, 1).astype(np.int8)
    basket = np.repeat(np.arange(len(owner)), size)
    return basket, owner[basket], day[basket], channel[basket]


def _drawn(rng: np.random.Generator, running_total: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return an article (n,) of each range from ``low`` to ``high`` (n,), in proportion to its popularity."""
    begin, end = running_total[low], running_total[high]
    sold_out = end <= begin  # nothing of the range is on sale: draw from everything
    begin[sold_out], end[sold_out] = 0, running_total[-1]
    point = np.minimum(begin + rng.random(len(low)) * (end - begin), np.nextafter(running_total[-1], 0))
    return np.searchsorted(running_total, point, side="right") - 1


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
    kind = rng.random(len(fresh))
    found = np.where(kind < _REPEAT, same, colour)
    is_back = (n_earlier > 0) & (kind < _REPEAT + _OTHER_COLOUR) & catalogue.on_sale(found, week)
    return np.where(is_back, found, fresh)


def _prices(rng: np.random.Generator, catalogue: Catalogue, article: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Return prices in cents (E,): full, or marked down towards the end of an article's life."""
    launch, end = catalogue.launch_week[article], catalogue.end_week[article]
    is_reduced = ((week + 0.5 - launch) / (end - launch) > 0.75) & (rng.random(len(article)) < 0.7)
    return np.rint(catalogue.price_cents[article] * np.where(is_reduced, 0.6, 1.0))
