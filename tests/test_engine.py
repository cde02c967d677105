import gzip
import zipfile
from datetime import date
from pathlib import Path

import narwhals as nw
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.engine import Engine, open_engine
from recsys.data.expressions import day_of, number
from recsys.data.text_codes import TextCoder
from recsys.errors import DataError

TEXT = 'item_id,name,price\n0108775015,"Top, ""white""",1.50\n0108775044,,\n'
ROWS = [
    {"item_id": "0108775015", "name": 'Top, "white"', "price": "1.50"},
    {"item_id": "0108775044", "name": None, "price": None},
]


@pytest.fixture(params=["polars", "duckdb"])
def engine(request):
    with open_engine(request.param) as opened:
        yield opened


def rows(engine: Engine, frame: nw.LazyFrame) -> list[dict]:
    return engine.collect(frame).sort_by("item_id").to_pylist()


def test_every_csv_column_is_text_so_that_leading_zeros_stay(engine, tmp_path):
    (tmp_path / "a.csv").write_text(TEXT)
    assert rows(engine, engine.scan(tmp_path / "a.csv")) == ROWS


def test_gzipped_and_zipped_files_are_read_and_their_unpacked_copies_removed(engine, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", TEXT)
    with engine:
        for name in ("a.csv.gz", "a.csv.zip"):
            assert rows(engine, engine.scan(tmp_path / name)) == ROWS
        assert any(engine.scratch.iterdir())
    assert not engine.scratch.exists()


def test_parquet_keeps_its_types(engine, tmp_path):
    pq.write_table(pa.table({"item_id": ["a"], "n": pa.array([3], pa.int16())}), tmp_path / "a.parquet")
    assert dict(engine.scan(tmp_path / "a.parquet").collect_schema())["n"] == nw.Int16


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zip", "a.parquet"])
def test_a_damaged_file_is_one_line_that_names_it(engine, tmp_path, name):
    (tmp_path / name).write_bytes(b"these are no such bytes at all")
    with pytest.raises(DataError, match=name) as caught:
        engine.scan(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_zip_of_two_files_is_refused(engine, tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", TEXT)
        archive.writestr("b.csv", TEXT)
    with pytest.raises(DataError, match=r"two\.zip holds a\.csv, b\.csv, expected one table"):
        engine.scan(tmp_path / "two.zip")


def test_a_row_with_too_many_fields_is_one_line_that_names_its_own(engine, tmp_path):
    (tmp_path / "a.csv").write_text(TEXT + "0108775051,a,b,c,d\n")
    with pytest.raises(DataError, match="line 4 has 5 fields, expected 3") as caught:
        engine.collect(engine.scan(tmp_path / "a.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT, TEXT.rstrip("\n")])
def test_line_ends_of_windows_a_byte_order_mark_and_a_missing_last_line_end_change_nothing(engine, tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert rows(engine, engine.scan(tmp_path / "a.csv")) == ROWS


def test_a_row_that_begins_like_a_comment_is_a_row(engine, tmp_path):
    (tmp_path / "a.csv").write_text("item_id,name\n#1,a\n#2,b\n")
    assert [row["item_id"] for row in rows(engine, engine.scan(tmp_path / "a.csv"))] == ["#1", "#2"]


def test_both_engines_join_and_group_alike(tmp_path: Path):
    left = pa.table({"item_id": ["a", "b", None, "c"], "n": [1, 2, 3, 4]})
    right = pa.table({"item_id": ["a", "c"], "rank": [10, 20]})
    answers = []
    for name in ("polars", "duckdb"):
        with open_engine(name) as engine:
            joined = engine.from_arrow(left).join(engine.from_arrow(right), on="item_id", how="left")
            answers.append(sorted(engine.collect(joined.select("n", "rank")).to_pylist(), key=lambda row: row["n"]))
    assert answers[0] == answers[1] == [{"n": n, "rank": rank} for n, rank in ((1, 10), (2, None), (3, None), (4, 20))]


TEXTS = ["b", "", None, "ab", "b", "x", None, "b"] * 5 + ["only once"]


@pytest.mark.parametrize("texts", [TEXTS, [f"{n}" for n in range(50)], [None] * 9, []])
@pytest.mark.parametrize("known", [[], ["ab", "b", "nobody's"]], ids=["none known", "some known"])
def test_texts_are_held_once_and_what_is_made_of_them_is_the_same_whether_they_recur_or_not(engine, texts, known):
    row, column = pa.array(range(len(texts)), pa.int64()), pa.array(texts, pa.string())
    frame = engine.from_arrow(pa.table({"row": row, "text": column, "more": column}))
    length = nw.col("more").str.len_chars().fill_null(nw.lit(-1)).cast(nw.Int32).alias("length")
    columns, coded = engine.collect_columns(frame, {"text": pa.array(known, pa.string())}, {"more": [length]})
    assert columns.keys() == {"row", "length"}
    assert coded.keys() == {"text"}
    codes, values = coded["text"]
    assert values.to_pylist()[: len(known)] == known
    assert sorted(values.to_pylist()) == sorted({text for text in texts if text is not None} | set(known))
    expected = [texts[place] for place in columns["row"]]
    assert [None if code < 0 else values[code].as_py() for code in codes.tolist()] == expected
    assert columns["length"].tolist() == [-1 if text is None else len(text) for text in expected]


@pytest.mark.parametrize(("flag", "method"), [(1, 8), (0, 97)], ids=["password", "other packing"])
def test_a_zip_that_needs_a_password_or_another_packing_is_one_line(engine, tmp_path, flag, method):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", TEXT)
    packed = bytearray((tmp_path / "a.csv.zip").read_bytes())
    listed = packed.rfind(b"PK\x01\x02")
    packed[6], packed[8], packed[listed + 8], packed[listed + 10] = flag, method, flag, method
    (tmp_path / "a.csv.zip").write_bytes(packed)
    with pytest.raises(DataError, match=r"a\.csv\.zip could not be unpacked"):
        engine.scan(tmp_path / "a.csv.zip")


def test_a_gzip_whose_stream_is_no_deflate_is_one_line(engine, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 40)
    with pytest.raises(DataError, match=r"a\.csv\.gz could not be unpacked"):
        engine.scan(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_letters_of_any_usual_encoding_are_read(engine, tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("item_id,name\na,Café au lait\nb,Crème brûlée\n".encode(encoding))
    assert [row["name"] for row in rows(engine, engine.scan(tmp_path / "a.csv"))] == ["Café au lait", "Crème brûlée"]


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (b"item_id,name\na,b\nc,d,e\n", "bad.csv: line 3 has 3 fields, expected 2"),
        (b"item_id,name\na,b,c\n", "bad.csv: line 1 has 2 fields, most lines have 3"),
        (b"", "bad.csv is empty"),
    ],
    ids=["extra field", "short header", "empty"],
)
def test_of_two_files_the_damaged_one_is_named(engine, tmp_path, damaged, expected):
    (tmp_path / "good.csv").write_text(TEXT)
    (tmp_path / "bad.csv").write_bytes(damaged)
    good = engine.scan(tmp_path / "good.csv")
    with pytest.raises(DataError, match=expected) as caught:
        engine.collect(engine.scan(tmp_path / "bad.csv"))
    assert "good.csv" not in str(caught.value)
    assert rows(engine, good) == ROWS


def test_what_recurring_texts_make_in_many_blocks_is_that_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.data.engine._BLOCK_ROWS", 1_000)
    random = np.random.default_rng(0)
    # First few texts, then new ones in every block, and some missing.
    texts = [None if n % 97 == 0 else f"{random.integers(0, 2 + n // 20)}.5" for n in range(20_000)]
    days = [f"2020-01-{1 + n % 28:02}" if n % 31 else None for n in range(20_000)]
    frame = pa.table({"row": pa.array(range(len(texts))), "price": texts, "time": days})
    with open_engine("polars") as engine:
        scanned = engine.from_arrow(frame)
        assert engine._texts_recur(scanned, "price")
        made = {
            "price": [number("price", nw.String)],
            "time": [day_of("time", nw.String).fill_null(nw.lit(date(1969, 12, 31)))],
        }
        columns, _ = engine.collect_columns(scanned, {}, made)
    expected = np.array([np.nan if text is None else float(text) for text in texts])
    np.testing.assert_array_equal(columns["price"], expected[columns["row"]])
    by_row = np.array([-1 if day is None else 18261 + int(day[-2:]) for day in days])
    np.testing.assert_array_equal(columns["time"], by_row[columns["row"]])


def test_texts_in_many_blocks_have_the_code_of_their_first(tmp_path):
    random = np.random.default_rng(0)
    texts = random.integers(0, 5000, 20_000).astype(str)
    coder = TextCoder(pa.array(["17", "x"]))
    blocks = [pl.Series(part, dtype=pl.String) for part in np.array_split(texts, 50)]
    codes = np.concatenate([coder.codes(block.hash(coder.seed).to_numpy(), block) for block in blocks])
    values = np.array(coder.values().to_pylist())
    assert len(set(values)) == len(values) == len(set(texts) | {"x", "17"})
    assert (values[codes] == texts).all()
