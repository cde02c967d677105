"""Whether Complete Journey's promotions are plans and not sales: ``python -m benchmarks.promotions``.

If a row of the table stood only where the product was sold, it would tell what lists are made for. Then products that
hardly anybody buys would have rows in few stores, and fewer in a store that sells less; both are counted here.
"""

from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq

from benchmarks.results import RESULTS, machine, write_section
from recsys.console import talk
from recsys.data.sources.completejourney import N_STORES, package_folder
from recsys.storage import code_version

#: A product is rare that the households bought so often in the year, at most.
RARE = 2
#: Purchases of a product in the year, from and to, by which product and week are counted.
_BANDS = ((0, 0), (1, 2), (3, 10), (11, 50), (51, 200), (201, 10**9))
_WIDE = 100  # of the stores
_MONDAY = np.datetime64("2016-12-26")  # of week 1, of which the data have the Sunday


def main() -> None:
    """Count, print and write the section of the results."""
    folder = package_folder()
    sold = pq.read_table(
        folder / "transactions.parquet", columns=["product_id", "store_id", "week", "transaction_timestamp"]
    )
    promotions = pq.read_table(folder / "promotions.parquet")
    product, store, week = (sold[name].to_numpy() for name in ("product_id", "store_id", "week"))
    columns = [promotions[name].to_numpy() for name in ("product_id", "store_id", "week")]
    in_mailer = np.asarray(promotions["mailer_location"].to_numpy(zero_copy_only=False) != "0")
    ids, bought = np.unique(product, return_counts=True)
    bought_of = _looked_up(ids, bought, columns[0])
    there = np.isin(_key(*columns), _key(product, store, week))
    mailer = [column[in_mailer] for column in columns]
    of_week = _pairs(mailer[0], mailer[2], mailer[1])
    clock = sold["transaction_timestamp"].to_numpy()
    shifted = (clock.astype("datetime64[D]") - _MONDAY).astype(int) // 7 + 1 != week
    lines = [
        "## What Complete Journey's promotions tell",
        "",
        f"`make bench-promotions`. {datetime.now(UTC):%Y-%m-%d}, commit {code_version()}. {machine()}.",
        "",
        f"{len(there):,} rows; {1 - there.mean():.1%} are of products that none of the {N_STORES} stores' observed "
        "households bought there in that week. "
        f"{shifted.mean():.1%} of the purchases carry a date of the week after theirs.",
        "",
        f"| product bought in the year | products and weeks in the mailer | of these in {_WIDE} stores or more |",
        "|---|---:|---:|",
    ]
    bought_of_pair = _looked_up(ids, bought, of_week[0])
    for low, high in _BANDS:
        band = (bought_of_pair >= low) & (bought_of_pair <= high)
        name = f"{low} times" if low == high else f"{low} to {high} times" if high < _BANDS[-1][1] else "more often"
        lines.append(f"| {name} | {band.sum():,} | {(of_week[1][band] >= _WIDE).mean():.0%} |")
    lines += ["", *_by_store(store, mailer[1], bought_of[in_mailer] <= RARE)]
    text = "\n".join(lines)
    write_section("bench-promotions", text)
    talk.print(text, markup=False)
    talk.print(f"wrote {RESULTS}", markup=False)


def _key(product: np.ndarray, store: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Return one number (n,) int64 for each product, store and week."""
    key: np.ndarray = (product.astype(np.int64) * 10**6 + store) * 100 + week
    return key


def _looked_up(ids: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the value (n,) of each of ``wanted`` among the ascending ``ids``, 0 where it is not."""
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, values[place], 0)


def _pairs(product: np.ndarray, week: np.ndarray, store: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the products (m,) of all pairs of product and week, and in how many stores each stands."""
    distinct = np.unique(_key(product, store, week))
    pair, stores = np.unique(distinct // 10**8 * 100 + distinct % 100, return_counts=True)
    return pair // 100, stores


def _by_store(sold_in: np.ndarray, promoted_in: np.ndarray, is_rare: np.ndarray) -> list[str]:
    """Return a table of the stores in quarters, by their purchases: rows of the mailer of rare and other products."""
    stores, purchases = np.unique(sold_in, return_counts=True)
    rows = [_looked_up(*np.unique(promoted_in[one], return_counts=True), stores) for one in (is_rare, ~is_rare)]
    has_any = rows[0] + rows[1] > 0
    order = np.flatnonzero(has_any)[np.argsort(purchases[has_any], kind="stable")]
    lines = [
        f"| stores, by their purchases | purchases of one | rows of the mailer, products bought {RARE} times at most "
        "| rows, other products |",
        "|---|---:|---:|---:|",
    ]
    for number, quarter in enumerate(np.array_split(order, 4), start=1):
        means = (float(one[quarter].mean()) for one in (purchases, *rows))
        lines.append(f"| quarter {number} | " + " | ".join(f"{one:,.0f}" for one in means) + " |")
    return lines


if __name__ == "__main__":
    main()
