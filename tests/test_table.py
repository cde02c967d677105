import gzip
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from openpyxl import Workbook

from recsys.config import DataConfig, load_config
from recsys.data.engine import open_engine
from recsys.data.prepare import prepare
from recsys.data.purchases import open_purchases
from recsys.data.reading.column_map import CONDITIONS, load_column_map
from recsys.data.reading.times import time_of
from recsys.data.sources import read_source
from recsys.errors import ConfigError, DataError, RecsysError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "configs" / "columns" / "online_retail.yaml"
ENGINES = ("polars", "duckdb")

DIRTY = """\
Receipt,Sku,Name,Pieces,When,Price,Customer,Land
1,10001, Mug ,2,2024-03-01 10:00,2.50,7.0,DE
1,10002,Bowl,1,2024-03-01 09:30,4,7.0,DE
2,10001,mug?,1,2024-03-02 11:00,2.50, 8 ,FR
2,10001,Mug,1,2024-03-02 11:05,,8,FR
C3,10001,cancelled,-1,2024-03-02 12:00,2.50,8,FR
4,POST,Postage,1,2024-03-02 12:00,5.00,8,FR
5,10003,,1,2024-03-03,abc,9,
6,10002,Bowl,1,2024-03-03 08:00,4,,DE
7,10002,Bowl,1,2024-13-45 08:00,4,9,DE
8,,Nothing,1,2024-03-03 08:00,4,9,DE
9,10003,Cup,0,2024-03-04 08:00,1,9,DE
10,10003,Plate,1,2024-03-05,-3,9,DE
"""
#: Behind them what there is nothing amiss with: of few rows one would be too many to lose.
DIRTY += "".join(
    f"{100 + n},2000{n % 4},Spoon {n % 4},1,2024-03-{n % 9 + 1:02d} 12:00,1.50,K{n % 5},AT\n" for n in range(40)
)
MAP: dict[str, Any] = {
    "user_id": "Customer",
    "item_id": "Sku",
    "time": "When",
    "price": "Price",
    "quantity": "Pieces",
    "basket_id": "Receipt",
    "items": {"attributes": ["Name"]},
    "users": {"attributes": ["Land"]},
    "drop": [
        {"name": "cancellation", "column": "Receipt", "starts_with": "C"},
        {"name": "not_a_product", "column": "Sku", "not_matches": "^[0-9]{5}"},
        {"name": "nothing_bought", "column": "Pieces", "at_most": 0},
    ],
}

Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text(DIRTY)
    return tmp_path


def write_map(folder: Path, changes: dict[str, Any] | None = None, without: tuple[str, ...] = ()) -> Path:
    settings = {key: value for key, value in (MAP | (changes or {})).items() if key not in without}
    (folder / "map.yaml").write_text(yaml.safe_dump(settings))
    return folder / "map.yaml"


def config_of(folder: Path, raw: str = "shop.csv", **settings: Any) -> DataConfig:
    return DataConfig(source="table", raw=folder / raw, columns=folder / "map.yaml", **settings)


def error_of(folder: Path, expected: type[RecsysError], raw: str = "shop.csv") -> str:
    """Return the message with which reading fails; always one line."""
    with open_engine("polars") as engine, pytest.raises(expected) as caught:
        read_source(config_of(folder, raw), engine)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def column(config: DataConfig, table: str, name: str) -> list[Any]:
    with open_engine(config.engine) as engine:
        frame: nw.LazyFrame[Any] = getattr(read_source(config, engine), table)
        values: list[Any] = engine.collect(frame)[name].to_pylist()
    return values


@pytest.mark.parametrize("engine", ENGINES)
def test_dirt_is_counted_under_the_first_rule_that_fits_and_the_rest_is_prepared(shop: Path, engine: str) -> None:
    write_map(shop)
    report = prepare(config_of(shop, engine=engine))["report"]
    dropped = {rule: rows for rule, rows in report["dropped"].items() if rows}
    assert dropped == {
        "missing_user_id": 1,
        "missing_item_id": 1,
        "bad_date": 1,
        "cancellation": 1,
        "not_a_product": 1,
        "nothing_bought": 1,
    }
    assert report["rows_read"] == 52
    assert report["kept"] == 46
    assert report["found"]["missing_price"] == 2
    assert report["found"]["unreadable_price"] == 1
    assert report["found"]["negative_price"] == 1
    assert report["found"]["user_id_written_as_decimal"] == 2
    assert report["found"]["item_id_written_as_decimal"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_prepared_histories_are_what_the_shop_sold(shop: Path, engine: str) -> None:
    write_map(shop)
    prepare(config_of(shop, engine=engine))
    data = open_purchases(Path("data/processed/table"))
    assert data.user_ids.to_pylist() == ["7", "8", "9", "K0", "K1", "K2", "K3", "K4"]
    assert data.item_ids.to_pylist() == ["10001", "10002", "10003", "20000", "20001", "20002", "20003"]
    assert data.item[:2].tolist() == [2, 1]  # the bowl at 9:30 comes before the mugs at 10:00
    assert data.quantity[:2].tolist() == [1, 2]
    assert data.items["Name"].to_list() == ["Mug", "Bowl", "Plate", "Spoon 0", "Spoon 1", "Spoon 2", "Spoon 3"]
    assert data.users["Land"].to_list() == ["DE", "FR", "DE", *["AT"] * 5]


def test_both_engines_prepare_the_same(shop: Path) -> None:
    write_map(shop)
    fingerprints = {prepare(config_of(shop, engine=engine, name=engine))["fingerprint"] for engine in ENGINES}
    assert len(fingerprints) == 1


def test_csv_gzip_and_parquet_of_one_table_prepare_the_same(shop: Path) -> None:
    write_map(shop)
    (shop / "shop.csv.gz").write_bytes(gzip.compress(DIRTY.encode()))
    rows = [line.split(",") for line in DIRTY.splitlines()]
    columns = {name: [row[place] or None for row in rows[1:]] for place, name in enumerate(rows[0])}
    pq.write_table(pa.table(columns), shop / "shop.parquet")
    names = ("shop.csv", "shop.csv.gz", "shop.parquet")
    fingerprints = {prepare(config_of(shop, name, name=name))["fingerprint"] for name in names}
    assert len(fingerprints) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_decimal_ids_come_out_whole_and_missing_ones_missing(shop: Path, engine: str) -> None:
    when = ["2024-03-01"] * 5
    table = {"u": [17850.0, None, float("nan"), 1.5, -3.0], "i": [1, 2, 3, 4, 5], "t": when}
    pq.write_table(pa.table(table), shop / "ids.parquet")
    (shop / "map.yaml").write_text("{user_id: u, item_id: i, time: t}")
    config = config_of(shop, "ids.parquet", engine=engine)
    assert sorted(column(config, "events", "user_id"), key=str) == ["-3", "1.5", "17850", None, None]
    assert sorted(column(config, "events", "item_id")) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("engine", ENGINES)
def test_text_ids_keep_leading_zeros_and_letters(shop: Path, engine: str) -> None:
    (shop / "ids.csv").write_text("u,i,t\n007.0, 0123a,2024-01-01\n1.2.0,85123A ,2024-01-01\n")
    (shop / "map.yaml").write_text("{user_id: u, item_id: i, time: t}")
    config = config_of(shop, "ids.csv", engine=engine)
    assert sorted(column(config, "events", "user_id")) == ["007", "1.2.0"]
    assert sorted(column(config, "events", "item_id")) == ["0123a", "85123A"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_most_frequent_value_of_an_item_is_taken_and_the_first_of_equals(shop: Path, engine: str) -> None:
    rows = ["1,b", "1,a", "1,b", "2,z", "2,y", "3,", "3,only", "4,", "4, "]
    (shop / "shop.csv").write_text("i,name,u,t\n" + "".join(f"{row},5,2024-01-01\n" for row in rows))
    (shop / "map.yaml").write_text("{user_id: u, item_id: i, time: t, items: {attributes: [name]}}")
    config = config_of(shop, engine=engine)
    with open_engine(config.engine) as opened:
        items = read_source(config, opened).items
        assert items is not None
        rows_found = opened.collect(items).to_pylist()
    assert {row["item_id"]: row["name"] for row in rows_found} == {"1": "b", "2": "y", "3": "only", "4": None}


def test_items_that_only_dropped_rows_name_are_no_candidates(shop: Path) -> None:
    write_map(shop, without=("items", "users"))
    prepare(config_of(shop))
    assert "POST" not in open_purchases(Path("data/processed/table")).item_ids.to_pylist()


@pytest.mark.parametrize("engine", ENGINES)
def test_items_and_users_may_have_files_and_separators_of_their_own(shop: Path, engine: str) -> None:
    (shop / "products.csv").write_text("code;title;ignored\n10001;Mug;x\n10002;Bowl;x\n10003;Cup;x\n10009;Unsold;x\n")
    pq.write_table(pa.table({"Customer": [7.0, 8.0], "age": [30, 40]}), shop / "people.parquet")
    items = {"file": "products.csv", "separator": ";", "item_id": "code", "attributes": ["title"]}
    write_map(shop, {"items": items, "users": {"file": "people.parquet", "attributes": ["age"]}})
    manifest = prepare(config_of(shop, engine=engine))
    data = open_purchases(Path("data/processed/table"))
    assert data.items["title"].to_list() == ["Mug", "Bowl", "Cup", "Unsold"]
    assert data.users["age"].to_list() == [30, 40, None]
    assert [entry["name"] for entry in manifest["inputs"]] == ["shop.csv", "products.csv", "people.parquet", "map.yaml"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("condition", "dropped"),
    [
        ({"missing": True}, {"empty", "blank"}),
        ({"missing": False}, {"one", "ten", "word", "dotted"}),
        ({"equals": "word"}, {"word"}),
        ({"equals": 1}, {"one"}),
        ({"equals": "1"}, {"one"}),
        ({"one_of": ["word", "10"]}, {"word", "ten"}),
        ({"starts_with": "1"}, {"one", "ten"}),
        ({"starts_with": "."}, {"dotted"}),
        ({"matches": "^[0-9]+$"}, {"one", "ten"}),
        ({"not_matches": "^[0-9]+$"}, {"word", "dotted"}),
        ({"less_than": 10}, {"one"}),
        ({"at_most": 10}, {"one", "ten"}),
        ({"more_than": 1}, {"ten"}),
    ],
)
def test_each_condition_drops_what_it_says(
    shop: Path, engine: str, condition: dict[str, Any], dropped: set[str]
) -> None:
    values = {"empty": "", "blank": " ", "one": " 1", "ten": "10.0", "word": "word", "dotted": ".x"}
    rows = "".join(f"{name},5,2024-01-01,{value}\n" for name, value in values.items())
    (shop / "shop.csv").write_text(f"i,u,t,v\n{rows}")
    rule = {"name": "rule", "column": "v", **condition}
    (shop / "map.yaml").write_text(yaml.safe_dump({"user_id": "u", "item_id": "i", "time": "t", "drop": [rule]}))
    config = config_of(shop, engine=engine)
    with open_engine(config.engine) as opened:
        tables = read_source(config, opened)
        (found,) = (one for one in tables.rules if one.name == "rule")
        rows_of_rule = opened.collect(tables.events.filter(found.rows))
    assert set(rows_of_rule["item_id"].to_pylist()) == dropped
    assert found.is_stated


def test_every_condition_has_a_test() -> None:
    marks = test_each_condition_drops_what_it_says.pytestmark  # type: ignore[attr-defined]
    tested = {name for mark in marks if mark.args[0] != "engine" for condition, _ in mark.args[1] for name in condition}
    assert tested == set(CONDITIONS)


@pytest.mark.parametrize(
    ("time_format", "written", "expected"),
    [
        ("%d/%m/%Y %H:%M", "1/12/2010 8:26", datetime(2010, 12, 1, 8, 26)),
        ("%m/%d/%Y %H:%M", "12/1/2010 8:26", datetime(2010, 12, 1, 8, 26)),
        ("%d.%m.%y", "05.06.21", datetime(2021, 6, 5)),
        ("%Y%m%d", "20240229", datetime(2024, 2, 29)),
        ("%H:%M:%S, %d-%m-%Y", "23:59:58, 31-12-1999", datetime(1999, 12, 31, 23, 59, 58)),
        ("%d/%m/%Y", " 1/2/2003 ", datetime(2003, 2, 1)),
        ("%d/%m/%Y", "soon", None),
        ("%d.%m.%Y", "1x2x2003", None),
        ("%d.%m.%Y", "31.6.2023", None),
        ("%d/%m/%Y", "", None),
        ("%d/%m/%Y", None, None),
    ],
)
def test_times_are_read_by_a_format(time_format: str, written: str | None, expected: datetime | None) -> None:
    texts = pl.DataFrame({"t": pl.Series([written], dtype=pl.String)})
    assert texts.select(time_of(pl.col("t"), [time_format])).to_series().to_list() == [expected]


@pytest.mark.parametrize("engine", ENGINES)
def test_impossible_times_in_a_format_are_counted_and_many_of_them_refused(shop: Path, engine: str) -> None:
    dirty = "u;i;t\n1;a;31.12.2023\n1;b;31.6.2023\n1;c;2.1.2024\n1;d;x\n"
    (shop / "shop.csv").write_text(dirty + "2;a;1.1.2024\n" * 96)
    (shop / "map.yaml").write_text('{separator: ";", user_id: u, item_id: i, time: t, time_format: "%d.%m.%Y"}')
    manifest = prepare(config_of(shop, engine=engine))
    assert manifest["report"]["dropped"]["bad_date"] == 2
    assert (manifest["first_day"], manifest["last_day"]) == ("2023-12-31", "2024-01-02")
    (shop / "shop.csv").write_text(dirty + "2;a;1.1.2024\n" * 95)
    with pytest.raises(
        DataError, match=r"2 of 99 rows \(2%\) have bad_date, e\.g\. .*'31\.6\.2023' \(line 3\)"
    ) as caught:
        prepare(config_of(shop, engine=engine, name="refused"))
    assert "expected %d.%m.%Y" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": "Prise"}, ["price: Prise", "no such column", "found Receipt, Sku", "did you mean Price?"]),
        ({"user_id": "customer"}, ["user_id: customer", "did you mean Customer?"]),
        ({"time": "zzz"}, ["time: zzz", "name one of these"]),
        ({"items": {"attributes": ["Nam"]}}, ["items.attributes: Nam", "did you mean Name?"]),
        ({"drop": [{"name": "a", "column": "Piece", "at_most": 0}]}, ["drop a: column: Piece", "Pieces?"]),
        ({"separator": ";"}, ["is the separator right?"]),
    ],
)
def test_a_missing_column_names_what_was_found_and_the_nearest(
    shop: Path, changes: dict[str, Any], words: list[str]
) -> None:
    write_map(shop, changes)
    message = error_of(shop, DataError)
    assert "shop.csv" in message
    assert "map.yaml" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"userid": "Customer"}, ["unknown key userid", "did you mean user_id?"]),
        ({"items": {"attribute": ["Name"]}}, ["unknown key items.attribute", "did you mean items.attributes?"]),
        ({"drop": [{"name": "a", "column": "Sku", "start_with": "C"}]}, ["drop.start_with", "drop.starts_with?"]),
        ({"drop": [{"name": "a", "column": "Sku"}]}, ["rule a has none", "exactly one of missing"]),
        ({"drop": [{"name": "a", "column": "Sku", "equals": "b", "at_most": 1}]}, ["equals and at_most"]),
        ({"drop": [{"name": "a", "column": "Sku", "matches": "(?=x)"}]}, ["not a regular expression"]),
        ({"drop": [{"name": "bad_date", "column": "Sku", "equals": "b"}]}, ["cannot be called bad_date"]),
        ({"drop": [{"name": "a", "column": "Sku", "equals": "b"}] * 2}, ["two rules", "called a"]),
        ({"drop": [{"name": "a", "column": "Sku", "at_most": "few"}]}, ["drop.0.at_most", "few"]),
        ({"file": "../secret.csv"}, ["without '..'", "../secret.csv"]),
        ({"file": "/etc/passwd"}, ["relative"]),
        ({"file": "..\\secret.csv"}, ["without '..'"]),
        ({"file": "C:\\secret.csv"}, ["relative"]),
        ({"items": {"file": "a/../../b.csv", "attributes": ["Name"]}}, ["without '..'"]),
        ({"items": {"attributes": ["item_id"]}}, ["cannot be called item_id"]),
        ({"items": {"attributes": []}}, ["items: attributes", "at least one"]),
        ({"time_format": "%d/%q/%Y"}, ["%q", "%Y, %y, %m"]),
        ({"time_format": "%d/%m"}, ["expected a year"]),
        ({"separator": ";;"}, ["separator"]),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused_in_one_line(
    shop: Path, changes: dict[str, Any], words: list[str]
) -> None:
    write_map(shop, changes)
    message = error_of(shop, ConfigError)
    assert "map.yaml" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("role", ["user_id", "item_id", "time"])
def test_a_map_without_a_needed_column_says_which_line_to_add(shop: Path, role: str) -> None:
    write_map(shop, without=(role,))
    assert f"add a line '{role}: COLUMN'" in error_of(shop, ConfigError)


def test_without_a_map_it_says_how_to_write_one(shop: Path) -> None:
    assert "online_retail.yaml" in error_of(shop, ConfigError)
    with pytest.raises(ConfigError, match=r"data\.columns=FILE"):
        load_column_map(None)


def test_a_folder_needs_the_name_of_the_file_and_lists_what_it_holds(shop: Path) -> None:
    write_map(shop)
    message = error_of(shop, DataError, raw=".")
    assert "holds shop.csv" in message
    assert "file: NAME" in message
    write_map(shop, {"file": "shop.csv"})
    assert len(column(config_of(shop, "."), "events", "user_id")) == 52
    write_map(shop, {"file": "sale.csv"})
    assert "sale.csv is missing" in error_of(shop, DataError, raw=".")
    assert "leave one of them out" in error_of(shop, DataError, raw="shop.csv")


def test_a_missing_or_empty_or_foreign_file_is_named(shop: Path) -> None:
    write_map(shop)
    assert "does not exist" in error_of(shop, DataError, raw="nowhere")
    (shop / "empty.csv").touch()
    assert "empty.csv is empty" in error_of(shop, DataError, raw="empty.csv")
    (shop / "shop.xlsx").write_text("x")
    assert "shop.xlsx is text ('x') by its first bytes" in error_of(shop, DataError, raw="shop.xlsx")
    (shop / "shop.xlsx").write_bytes(b"PK\x03\x04")
    assert "shop.xlsx cannot be read as a workbook" in error_of(shop, DataError, raw="shop.xlsx")


def test_the_example_is_a_whole_run() -> None:
    config = load_config(ROOT / "configs" / "online_retail.yaml")
    assert config.data.source == "table"
    assert ROOT / str(config.data.columns) == EXAMPLE
    assert (config.split.horizon_days, config.split.n_folds) == (30, 3)
    assert load_column_map(EXAMPLE).user_id == "CustomerID"


def test_the_example_reads_a_workbook_as_it_reads_the_same_rows_in_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
    products, users = [("85123A", "HEART"), (71053, "LANTERN")], [17850, 13047, None]
    rows: list[tuple[Any, ...]] = [
        (n, *products[n % 2], 6, datetime(2010, 12, n % 28 + 1, 8, 26), 2.55, users[n % 3], "United Kingdom")
        for n in range(60)
    ]
    rows.append(("C536379", "D", "Discount", -1, datetime(2010, 12, 5, 9, 41), 27.5, 14527, "United Kingdom"))
    book = Workbook()
    for row in (names, *rows):
        book.active.append(row)
    book.save(tmp_path / "Online Retail.xlsx")
    texts = [[format(cell, "%m/%d/%Y %H:%M") if isinstance(cell, datetime) else cell for cell in row] for row in rows]
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in (names, *texts)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    manifests = []
    for raw in ("Online Retail.xlsx", "data.csv"):
        changes = [f"data.raw={tmp_path / raw}", f"data.columns={EXAMPLE}", f"data.name={Path(raw).stem.split()[0]}"]
        manifests.append(prepare(load_config(ROOT / "configs" / "online_retail.yaml", changes).data))
    assert manifests[0]["hashes"] == manifests[1]["hashes"]
    assert [manifest["n_events"] for manifest in manifests] == [40, 40]
    assert manifests[0]["report"]["dropped"]["missing_user_id"] == 20
    assert manifests[0]["report"]["dropped"]["cancellation"] == 1


@pytest.mark.skipif("RECSYS_REAL_DATA" not in os.environ, reason="RECSYS_REAL_DATA names no folder of real data")
def test_the_real_online_retail_loses_its_dirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Path(os.environ["RECSYS_REAL_DATA"]).resolve() / "online_retail" / "online_retail.parquet"
    if not raw.is_file():
        pytest.skip(f"{raw} is missing")
    config = load_config(ROOT / "configs" / "online_retail.yaml", [f"data.raw={raw}", f"data.columns={EXAMPLE}"]).data
    monkeypatch.chdir(tmp_path)
    manifest = prepare(config)
    dropped = manifest["report"]["dropped"]
    assert manifest["report"]["rows_read"] == 541_909
    assert dropped["missing_user_id"] == 135_080
    assert dropped["cancellation"] == 8_905  # of those that have a customer
    assert (manifest["n_events"], manifest["n_users"], manifest["n_items"]) == (396_337, 4_334, 3_659)
    assert (manifest["first_day"], manifest["last_day"]) == ("2010-12-01", "2011-12-09")
    data = open_purchases(config.folder)
    assert "12347" in data.user_ids.to_pylist()
    names = dict(zip(data.item_ids.to_pylist(), data.items["Description"].to_list(), strict=True))
    assert names["85123A"] == "WHITE HANGING HEART T-LIGHT HOLDER"
    assert not any(name in names for name in ("POST", "M", "D", "DOT", "BANK CHARGES"))
