"""Whether ``recsys inspect`` reads real files of shops at the first try: ``python -m benchmarks.inspecting``.

For each file, or files, of a shop: the roles that a person would give its columns, and how many rows, customers and
products there are. The configuration that ``inspect`` writes is prepared as it stands; what is open is shown as the
question that it asks. The files lie under ``RECSYS_REAL_DATA``.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml

from benchmarks.results import machine, write_section
from recsys.console import talk
from recsys.errors import UsageError
from recsys.storage import code_version, read_json


@dataclass(frozen=True)
class ShopFiles:
    """Files of a shop and what is right."""

    name: str
    files: tuple[str, ...]  # under the folder of real data
    user: str | None  # its columns; None where there is none, and that is what must be asked
    item: str
    time: str
    rows: int
    users: int | None = None  # of the prepared purchases; None where rules that inspect writes decide
    items: int | None = None
    open: bool = False  # a question is the right answer


SHOPS: Final = (
    ShopFiles(
        "UCI Online Retail", ("online_retail/online_retail.parquet",), "CustomerID", "StockCode", "InvoiceDate", 541_909
    ),
    ShopFiles(
        "H&M, three tables",
        ("hm/transactions_train.csv", "hm/articles.csv", "hm/customers.csv"),
        *("customer_id", "article_id", "t_dat", 31_662, 1_364),
    ),
    ShopFiles("MovieLens-100K, u.data", ("ml-100k/u.data",), "1", "2", "4", 100_000, open=True),
    ShopFiles(
        "groceries", ("shops/Groceries_dataset.csv",), "Member_number", "itemDescription", "Date", 38_765, 3_898, 167
    ),
    ShopFiles(
        "groceries, semicolons",
        ("shops/Groceries_dataset_semicolon.csv",),
        *("Member_number", "itemDescription", "Date", 38_765, 3_898, 167),
    ),
    ShopFiles(
        "groceries, no header", ("shops/excel_mangled_no_header.csv",), "1", "3", "2", 38_765, 3_898, 167, open=True
    ),
    ShopFiles("coffee machine", ("shops/index_1.csv",), "card", "coffee_name", "datetime", 3_636, 1_316, 8),
    ShopFiles("coffee machine, no card", ("shops/index_2.csv",), None, "coffee_name", "datetime", 263, open=True),
    ShopFiles(
        "Olist, five tables",
        (
            *("shops/olist/olist_customers_dataset.csv", "shops/olist/olist_order_items_dataset.csv"),
            *("shops/olist/olist_orders_dataset.csv", "shops/olist/olist_products_dataset.csv"),
            "shops/olist/product_category_name_translation.csv",
        ),
        *("customer_unique_id", "product_id", "order_purchase_timestamp", 8_365, 7_263, 5_460),
    ),
    ShopFiles(
        "Online Retail II, two sheets",
        ("shops/online_retail_II_non_uk_excerpt.xlsx",),
        *("Customer ID", "StockCode", "InvoiceDate", 34_766),
        open=True,  # 441 rows of December 2010 stand in both sheets
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a shop's files."""

    verdict: str  # right, asked, or WRONG
    said: str
    seconds: float


def try_shop(shop: ShopFiles, data: Path, folder: Path) -> Outcome:
    """Inspect the files of ``shop`` under ``data`` and prepare them by what is written, in ``folder``."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "recsys.cli"]
    files = [str(data / name) for name in shop.files]
    inspected = _run([*command, "inspect", *files, "--write", "shop.yaml", "--force"], folder)
    seconds = time.perf_counter() - began
    if inspected.returncode:
        return Outcome("WRONG", inspected.stderr.strip().splitlines()[-1], seconds)
    columns = yaml.safe_load((folder / "shop.yaml").read_text(encoding="utf-8"))["data"]["columns"]
    prepared = _run([*command, "dataset", "main", "--config", "shop.yaml", "--force"], folder)
    if prepared.returncode:
        said = prepared.stderr.strip().splitlines()[-1].removeprefix("error: ")
        is_question = "not decided" in said or "say overlap" in said
        said = re.sub(r"\S*/", "", said)  # where the files lie is of no interest
        return Outcome("asked" if shop.open and is_question else "WRONG", said, seconds)
    manifest = read_json(folder / "data" / "processed" / "shop" / "manifest.json")
    found = (columns["user_id"], columns["item_id"], columns["time"], manifest["report"]["rows_read"])
    right = found == (shop.user, shop.item, shop.time, shop.rows)
    counted = {"users": (shop.users, manifest["n_users"]), "items": (shop.items, manifest["n_items"])}
    right = right and all(wanted in (None, count) for wanted, count in counted.values())
    said = f"{manifest['n_events']:,} of {found[3]:,} rows, {manifest['n_users']:,} customers"
    said += f", {manifest['n_items']:,} products"
    return Outcome("right" if right else "WRONG", said, seconds)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def main() -> None:
    data = os.environ.get("RECSYS_REAL_DATA")
    if data is None:
        raise UsageError("RECSYS_REAL_DATA names no folder; set it to that of the real files")
    lines = [
        "## Files of shops at the first try",
        "",
        f"`python -m benchmarks.inspecting`, {datetime.now(UTC):%Y-%m-%d}, commit {code_version()}, {machine()}.",
        "",
        "| files | outcome | what was read, or asked | seconds of inspect |",
        "|---|---|---|---:|",
    ]
    for shop in SHOPS:
        with tempfile.TemporaryDirectory() as folder:
            outcome = try_shop(shop, Path(data).resolve(), Path(folder))
        lines.append(f"| {shop.name} | {outcome.verdict} | {outcome.said} | {outcome.seconds:.1f} |")
        talk.print(lines[-1], markup=False)
    write_section("bench-inspect", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
