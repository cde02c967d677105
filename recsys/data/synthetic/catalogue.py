"""An invented catalogue in the schema of H&M's ``articles.csv``: what it sells, when, how well, and in what words.

Articles are in *taste order*: by index group, section, department and product. Each of these (a *node* of the tree) is
one range of positions, and drawing an article from a node is one search in a week's running total of popularity.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.data.synthetic.articles import INDEX_GROUPS, PRODUCT_GROUPS, article_columns
from recsys.errors import UsageError

N_GROUPS = len(INDEX_GROUPS)
MAX_ARTICLES = 1_000_000

_PRICE_POINTS = np.array([4, 5, 6, 7, 8, 10, 13, 15, 18, 20, 25, 30, 35, 40, 50, 60, 80]) * 100 - 1


@dataclass(frozen=True)
class Tree:
    """Nodes of taste: departments first, then sections, index groups and the root; each a range of positions.

    Shapes: N nodes, D departments, S sections.
    """

    low: np.ndarray  # (N,) int64
    high: np.ndarray  # (N,) int64
    section_of_department: np.ndarray  # (D,) int64
    group_of_section: np.ndarray  # (S,) int64

    @property
    def n_departments(self) -> int:
        """Number of departments D; node d is department d, and the first section comes next."""
        return len(self.section_of_department)

    @property
    def first_group(self) -> int:
        """Node of the first index group."""
        return self.n_departments + len(self.group_of_section)


@dataclass(frozen=True)
class Catalogue:
    """Articles in taste order. Shapes: V articles, W weeks of the window."""

    tree: Tree
    table: pa.Table  # articles.csv, sorted by article_id
    article_id: pa.Array  # (V,) string
    product_start: np.ndarray  # (V,) int32: position of the product's first article
    product_size: np.ndarray  # (V,) int32
    launch_week: np.ndarray  # (V,) int32: first week on sale; negative when before the window
    end_week: np.ndarray  # (V,) int32: first week no longer on sale
    price_cents: np.ndarray  # (V,) int32
    again: np.ndarray  # (V,) float32: how readily the same article is bought again, 0 … 1
    popularity: np.ndarray  # (W, V+1) float64: running total in taste order, 0 first

    def on_sale(self, article: np.ndarray, week: np.ndarray) -> np.ndarray:
        """Return whether each article is on sale in its week."""
        return np.asarray((self.launch_week[article] <= week) & (week < self.end_week[article]))


def invent_catalogue(rng: np.random.Generator, n_articles: int, n_weeks: int) -> Catalogue:
    """Return ``n_articles`` invented articles that are on sale at some time within ``n_weeks`` weeks.

    Raises:
        UsageError: ``n_articles`` is below 10 or beyond what six-digit product codes can number.
    """
    if not 10 <= n_articles <= MAX_ARTICLES:
        raise UsageError(f"{n_articles:,} articles were asked for; choose between 10 and {MAX_ARTICLES:,}")
    sizes = _product_sizes(rng, n_articles)
    tree, department = _tree(rng, len(sizes), n_articles, sizes)
    product = np.repeat(np.arange(len(sizes)), sizes)
    group = rng.choice(len(PRODUCT_GROUPS), size=len(sizes), p=_share([group.share for group in PRODUCT_GROUPS]))
    launch, end = _life(rng, sizes, n_weeks)
    code = _product_codes(rng, launch[np.cumsum(sizes) - sizes])
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    number = np.arange(n_articles) - start + 1
    article_id = pa.array([f"0{c}{n:03d}" for c, n in zip(code[product].tolist(), number.tolist(), strict=True)])
    columns = {"article_id": article_id, "product_code": pa.array(code[product]).cast(pa.string())}
    columns |= article_columns(rng, tree.section_of_department, tree.group_of_section, department, group, product)
    return Catalogue(
        tree=tree,
        table=pa.table(columns).sort_by("article_id"),
        article_id=article_id,
        product_start=start.astype(np.int32),
        product_size=np.repeat(sizes, sizes).astype(np.int32),
        launch_week=launch,
        end_week=end,
        price_cents=_prices(rng, group)[product],
        again=np.array([group.again for group in PRODUCT_GROUPS], dtype=np.float32)[group][product],
        popularity=_popularity(rng, group[product], sizes, launch, end, n_weeks),
    )


def _share(weights: list[float]) -> np.ndarray:
    return np.asarray(np.array(weights) / np.sum(weights))


def _product_sizes(rng: np.random.Generator, n_articles: int) -> np.ndarray:
    """Return the number of colours (P,) int64 of each product: most have one, a few have dozens."""
    sizes = np.minimum(1 + (rng.pareto(1.6, size=n_articles) * 0.85).astype(np.int64), 75)
    n_products = int(np.searchsorted(np.cumsum(sizes), n_articles)) + 1
    sizes = sizes[:n_products]
    sizes[-1] -= sizes.sum() - n_articles
    return sizes


def _tree(rng: np.random.Generator, n_products: int, n_articles: int, sizes: np.ndarray) -> tuple[Tree, np.ndarray]:
    """Return the tree and the department (P,) of each product, ascending."""
    n_departments = int(np.clip(n_articles // 120, N_GROUPS, 299))
    n_sections = int(np.clip(n_departments // 5, N_GROUPS, 57))
    extra = rng.choice(N_GROUPS, size=n_sections - N_GROUPS, p=_share([group.share for group in INDEX_GROUPS]))
    group_of_section = np.sort(np.concatenate([np.arange(N_GROUPS), extra]))
    extra = rng.integers(n_sections, size=n_departments - n_sections)
    section_of_department = np.sort(np.concatenate([np.arange(n_sections), extra]))
    department = np.sort(rng.choice(n_departments, size=n_products, p=rng.dirichlet(np.full(n_departments, 2.0))))

    of_article = np.repeat(department, sizes)
    ranges = [np.searchsorted(of_article, np.arange(n_departments + 1))]
    ranges.append(ranges[0][np.searchsorted(section_of_department, np.arange(n_sections + 1))])
    ranges.append(ranges[1][np.searchsorted(group_of_section, np.arange(N_GROUPS + 1))])
    ranges.append(np.array([0, n_articles]))
    low, high = np.concatenate([r[:-1] for r in ranges]), np.concatenate([r[1:] for r in ranges])
    return Tree(low, high, section_of_department, group_of_section), department


def _life(rng: np.random.Generator, sizes: np.ndarray, n_weeks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first week on sale and the first week after it, (V,) int32 each.

    Most products live a few months, one in eight stays for a year or more. Every article is on sale for at least one
    week of the window; colours of a product are launched together or a few weeks later.
    """
    n_products = len(sizes)
    short = rng.lognormal(np.log(14), 0.6, size=n_products)
    long = rng.uniform(40, 160, size=n_products)
    weeks = np.maximum(np.where(rng.random(n_products) < 0.12, long, short).astype(np.int64), 3)
    launch = np.floor(rng.uniform(-weeks + 1, n_weeks)).astype(np.int64)
    late = np.where(rng.random(sizes.sum()) < 0.3, rng.integers(1, 9, size=sizes.sum()), 0)
    launch = np.minimum(np.repeat(launch, sizes) + late, n_weeks - 1)
    end = launch + np.repeat(weeks, sizes)
    return launch.astype(np.int32), end.astype(np.int32)


def _product_codes(rng: np.random.Generator, launch: np.ndarray) -> np.ndarray:
    """Return distinct six-digit codes (P,) int64 that ascend with the launch, as a shop's numbering does."""
    drawn = np.sort(rng.choice(850_000, size=len(launch), replace=False)) + 108_775
    codes = np.empty(len(launch), dtype=np.int64)
    codes[np.argsort(launch, kind="stable")] = drawn
    return codes


def _prices(rng: np.random.Generator, group: np.ndarray) -> np.ndarray:
    """Return full prices in cents (P,) int32 on the price points nearest to a draw around the middle of the type."""
    middle = np.array([group.price_cents for group in PRODUCT_GROUPS])[group]
    drawn = middle * rng.lognormal(0, 0.45, size=len(group))
    nearest = np.abs(np.log(drawn)[:, None] - np.log(_PRICE_POINTS)[None, :]).argmin(axis=1)
    return np.asarray(_PRICE_POINTS[nearest].astype(np.int32))


def _popularity(
    rng: np.random.Generator, group: np.ndarray, sizes: np.ndarray, launch: np.ndarray, end: np.ndarray, n_weeks: int
) -> np.ndarray:
    """Return running totals of popularity by week (W, V+1): Zipf x life cycle x season, 0 when not on sale.

    Zipf-Mandelbrot over products, ``(rank + 100) ** -0.8``; life cycle ``x ** 0.7 * (1 - x) ** 2`` of the share of life
    gone, flat for the long-lived; season a yearly cosine with the phase of the product type.
    """
    n_articles = len(launch)
    zipf = (rng.permutation(len(sizes)) + 101.0) ** -0.8
    weight = np.repeat(zipf, sizes) * rng.lognormal(0, 0.5, size=n_articles)
    length = (end - launch).astype(np.float64)
    phase, swing = rng.uniform(0, 1, size=len(PRODUCT_GROUPS)), rng.uniform(0.1, 0.7, size=len(PRODUCT_GROUPS))
    totals = np.zeros((n_weeks, n_articles + 1))
    for week in range(n_weeks):
        gone = (week + 0.5 - launch) / length
        alive = (gone > 0) & (gone < 1)
        gone = np.clip(gone, 0, 1)
        cycle = np.where(length >= 40, 0.3, gone**0.7 * (1 - gone) ** 2)
        season = 1 + swing * np.cos(2 * np.pi * (week / 52.18 - phase))
        np.cumsum(weight * cycle * season[group] * alive, out=totals[week, 1:])
    return totals
