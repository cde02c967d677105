"""An invented catalogue in the schema of H&M's ``articles.csv``: what it sells, when, how well, and in what words.

Articles are in *taste order*: by index group, section, department and product. Each of these is one range of positions,
and drawing an article from a range is one search in a week's running total of popularity.

Shapes: P products, V articles (a product's colours), W weeks of the window.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import yaml

from recsys.errors import UsageError

MAX_ARTICLES = 1_000_000
#: Places in :attr:`Catalogue.low` and :attr:`Catalogue.high`.
PRODUCT, SECTION, GROUP, EVERYTHING = range(4)


@cache
def _words() -> dict[str, Any]:
    """Return what ``catalogue.yaml`` holds, and of each product type its name, group, share of products and price."""
    words = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    groups = [(group, share, cents, types) for group, (share, cents, types) in words["product_groups"].items()]
    types = [(name, group, share / len(own), cents) for group, share, cents, own in groups for name in own]
    return {**words, "product_types": types}


class Catalogue(NamedTuple):
    """Articles in taste order."""

    table: pa.Table  # articles.csv, sorted by article_id
    article_id: pa.Array  # (V,) string
    low: np.ndarray  # (4, V) int64: first article of the same product, section and group, and of everything
    high: np.ndarray  # (4, V) int64: the one after the last
    launch_week: np.ndarray  # (V,) int64: first week on sale; negative when before the window
    end_week: np.ndarray  # (V,) int64: first week no longer on sale
    price_cents: np.ndarray  # (V,) int64
    popularity: np.ndarray  # (W, V+1) float64: running total in taste order, 0 first

    def on_sale(self, article: np.ndarray, week: np.ndarray) -> np.ndarray:
        """Return whether each article is on sale in its week."""
        return np.asarray((self.launch_week[article] <= week) & (week < self.end_week[article]))


def invent_catalogue(rng: np.random.Generator, n_articles: int, n_weeks: int) -> Catalogue:
    """Return invented articles that are on sale at some time within ``n_weeks`` weeks.

    A UsageError says that ``n_articles`` is below 10 or beyond what six-digit product codes can number.
    """
    if not 10 <= n_articles <= MAX_ARTICLES:
        raise UsageError(f"{n_articles:,} articles were asked for; choose between 10 and {MAX_ARTICLES:,}")
    # Most products have one colour, a few have dozens.
    sizes = np.minimum(1 + (rng.pareto(1.6, size=n_articles) * 0.85).astype(np.int64), 75)
    product = np.repeat(np.arange(n_articles), sizes)[:n_articles]
    n_products = int(product[-1]) + 1

    n_departments = int(np.clip(n_articles // 120, len(_words()["index_groups"]), 299))
    group_of_section = _ascending(rng, n_departments // 5, [share for share, _ in _words()["index_groups"].values()])
    section_of_department = _ascending(rng, n_departments, [1.0] * len(group_of_section))
    department_of_product = np.sort(rng.choice(n_departments, n_products, p=rng.dirichlet(np.full(n_departments, 2.0))))
    section = section_of_department[department_of_product[product]]
    group = group_of_section[section]
    nodes = (product, section, group, np.zeros_like(product))

    launch, end = _lives(rng, product, n_weeks)
    _, _, shares, cents = zip(*_words()["product_types"], strict=True)
    product_type = rng.choice(len(shares), n_products, p=shares)
    middle = np.array(cents)[product_type]
    price = np.maximum(np.rint(middle * rng.lognormal(0, 0.45, n_products) / 100), 2).astype(np.int64) * 100 - 1
    code = 100_000 + rng.choice(900_000, n_products, replace=False)
    low = np.stack([np.searchsorted(node, node) for node in nodes])
    number = np.arange(n_articles) - low[PRODUCT] + 1
    article_id = pa.array([f"0{c}{n:03d}" for c, n in zip(code[product].tolist(), number.tolist(), strict=True)])
    columns = {"article_id": article_id, "product_code": pa.array(code[product]).cast(pa.string())}
    columns |= _described(rng, product_type, department_of_product, nodes)
    high = np.stack([np.searchsorted(node, node, side="right") for node in nodes])
    table, popularity = pa.table(columns).sort_by("article_id"), _popularity(rng, product, launch, end, n_weeks)
    return Catalogue(table, article_id, low, high, launch, end, price[product], popularity)


def _ascending(rng: np.random.Generator, n: int, weights: list[float]) -> np.ndarray:
    """Return the parents of ``n`` nodes or more, ascending; each parent has one at least, the others by weight."""
    extra = rng.choice(len(weights), size=max(n - len(weights), 0), p=np.array(weights) / sum(weights))
    return np.sort(np.concatenate([np.arange(len(weights)), extra]))


def _lives(rng: np.random.Generator, product: np.ndarray, n_weeks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first week on sale and the first week after it (V,).

    Most products live a few months, one in eight a year or more. Every article is on sale in the window for a week at
    least; some colours come a few weeks after the first.
    """
    n_products, n_articles = int(product[-1]) + 1, len(product)
    short, long = rng.lognormal(np.log(14), 0.6, n_products), rng.uniform(40, 160, n_products)
    weeks = np.maximum(np.where(rng.random(n_products) < 0.12, long, short).astype(np.int64), 3)
    launch = np.floor(rng.uniform(-weeks + 1, n_weeks)).astype(np.int64)[product]
    launch += np.where(rng.random(n_articles) < 0.3, rng.integers(1, 9, n_articles), 0)
    launch = np.minimum(launch, n_weeks - 1)
    return launch, launch + weeks[product]


def _popularity(
    rng: np.random.Generator, product: np.ndarray, launch: np.ndarray, end: np.ndarray, n_weeks: int
) -> np.ndarray:
    """Return running totals of popularity by week (W, V+1): Zipf over products x life cycle, 0 when not on sale."""
    zipf = (rng.permutation(int(product[-1]) + 1) + 101.0) ** -0.8
    weight = zipf[product] * rng.lognormal(0, 0.5, size=len(product))
    totals = np.zeros((n_weeks, len(product) + 1))
    for week in range(n_weeks):
        gone = np.clip((week + 0.5 - launch) / (end - launch), 0, 1)
        alive = weight * gone**0.7 * (1 - gone) ** 2
        # Where so few articles were invented that a week has none, all are sold.
        np.cumsum(alive if alive.any() else weight, out=totals[week, 1:])
    return totals


def _described(
    rng: np.random.Generator, product_type: np.ndarray, department_of_product: np.ndarray, nodes: tuple[np.ndarray, ...]
) -> dict[str, pa.Array]:
    """Return the columns of ``articles.csv`` after the two ids, in Kaggle's order.

    ``product_type`` and ``department_of_product`` are of products (P,), the ``nodes`` product, section and group of
    articles (V,). A department has words of its own; one description in 250 is missing.
    """
    product, section, group, _ = nodes
    department = department_of_product[product]
    n_departments = int(department[-1]) + 1
    words = np.array(_invented_words(rng, 12 * n_departments)).reshape(-1, 12)
    said = words[department_of_product[:, None], rng.integers(12, size=(len(product_type), 24))].tolist()
    type_names, type_groups, *_ = zip(*_words()["product_types"], strict=True)
    patterns, garments, colours, shades = (_words()[name] for name in ("patterns", "garments", "colours", "shades"))
    index_groups = _words()["index_groups"]
    types = [type_names[number] for number in product_type.tolist()]
    n_words = np.where(rng.random(len(product_type)) < 0.004, 0, rng.integers(6, 25, len(product_type))).tolist()
    texts = [
        f"{name} in {own[0]} with {', '.join(own[1:n])}." if n else None
        for name, own, n in zip(types, said, n_words, strict=True)
    ]
    pattern = _unequal(rng, len(patterns), len(product_type))[product]
    colour, shade = (_unequal(rng, len(names), len(product)) for names in (colours, shades))
    colour_names = [f"{shade_name} {name}" for name in colours for shade_name in shades]
    n_indexes = np.array([len(indexes) for _, indexes in index_groups.values()])
    index = (np.cumsum(n_indexes) - n_indexes)[group] + section % n_indexes[group]
    garment = department % len(garments)
    columns: dict[str, pa.Array] = {}
    for numbers, first, column, names, place in (
        ("", 0, "prod_name", [f"{own[0]} {name.lower()}" for name, own in zip(types, said, strict=True)], product),
        ("product_type_no", 200, "product_type_name", type_names, product_type[product]),
        ("", 0, "product_group_name", type_groups, product_type[product]),
        ("graphical_appearance_no", 1_010_001, "graphical_appearance_name", patterns, pattern),
        ("colour_group_code", 1, "colour_group_name", colour_names, len(shades) * colour + shade),
        ("perceived_colour_value_id", 1, "perceived_colour_value_name", shades, shade),
        ("perceived_colour_master_id", 1, "perceived_colour_master_name", colours, colour),
        ("department_no", 1_101, "department_name", _invented_words(rng, n_departments), department),
        ("index_code", 1, "index_name", [name for _, indexes in index_groups.values() for name in indexes], index),
        ("index_group_no", 1, "index_group_name", list(index_groups), group),
        ("section_no", 1, "section_name", _invented_words(rng, int(section[-1]) + 1), section),
        ("garment_group_no", 1_001, "garment_group_name", garments, garment),
        ("", 0, "detail_desc", texts, product),
    ):
        if numbers:
            columns[numbers] = pa.array(first + place).cast(pa.string())
        columns[column] = pa.array(names, pa.string()).take(pa.array(place))
    return columns


def _invented_words(rng: np.random.Generator, n_words: int) -> list[str]:
    """Return invented words of three syllables."""
    syllables = np.array([consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"])
    return ["".join(word) for word in syllables[rng.integers(len(syllables), size=(n_words, 3))].tolist()]


def _unequal(rng: np.random.Generator, n_values: int, n: int) -> np.ndarray:
    """Return ``n`` draws from the numbers below ``n_values``, of which the first ones are likelier."""
    weights = 1 / np.arange(2, n_values + 2)
    return rng.choice(n_values, size=n, p=weights / weights.sum())
