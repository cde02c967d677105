import random
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest
import yaml

from benchmarks import forms
from recsys.cli import build_app
from recsys.config import load_config
from recsys.console import run
from recsys.data.inspection.columns import describe
from recsys.data.inspection.facts import facts_of, in_words
from recsys.data.inspection.guess import guess_roles
from recsys.data.prepare import prepare
from recsys.data.purchases import open_purchases
from recsys.data.reading.column_map import UNDECIDED
from recsys.data.reading.layout import FileForm
from recsys.errors import OutputExistsError
from recsys.inspect import inspect_files
from recsys.storage import read_json

BEGIN = datetime(2023, 1, 1, 9, 30)
PRODUCTS = ("Mug", "Cup", "Pot", "Pan", "Bag", "Soap", "Tea", "Oil")

Purchase = tuple[int, int, datetime, float, int]


def purchases(n_rows: int = 400, n_users: int = 60, n_days: int = 200, seed: int = 1) -> list[Purchase]:
    """Return made-up purchases in the order of time: customer, product, time, price, pieces."""
    draw = random.Random(seed)  # noqa: S311
    drawn = ((draw.randrange(n_users), draw.randrange(8), draw.randrange(n_days * 1440)) for _ in range(n_rows))
    rows = sorted(drawn, key=lambda row: row[2])
    return [(u, i, BEGIN + timedelta(minutes=m), 1.5 + i, 1 + (u + i) % 4) for u, i, m in rows]


def write_rows(path: Path, header: str | None, rows: list[tuple[Any, ...]], separator: str = ",") -> Path:
    lines = [] if header is None else [header]
    path.write_text("\n".join([*lines, *(separator.join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def plain(path: Path, rows: list[Purchase] | None = None) -> Path:
    """Write purchases as a shop does that makes it easy."""
    found = [(f"c{u}", f"p{i}", f"{t:%Y-%m-%d %H:%M}", p, q) for u, i, t, p, q in rows or purchases()]
    return write_rows(path, "customer_id,product_id,date,price,quantity", found)


def inspected(*files: Path | str, form: FileForm | None = None) -> tuple[dict[str, Any], bool]:
    """Return the column map that is written for ``files``, and whether nothing is open."""
    settled = inspect_files([str(file) for file in files], form or FileForm(), Path("shop.yaml"), force=True)
    return yaml.safe_load(Path("shop.yaml").read_text(encoding="utf-8"))["data"]["columns"], settled


def roles_of(columns: dict[str, Any]) -> tuple[Any, ...]:
    return columns["user_id"], columns["item_id"], columns["time"]


def typed(verb: str, *words: str) -> int:
    """Return the exit code of ``recsys VERB …``."""
    with pytest.raises(SystemExit) as stop:
        run(build_app(verb), [verb, *words])
    return int(stop.value.code or 0)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Roles


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("customer_id,product_id,date,price,quantity", ("customer_id", "product_id", "date")),
        ("Customer ID,StockCode,InvoiceDate,UnitPrice,Quantity", ("Customer ID", "StockCode", "InvoiceDate")),
        ("Kunde,Artikel,Datum,Preis,Menge", ("Kunde", "Artikel", "Datum")),
        ("member_no,sku,ordered_at,amount,qty", ("member_no", "sku", "ordered_at")),
        ("Email,Lineitem sku,Created at,Lineitem price,Lineitem quantity", ("Email", "Lineitem sku", "Created at")),
        ("Klient,Produkt,Data,Cena,Ilość", ("Klient", "Produkt", "Data")),
        ("Cliente,Produto,Data,Preço,Quantidade", ("Cliente", "Produto", "Data")),
        ("客户,商品,日期,单价,数量", ("客户", "商品", "日期")),
    ],
)
def test_roles_are_guessed_from_names_of_several_tongues(shop: Path, header: str, expected: tuple[str, ...]) -> None:
    rows = [(u, f"p{i}", f"{t:%Y-%m-%d}", p, q) for u, i, t, p, q in purchases()]
    columns, settled = inspected(write_rows(shop / "sales.csv", header, rows))
    names = header.split(",")
    assert roles_of(columns) == expected
    assert (columns["price"], columns["quantity"]) == (names[3], names[4])
    assert settled


def test_a_german_file_with_semicolons_and_decimal_commas_needs_no_word(shop: Path) -> None:
    rows = [(f"K{u:03}", f"{i:04}", f"{t:%d.%m.%Y}", f"{p:.2f}".replace(".", ","), q) for u, i, t, p, q in purchases()]
    path = write_rows(shop / "verkauf.csv", "Kundennummer;Artikelnummer;Datum;Preis;Menge", rows, ";")
    columns, settled = inspected(path)
    assert settled
    assert roles_of(columns) == ("Kundennummer", "Artikelnummer", "Datum")
    assert (columns["decimal"], columns["time_format"]) == (",", "%d.%m.%Y")


def test_without_a_header_two_columns_that_may_be_either_are_told_apart_or_asked(shop: Path) -> None:
    rows = [(1000 + u, 50 + i, f"{t:%Y-%m-%d}") for u, i, t, *_ in purchases()]
    columns, settled = inspected(write_rows(shop / "log.csv", None, rows))
    assert roles_of(columns) == ("1", "2", "3")
    assert columns["header"] is False
    assert settled
    alike = [(1000 + u % 9, 50 + i, day) for u, i, day in rows]
    columns, settled = inspected(write_rows(shop / "log.csv", None, alike))
    assert roles_of(columns) == (UNDECIDED, UNDECIDED, "3")
    assert not settled


def test_two_columns_that_look_alike_are_a_question(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [(f"c{u}", f"d{u}", f"p{i}", f"{t:%Y-%m-%d}") for u, i, t, *_ in purchases()]
    columns, settled = inspected(write_rows(shop / "sales.csv", "customer_from,customer_to,product,date", rows))
    assert roles_of(columns) == (UNDECIDED, "product", "date")
    assert not settled
    assert "customer_from and customer_to look alike; name one of them" in in_one_line(capfd.readouterr().err)


def test_day_and_clock_in_two_columns_are_one_time(shop: Path) -> None:
    rows = [(f"c{u}", f"p{i}", f"{t:%d/%m/%Y}", f"{t:%H:%M}") for u, i, t, *_ in purchases()]
    columns, settled = inspected(write_rows(shop / "till.csv", "customer,product,date,clock", rows))
    assert columns["time"] == ["date", "clock"]
    assert settled
    assert typed("dataset", "main", "--config", "shop.yaml") == 0


@pytest.mark.parametrize("form", ["%d.%m.%y", "%H.%M", "%H:%M", "%H:%M:%S", "%I:%M %p"])
def test_a_day_with_dots_is_no_clock(form: str) -> None:
    times = pl.DataFrame({"when": [f"{t:{form}}" for _, _, t, *_ in purchases()]})
    column = describe(times, "when")
    assert column.content == {"%d.%m.%y": "time", "%H.%M": "number"}.get(form, "clock")


def test_orders_lines_customers_and_products_are_joined(shop: Path) -> None:
    rows = purchases()
    order_of = {(u, t): f"o{place}" for place, (u, t) in enumerate(sorted({(u, t) for u, _, t, *_ in rows}))}
    lines = [(order_of[u, t], f"p{i}", p, q) for u, i, t, p, q in rows]
    files = (
        write_rows(shop / "lines.csv", "order_id,product_id,price,quantity", lines),
        write_rows(
            shop / "orders.csv",
            "order_id,customer_id,order_date",
            [(name, f"c{u}", f"{t:%Y-%m-%d %H:%M}") for (u, t), name in order_of.items()],
        ),
        write_rows(shop / "customers.csv", "customer_id,city", [(f"c{u}", ("Ulm", "Bonn")[u % 2]) for u in range(60)]),
        write_rows(
            shop / "products.csv", "product_id,product_name", [(f"p{i}", name) for i, name in enumerate(PRODUCTS)]
        ),
    )
    for order in (files, files[::-1]):
        columns, settled = inspected(*order)
        assert settled
        assert columns["file"] == "lines.csv"
        assert roles_of(columns) == ("customer_id", "product_id", "order_date")
        assert columns["join"] == [{"file": "orders.csv", "on": "order_id"}]
        assert columns["items"] == {"file": "products.csv", "attributes": ["product_name"]}
        assert columns["users"] == {"file": "customers.csv", "attributes": ["city"]}
    assert typed("dataset", "main", "--config", "shop.yaml") == 0
    manifest = read_json(Path("data/processed/shop/manifest.json"))
    assert (manifest["n_users"], manifest["n_items"]) == (len({u for u, *_ in rows}), 8)
    assert set(pl.read_parquet("data/processed/shop/items.parquet")["product_name"]) == set(PRODUCTS)


def test_files_of_one_form_are_read_below_each_other(shop: Path) -> None:
    rows = purchases()
    columns, settled = inspected(plain(shop / "a.csv", rows[:200]), plain(shop / "b.csv", rows[200:]))
    assert columns["file"] == ["a.csv", "b.csv"]
    assert settled


def test_a_table_of_a_database_is_inspected_and_its_password_stays_outside(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(shop / "shop.db") as connection:
        connection.execute("CREATE TABLE sales (customer TEXT, product TEXT, date TEXT)")
        rows = [(f"c{u}", f"p{i}", f"{t:%Y-%m-%d}") for u, i, t, *_ in purchases()]
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", rows)
    connection.close()
    monkeypatch.setenv("SHOP_DB", str(shop / "shop.db"))
    columns, settled = inspected("sqlite:///${SHOP_DB}", form=FileForm(table="sales"))
    assert settled
    assert roles_of(columns) == ("customer", "product", "date")
    assert (columns["database"], columns["table"]) == ("sqlite:///${SHOP_DB}", "sales")
    assert str(shop) not in Path("shop.yaml").read_text()
    assert typed("dataset", "main", "--config", "shop.yaml") == 0


def test_a_file_that_belongs_to_nothing_is_said(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_rows(shop / "names.csv", "code,name", [(f"p{i}", name) for i, name in enumerate(PRODUCTS)])
    columns, settled = inspected(plain(shop / "sales.csv"), shop / "names.csv")
    assert settled
    assert "items" not in columns
    assert "names.csv: not used; no column that differs in all its rows has the name" in in_one_line(
        capfd.readouterr().err
    )


def test_purchases_that_the_table_of_products_does_not_know_are_counted(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = purchases()
    few = [(f"p{i}", name) for i, name in enumerate(PRODUCTS[:6])]
    inspected(plain(shop / "sales.csv", rows), write_rows(shop / "names.csv", "product_id,name", few))
    n_known = sum(i < 6 for _, i, *_ in rows)
    said = in_one_line(capfd.readouterr().err)
    assert f"left out: {len(rows) - n_known} rows (a product without a row in the table of products)" in said
    assert f"{n_known} purchases of 6 products" in said
    assert prepare(load_config(Path("shop.yaml")).data)["n_events"] == n_known


def test_a_table_of_products_or_orders_in_parts_is_one_to_be_put_together(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, part in (("p1.csv", range(4)), ("p2.csv", range(4, 8))):
        write_rows(shop / name, "product_id,name", [(f"p{i}", PRODUCTS[i]) for i in part])
    plain(shop / "sales.csv")
    assert typed("inspect", "sales.csv", "p1.csv", "p2.csv") == 1
    assert (
        "p1.csv and p2.csv have equal columns and hold no purchases; put them into one file" in capfd.readouterr().err
    )


def test_rows_that_stand_in_two_files_are_a_question(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = purchases()
    _, settled = inspected(plain(shop / "a.csv", rows[:250]), plain(shop / "b.csv", rows[200:]))
    assert not settled
    assert "50 rows of" in capfd.readouterr().err


def test_files_may_lie_in_several_folders(shop: Path) -> None:
    for folder in ("a", "b/c"):
        (shop / folder).mkdir(parents=True)
    plain(shop / "a/sales.csv")
    write_rows(shop / "b/c/names.csv", "product_id,name", [(f"p{i}", name) for i, name in enumerate(PRODUCTS)])
    columns, settled = inspected("a/sales.csv", "b/c/names.csv")
    assert settled
    assert (columns["file"], columns["items"]["file"]) == ("a/sales.csv", "b/c/names.csv")


def test_a_database_stands_alone(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain(shop / "sales.csv")
    for other in ("sales.csv", "sqlite:///more.db"):
        assert typed("inspect", "sqlite:///shop.db", other, "--table", "sales") == 2
        assert "a database stands alone" in capfd.readouterr().err


def test_columns_that_cannot_be_attributes_are_left_out(shop: Path) -> None:
    rows = [(f"c{u}", f"p{i}", f"{t:%Y-%m-%d}", f"k{i % 3}", f"s{i % 2}") for u, i, t, *_ in purchases()]
    columns, settled = inspected(write_rows(shop / "sales.csv", "customer,product,date,_key,shelf", rows))
    assert settled
    assert columns["items"] == {"attributes": ["shelf"]}


def test_a_time_of_delivery_or_birth_is_none_of_the_purchase(shop: Path) -> None:
    rows = [
        (f"c{u}", f"p{i}", "1980-02-03", f"{t + timedelta(days=3):%Y-%m-%d}", f"{t:%Y-%m-%d}")
        for u, i, t, *_ in purchases()
    ]
    columns, _ = inspected(write_rows(shop / "sales.csv", "customer,product,birthday,delivery_date,order_date", rows))
    assert columns["time"] == "order_date"


def test_each_role_has_its_reason() -> None:
    frame = pl.DataFrame({"kunde": ["a", "b"] * 4, "artikel": ["x", "y", "z", "x"] * 2, "datum": ["2024-01-31"] * 8})
    guess = guess_roles(frame, [describe(frame, name) for name in frame.columns])
    assert guess.roles == {"time": "datum", "user_id": "kunde", "item_id": "artikel"}
    assert guess.reasons.keys() == guess.roles.keys()
    assert "2 values, 4.0 rows each" in guess.reasons["user_id"]
    assert not guess.open


# What is open


def test_what_is_open_is_marked_and_stops_the_preparation_by_its_name(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"p{i}", f"{t:%Y-%m-%d}", p) for _, i, t, p, _ in purchases()]
    path = write_rows(shop / "till.csv", "product,date,price", rows)
    assert typed("inspect", str(path), "--write", "shop.yaml") == 0
    text = Path("shop.yaml").read_text()
    assert "user_id: ???" in text.replace("'", "")
    assert "NOT DECIDED: no column looks like it; found product, date, price" in text
    capfd.readouterr()
    assert typed("dataset", "main", "--config", "shop.yaml") == 2
    error = capfd.readouterr().err
    assert "user_id is not decided yet" in error
    assert error.count("\n") == 1


def test_dates_that_two_forms_read_are_a_question(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(3)  # noqa: S311
    rows = [
        (f"c{n % 40}", f"p{n % 7}", f"{draw.randrange(1, 13):02}/{draw.randrange(1, 13):02}/2023") for n in range(300)
    ]
    columns, settled = inspected(write_rows(shop / "sales.csv", "customer,product,date", rows))
    assert not settled
    assert columns["time_format"] == UNDECIDED
    capfd.readouterr()
    assert typed("dataset", "main", "--config", "shop.yaml") == 2
    assert "time_format is not decided yet" in capfd.readouterr().err
    answered = re.sub(r"(time_format: ).*", r"\1'%d/%m/%Y'", Path("shop.yaml").read_text())
    Path("shop.yaml").write_text(answered)
    assert typed("dataset", "main", "--config", "shop.yaml") == 0


def test_one_day_above_twelve_settles_the_order_of_day_and_month(shop: Path) -> None:
    rows = [(f"c{u}", f"p{i}", f"{t:%m/%d/%Y}") for u, i, t, *_ in purchases()]
    columns, settled = inspected(write_rows(shop / "sales.csv", "customer,product,date", rows))
    assert settled
    assert columns["time_format"] == "%m/%d/%Y"


# What is written


def test_returns_and_postage_become_rules_that_drop_them(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [
        (u + 12_000, f"8{i:04}A", f"{t:%Y-%m-%d %H:%M}", p, -q if n % 50 == 0 else q)
        for n, (u, i, t, p, q) in enumerate(purchases())
    ]
    rows += [(12_000, "POST", "2023-05-05 10:00", 4.5, 1), (12_001, "M", "2023-05-06 10:00", 0.0, 1)]
    columns, settled = inspected(write_rows(shop / "sales.csv", "CustomerID,StockCode,Date,UnitPrice,Quantity", rows))
    assert settled
    rules = {rule["name"]: rule for rule in columns["drop"]}
    assert rules["returned"] == {"name": "returned", "column": "Quantity", "at_most": 0}
    assert rules["free_of_charge"] == {"name": "free_of_charge", "column": "UnitPrice", "at_most": 0}
    assert sorted(rules["not_a_product"]["one_of"]) == ["M", "POST"]
    said = in_one_line(capfd.readouterr().err)
    assert "left out: 8 rows (returned)" in said
    assert typed("dataset", "main", "--config", "shop.yaml") == 0
    dropped = read_json(Path("data/processed/shop/report.json"))["dropped"]
    assert (dropped["returned"], dropped["free_of_charge"], dropped["not_a_product"]) == (8, 1, 1)


def test_what_was_read_is_said_in_sentences(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = purchases()
    inspected(plain(shop / "sales.csv", rows))
    said = in_one_line(capfd.readouterr().err)
    (u, i, t, p, q) = rows[0]
    assert f"{t:%A} {t.day} {t:%B %Y}, {t:%H:%M}: customer c{u} bought {q} × p{i} at {p:g}" in said
    assert said.count(": customer c") == 5
    assert "400 purchases of 8 products by 60 customers, 2023-01-" in said


def test_a_sentence_leaves_out_what_is_not_known() -> None:
    row = {"user_id": "7", "item_id": "85123A", "time": datetime(2010, 12, 1)}
    assert in_words(row) == "Wednesday 1 December 2010: customer 7 bought 85123A"
    assert in_words(row | {"price": 2.55, "quantity": None}) == (
        "Wednesday 1 December 2010: customer 7 bought 85123A at 2.55"
    )


def test_what_is_written_is_a_configuration_relative_to_its_own_folder(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("mine/exports", "elsewhere"):
        (shop / folder).mkdir(parents=True)
    plain(shop / "mine/exports/sales.csv")
    assert typed("inspect", "mine/exports/sales.csv", "--write", "mine/shop.yaml") == 0
    written = yaml.safe_load((shop / "mine/shop.yaml").read_text())
    assert written["data"]["raw"] == "exports/sales.csv"
    monkeypatch.chdir(shop / "elsewhere")
    assert typed("dataset", "main", "--config", "../mine/shop.yaml") == 0
    assert read_json(Path("data/processed/shop/manifest.json"))["report"]["rows_read"] == 400


def test_a_file_that_exists_is_not_written_over(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = plain(shop / "sales.csv")
    Path("shop.yaml").write_text("mine")
    assert typed("inspect", str(path), "--write", "shop.yaml") == 2
    assert "shop.yaml already exists; pass --force" in in_one_line(capfd.readouterr().err)
    assert Path("shop.yaml").read_text() == "mine"
    with pytest.raises(OutputExistsError):
        inspect_files([str(path)], FileForm(), Path("shop.yaml"))
    assert typed("inspect", str(path), "--write", "shop.yaml", "--force") == 0
    assert yaml.safe_load(Path("shop.yaml").read_text())["name"] == "shop"


def test_the_folder_of_what_is_written_is_made(shop: Path) -> None:
    path = plain(shop / "sales.csv")
    assert typed("inspect", str(path), "--write", "new/folder/shop.yaml") == 0
    assert typed("dataset", "main", "--config", "new/folder/shop.yaml") == 0
    (shop / "file").touch()
    assert typed("inspect", str(path), "--write", "file/shop.yaml") == 1


def test_without_write_the_configuration_is_shown_and_nothing_is_written(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = plain(shop / "sales.csv")
    assert typed("inspect", str(path)) == 0
    assert yaml.safe_load(capfd.readouterr().out)["data"]["columns"]["user_id"] == "customer_id"
    assert [each.name for each in shop.iterdir()] == ["sales.csv"]


@pytest.mark.parametrize(
    ("name", "run_name"),
    [
        ("2024.yaml", "2024"),
        ("null.yaml", "null"),
        (".my shop.yaml", "my_shop"),
        ("-.yaml", "shop"),
        ("größe.yaml", "gr__e"),
    ],
)
def test_what_is_written_may_be_called_anything(shop: Path, name: str, run_name: str) -> None:
    path = plain(shop / "sales.csv")
    assert inspect_files([str(path)], FileForm(), Path(name))
    assert load_config(Path(name)).name == load_config(Path(name)).data.name == run_name


@pytest.mark.parametrize("name", ["ärger: #1.csv", "it's.csv", "2024.csv", "a'b\"c.csv", "null.csv"])
def test_names_of_files_and_columns_are_any_text(shop: Path, name: str) -> None:
    rows = [(f"c{u}", f"p{i}", f"{t:%Y-%m-%d}", p) for u, i, t, p, _ in purchases()]
    header = "customer: 'who' #1,product [sku],date,price {each}"
    columns, settled = inspected(write_rows(shop / name, header, rows))
    assert settled
    assert roles_of(columns) == ("customer: 'who' #1", "product [sku]", "date")
    assert columns["price"] == "price {each}"
    assert typed("dataset", "main", "--config", "shop.yaml") == 0


def test_a_file_that_is_missing_or_without_rows_is_one_line(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert typed("inspect", "nowhere.csv") == 1
    write_rows(shop / "empty.csv", "customer,product,date", [])
    assert typed("inspect", "empty.csv", "--write", "shop.yaml") == 1
    first, second = capfd.readouterr().err.splitlines()
    assert "nowhere.csv" in first
    assert "empty.csv" in second
    assert not Path("shop.yaml").exists()


@pytest.mark.parametrize("first", [0, 8, 16])
def test_purchases_in_any_form_are_read_by_what_is_written_or_something_is_asked(shop: Path, first: int) -> None:
    for seed in range(first, first + 8):
        form, folder = forms.Form.drawn(seed), shop / str(seed)
        folder.mkdir()
        path, right, truth = forms.write(form, forms.purchases(form), folder)
        columns, settled = inspected(path)
        assert all(columns[role] in (right[role], UNDECIDED) for role in ("user_id", "item_id", "time")), form
        assert settled == (UNDECIDED not in columns.values()), form
        if settled:
            events = prepare(load_config(Path("shop.yaml")).data, force=True)["n_events"]
            assert events == sum(quantity > 0 or "quantity" not in columns for *_, quantity, _ in truth), form


# Facts


def frame_of(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    """Return purchases: customer, product, day after the beginning."""
    times = [BEGIN + timedelta(days=day) for *_, day in rows]
    return pl.DataFrame({"user_id": [u for u, *_ in rows], "item_id": [i for _, i, _ in rows], "time": times})


def test_facts_are_counted() -> None:
    visits = [("ann", "mug", 0), ("ann", "cup", 0), ("ann", "mug", 10), ("ann", "mug", 14), ("bob", "mug", 20)]
    facts = facts_of(frame_of(visits))
    assert (facts.n_rows, facts.n_users, facts.n_items) == (5, 2, 2)
    assert facts.gap_days == 7  # of 10 and 4 days
    assert facts.share_repeats == pytest.approx(2 / 5)
    assert facts.share_once == pytest.approx(1 / 2)
    assert (facts.first, facts.last) == (BEGIN, BEGIN + timedelta(days=20))
    assert facts.k == 1


@pytest.mark.parametrize(("gap", "horizon"), [(1, 7), (7, 7), (8, 14), (20, 30), (45, 60), (80, 90), (200, 90)])
def test_lists_are_for_the_days_within_which_half_come_again(gap: int, horizon: int) -> None:
    facts = facts_of(frame_of([(f"u{u}", "mug", u % 5 + n * gap) for u in range(9) for n in range(5)] * 2))
    assert facts.gap_days == gap
    assert facts.horizon_days == min(horizon, (4 * gap + 5) // 4)


def test_windows_leave_days_to_learn_from() -> None:
    for n_days in (1, 5, 20, 40, 400):
        facts = facts_of(frame_of([(f"u{day % 9}", f"p{day % 4}", day) for day in range(n_days)]))
        assert 0 <= facts.n_folds <= 3
        assert facts.horizon_days >= 1
        assert facts.n_folds == 0 or (facts.n_folds + 2) * facts.horizon_days <= n_days


def test_too_few_purchases_are_said(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = facts_of(frame_of([(f"u{n % 5}", f"p{n % 4}", n) for n in range(30)]))
    assert any(reason.startswith("30 purchases") for reason in few.lacking)
    assert any(reason.startswith("5 customers;") for reason in few.lacking)
    assert any("customers in the last" in reason for reason in few.lacking)
    enough = facts_of(frame_of([(f"u{n % 100}", f"p{n % 17}", n // 10) for n in range(2_000)]))
    assert enough.lacking == enough.doubts == ()
    assert inspected(plain(shop / "sales.csv", purchases(n_rows=30)))[1]
    assert "hardly enough to learn from: 30 purchases" in in_one_line(capfd.readouterr().err)


def till(n: int) -> str:
    return "0" if n % 3 == 0 else f"u{n % 80}"


def order(n: int) -> str:
    return f"order{n}"


@pytest.mark.parametrize(("customer", "doubt"), [(till, "a till, or everybody"), (order, "or the order's?")])
def test_a_till_and_an_order_number_taken_for_a_customer_are_doubts(customer: Callable[[int], str], doubt: str) -> None:
    facts = facts_of(frame_of([(customer(n), f"p{n % 17}", n // 10) for n in range(2_000)]))
    assert len(facts.doubts) == 1
    assert doubt in facts.doubts[0]


def test_horizon_windows_and_short_lists_are_written(shop: Path) -> None:
    inspected(plain(shop / "sales.csv"))
    written = yaml.safe_load(Path("shop.yaml").read_text())
    assert written["split"].keys() == {"horizon_days", "n_folds"}
    assert written["predict"] == {"k": 7}  # of eight products


def test_many_rows_take_seconds_at_most(shop: Path) -> None:
    n = pl.int_range(200_000, eager=True)
    times = pl.select(pl.lit(BEGIN) + pl.duration(minutes=n // 4 * 20)).to_series()
    frame = pl.DataFrame(
        {
            "customer_id": "c" + (n * 7_919 % 20_011).cast(pl.String),
            "product_id": "p" + (n * 104_729 % 3_001).cast(pl.String),
            "date": times.dt.strftime("%d/%m/%Y %H:%M"),
            "price": (n % 977) / 100 + 0.5,
            "quantity": n % 5 + 1,
        }
    )
    frame.write_csv(shop / "large.csv")
    began = time.process_time()
    columns, settled = inspected(shop / "large.csv")
    assert time.process_time() - began < 5
    assert settled
    assert roles_of(columns) == ("customer_id", "product_id", "date")


# Everything at once


def ran(words: list[str], monkeypatch: pytest.MonkeyPatch, stops_at: str | None = None) -> tuple[int, list[list[str]]]:
    """Return the exit code of ``recsys run``, and the commands that it began; ``stops_at`` is one that fails."""
    begun: list[list[str]] = []

    def begin(command: list[str], *, check: bool) -> "subprocess.CompletedProcess[bytes]":
        assert command[:3] == [sys.executable, "-m", "recsys.cli"]
        begun.append(command[3:])
        return subprocess.CompletedProcess(command, int(command[3] == stops_at))

    monkeypatch.setattr("recsys.run.subprocess.run", begin)
    return typed("run", *words), begun


def test_run_does_everything_in_order_and_stops_at_what_fails(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain(shop / "sales.csv")
    code, begun = ran(["sales.csv", "--yes"], monkeypatch)
    assert code == 0
    assert [words[0] for words in begun] == ["dataset", "train", "predict", "evaluate", "predict", "report"]
    assert begun[4][3:] == ["--system", "chosen", "--out", "shop-lists.csv"]
    assert not any("--force" in words for words in begun)
    code, begun = ran(["shop.yaml", "--yes", "--force"], monkeypatch, stops_at="train")
    assert (code, [words[0] for words in begun]) == (1, ["dataset", "train"])
    assert all(words[-1] == "--force" for words in begun)
    assert "`recsys train --config shop.yaml --force` ended with code 1" in in_one_line(capfd.readouterr().err)


def test_run_asks_before_it_begins_and_begins_nothing_while_something_is_open(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain(shop / "sales.csv")
    assert ran(["sales.csv"], monkeypatch) == (2, [])
    assert "nobody can be asked here; look at shop.yaml, then: recsys run shop.yaml --yes" in capfd.readouterr().err
    write_rows(shop / "till.csv", "product,date", [(f"p{i}", f"{t:%Y-%m-%d}") for _, i, t, *_ in purchases()])
    assert ran(["till.csv", "--yes", "--force"], monkeypatch) == (2, [])
    assert "something is open; answer it in shop.yaml, then: recsys run shop.yaml" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("column", "change", "doubt"),
    [
        (0, lambda text: text.upper() if "1" in text else text, "customers are written in several ways, such as 'C1"),
        (0, lambda text: text.replace("c1", "0c1"), "customers are written in several ways, such as '0c1"),
        (1, lambda text: text.upper(), "products are written in several ways, such as 'P"),
        (0, lambda text: "Guest" if "1" in text else text, "customers 'Guest' have"),
        (3, lambda text: text + " or so", "price may be the price, but 400 of its values are no numbers, such as '"),
        (4, lambda text: text + " pcs", "quantity may be the quantity, but 400 of its values are no numbers"),
    ],
)
def test_what_may_be_read_otherwise_is_to_be_looked_at(
    shop: Path, capfd: pytest.CaptureFixture[str], column: int, change: Callable[[str], str], doubt: str
) -> None:
    header, *lines = plain(shop / "a.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    for row in rows if column > 2 else rows[::2]:
        row[column] = change(row[column])
    write_rows(shop / "a.csv", header, rows)
    inspected("a.csv")
    assert "look at: " in (said := " ".join(capfd.readouterr().err.split()))
    assert doubt in said


def test_days_of_excel_are_times_where_the_name_says_so(shop: Path) -> None:
    begin = datetime(1899, 12, 30)
    rows = [(f"c{u}", 30_000 + i, (t - begin).total_seconds() / 86_400, p, q) for u, i, t, p, q in purchases()]
    write_rows(shop / "a.csv", "customer_id,product_id,date,price,quantity", rows)
    columns, settled = inspected("a.csv")
    assert settled
    assert (columns["time"], columns["time_format"], columns["item_id"]) == ("date", "excel_days", "product_id")
    assert prepare(load_config(Path("shop.yaml")).data)["first_day"] == f"{purchases()[0][2]:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ean", lambda i: 4_006_381_333_930 + i),  # in milliseconds since 1970 the year 2096
        ("barcode", lambda i: 712_345_678_900 + i),  # the year 1992
        ("article", lambda i: 1_530_000_000 + i),
        ("sku", lambda i: 20_230_100 + i),
    ],
)
def test_long_numbers_are_no_times_where_the_name_says_that_they_are_ids(
    shop: Path, name: str, make: Callable[[int], int]
) -> None:
    found = [(f"c{u}", make(1 + i), f"{t:%Y-%m-%d %H:%M}", p, q) for u, i, t, p, q in purchases()]
    write_rows(shop / "a.csv", f"customer_id,{name},date,price,quantity", found)
    columns, settled = inspected("a.csv")
    assert settled
    assert roles_of(columns) == ("customer_id", name, "date")


def test_long_numbers_that_would_lie_in_the_future_are_no_times(shop: Path) -> None:
    rows = [(f"{u}", 4_006_381_333_930 + i, f"{t:%Y-%m-%d %H:%M}") for u, i, t, _, _ in purchases()]
    write_rows(shop / "a.csv", None, rows)
    assert roles_of(inspected("a.csv")[0]) == ("1", "2", "3")


def test_a_time_in_no_form_that_is_read_is_said(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [(f"c{u}", f"p{i}", f"{t:%G-W%V-%u}") for u, i, t, _, _ in purchases()]
    write_rows(shop / "a.csv", "customer_id,product_id,date", rows)
    assert not inspected("a.csv")[1]
    said = in_one_line(capfd.readouterr().err)
    assert f"date holds such as '{purchases()[0][2]:%G-W%V-%u}': write 2024-01-31 10:15" in said


@pytest.mark.parametrize(
    ("header", "values", "doubt"),
    [
        ("event", ("purchase", "view", "cart"), "no_purchase, column: event, one_of: ['cart', 'view']}"),
        ("status", ("paid", "Cancelled"), "no_purchase, column: status, one_of: ['Cancelled']}"),
        ("is_return", ("N", "N", "Y"), "no_purchase, column: is_return, one_of: ['Y']}"),
        ("cancelled", ("0", "0", "1"), "no_purchase, column: cancelled, one_of: ['1']}"),
    ],
)
def test_rows_that_say_that_they_are_no_purchases_are_to_be_looked_at(
    shop: Path, capfd: pytest.CaptureFixture[str], header: str, values: tuple[str, ...], doubt: str
) -> None:
    head, *lines = plain(shop / "a.csv").read_text().splitlines()
    said = [f"{line},{values[place % len(values)]}" for place, line in enumerate(lines)]
    (shop / "a.csv").write_text("\n".join([f"{head},{header}", *said]) + "\n")
    inspected("a.csv")
    assert doubt in in_one_line(capfd.readouterr().err)


@pytest.mark.parametrize("name", ["line_total", "Total Price", "Sales"])
def test_a_price_of_all_pieces_is_to_be_looked_at(shop: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    text = plain(shop / "a.csv").read_text()
    (shop / "a.csv").write_text(text.replace("price", name, 1))
    assert inspected("a.csv")[0]["price"] == name
    assert f"{name} may be of all pieces of a row" in in_one_line(capfd.readouterr().err)


def test_letters_composed_in_two_ways_and_spaces_are_to_be_looked_at(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("B\u00e4r", "Ba\u0308r", "Ute  Ott", "Ute Ott")
    found = [(names[u % 4], f"p{i}", f"{t:%Y-%m-%d %H:%M}") for u, i, t, _, _ in purchases()]
    write_rows(shop / "a.csv", "customer,product_id,date", found)
    inspected("a.csv")
    assert "2 customers are written in several ways" in in_one_line(capfd.readouterr().err)


def test_sums_among_the_rows_become_a_rule_that_drops_them(shop: Path) -> None:
    text = plain(shop / "a.csv").read_text()
    last = "2023-08-01 09:00,100,9\n"
    (shop / "a.csv").write_text(f"{text}c1,Subtotal,{last}Grand total,Grand total,{last}c2,Total,{last}")
    assert inspected("a.csv")[0]["drop"] == [
        {"name": "sum_as_item_id", "column": "product_id", "one_of": ["Grand total", "Subtotal", "Total"]},
        {"name": "sum_as_user_id", "column": "customer_id", "one_of": ["Grand total"]},
    ]
    assert prepare(load_config(Path("shop.yaml")).data)["n_events"] == 400


def test_files_that_were_put_one_behind_another_repeat_their_header(shop: Path) -> None:
    head, *lines = plain(shop / "a.csv").read_text().splitlines()
    (shop / "a.csv").write_text(
        "".join(f"{head}\n" * (place % 10 == 0) + f"{one}\n" for place, one in enumerate(lines))
    )
    columns, settled = inspected("a.csv")
    assert settled
    assert columns["price"] == "price"
    assert prepare(load_config(Path("shop.yaml")).data)["n_events"] == 400


def test_a_time_of_signing_up_is_none_of_the_purchase(shop: Path) -> None:
    rows = [(f"c{u}", f"2019-01-{1 + u % 28:02d}", f"p{i}", f"{t:%Y-%m-%d %H:%M}") for u, i, t, _, _ in purchases()]
    write_rows(shop / "a.csv", "customer_id,signup_date,product_id,ts", rows)
    assert inspected("a.csv")[0]["time"] == "ts"


def test_an_age_is_no_customer_and_a_stock_is_no_quantity(shop: Path) -> None:
    rows = [(f"c{u}", f"c{u}@x.y", 20 + u % 40, f"p{i}", f"{t:%Y-%m-%d}", 500 + i, q) for u, i, t, _, q in purchases()]
    names = "customer_id,customer_email,customer_age,product_id,date,stock quantity,quantity sold"
    write_rows(shop / "a.csv", names, rows)
    columns, settled = inspected("a.csv")
    assert settled
    assert (columns["user_id"], columns["quantity"]) == ("customer_id", "quantity sold")


def test_keys_of_two_types_are_joined(shop: Path) -> None:
    pl.DataFrame(
        {"order_id": [k // 2 + 5000 for k in range(400)], "product_id": [f"p{k % 8}" for k in range(400)]}
    ).write_parquet(shop / "lines.parquet")
    orders = [(f"{k + 5000}.0", f"c{u}", f"{t:%Y-%m-%d %H:%M}") for k, (u, _, t, _, _) in enumerate(purchases(200))]
    write_rows(shop / "orders.csv", "order_id,customer_id,date", orders)
    columns, settled = inspected("lines.parquet", "orders.csv")
    assert settled
    assert roles_of(columns) == ("customer_id", "product_id", "date")
    assert prepare(load_config(Path("shop.yaml")).data)["n_events"] == 400


def test_points_of_pieces_beside_commas_of_prices_are_of_decimals(shop: Path) -> None:
    rows = [
        (f"c{u}", f"p{i}", f"{t:%Y-%m-%d}", f"{p:.2f}".replace(".", ","), f"{q}.000") for u, i, t, p, q in purchases()
    ]
    write_rows(shop / "a.csv", "customer_id;product_id;date;price;quantity", rows, ";")
    assert inspected("a.csv")[0]["decimal"] == {"price": ","}
    config = load_config(Path("shop.yaml")).data
    prepare(config)
    pieces = open_purchases(Path("data/processed") / str(config.name)).quantity
    assert sorted(pieces.tolist()) == sorted(q for *_, q in purchases())


def test_a_clock_of_a_workbook_stands_beside_its_day(shop: Path) -> None:
    found = [(f"c{u}", f"p{i}", t.date(), t.time()) for u, i, t, _, _ in purchases()]
    book = openpyxl.Workbook()
    for row in [("customer_id", "product_id", "date", "time"), *found]:
        book.active.append(row)
    book.save(shop / "a.xlsx")
    assert inspected("a.xlsx")[0]["time"] == ["date", "time"]
    assert prepare(load_config(Path("shop.yaml")).data)["first_day"] == f"{purchases()[0][2]:%Y-%m-%d}"
