"""Purchases of data frames: the same as of files, in every library; extended by newer events; odd input in one line."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import schema
from recsys.config import DataConfig
from recsys.data.frames import given_histories
from recsys.data.native import FrameStyle, id_texts
from recsys.data.prepare import prepare
from recsys.data.purchases import Purchases, open_purchases
from recsys.errors import ConfigError, DataError, OutputExistsError

NAMES = {"user": "who", "item": "what", "time": "when"}
ALL = NAMES | {"price": "price", "quantity": "n", "channel": "where", "basket": "receipt"}
FIRST = date(2024, 1, 1)
ARRAYS = (*schema.EVENT_ARRAYS, schema.OFFSETS)


def rows(n: int = 400, seed: int = 0, n_days: int = 40, *, unreadable: float = 0.01) -> pd.DataFrame:
    """Dirty rows: ids with gaps, as numbers and text, dates that do not exist, prices that are no numbers."""
    random = np.random.default_rng(seed)
    day = pd.Timestamp(FIRST) + pd.to_timedelta(random.integers(0, n_days, n), unit="D")
    when = pd.Series(day.strftime("%Y-%m-%d %H:%M:00"))
    when[random.random(n) < unreadable] = "2024-02-31"
    price = pd.Series(random.integers(1, 9, n).astype(str))
    price[random.random(n) < unreadable] = "cheap"
    table = {
        "who": np.where(random.random(n) < 0.05, np.nan, random.integers(17_850, 17_880, n)),
        "what": [f"{number:04d}" for number in random.integers(0, 25, n)],
        "when": when,
        "price": price,
        "n": np.where(random.random(n) < 0.1, np.nan, random.integers(1, 4, n)),
        "where": random.choice(np.array(["web", "shop", None]), n),
        "receipt": random.integers(0, n, n),
    }
    return pd.DataFrame(table)


def items(n: int = 30) -> pd.DataFrame:
    return pd.DataFrame({"what": [f"{number:04d}" for number in range(n)], "colour": ["red", None] * (n // 2)})


PLANS = pd.DataFrame(
    {
        "item_id": ["0001", "0002", "9999"],
        "start": ["2024-01-03"] * 3,
        "end": ["2024-01-09"] * 3,
        "medium": ["mailer", "display", "mailer"],
        "share": [0.5, 1.0, 1.0],
    }
)

LIBRARIES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda df: df,
    "polars": pl.from_pandas,
    "lazy": lambda df: pl.from_pandas(df).lazy(),
    "arrow": lambda df: pa.Table.from_pandas(df, preserve_index=False),
    "duckdb": lambda df: duckdb.from_arrow(pa.Table.from_pandas(df, preserve_index=False)),
}


def arrays_of(log: Purchases) -> dict[str, list[Any]]:
    return {name: np.nan_to_num(getattr(log, name), nan=-1).tolist() for name in ARRAYS}


def table_of(log: Purchases, name: str) -> pa.Table:
    return getattr(log, name).to_arrow()


@pytest.fixture
def prepared(workplace: Path) -> Purchases:
    """What the command prepares of the same rows in files."""
    pq.write_table(pa.Table.from_pandas(rows(), preserve_index=False), "sales.parquet")
    items().to_csv("items.csv", index=False)
    pd.DataFrame({"who": ["17850", "17999"], "city": ["Ulm", "Bonn"]}).to_csv("users.csv", index=False)
    PLANS.to_csv("plans.csv", index=False)
    columns: dict[str, Any] = {"user_id": "who", "item_id": "what", "time": "when", "price": "price", "quantity": "n"}
    columns |= {"channel": "where", "basket_id": "receipt"}
    columns["items"] = {"file": "items.csv", "attributes": ["colour"]}
    columns["users"] = {"file": "users.csv", "attributes": ["city"]}
    columns["promotions"] = {"file": "plans.csv", "item_id": "item_id", "start": "start", "end": "end"}
    columns["promotions"] |= {"medium": "medium", "share": "share"}
    Path("map.yaml").write_text(yaml.safe_dump(columns))
    config = DataConfig(source="table", raw=workplace / "sales.parquet", columns=workplace / "map.yaml")
    prepare(config)
    return open_purchases(config.folder)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_of_any_library_holds_what_the_command_prepares(prepared: Purchases, library: str) -> None:
    made = LIBRARIES[library]
    users = pd.DataFrame({"user_id": [17850, 17999], "city": ["Ulm", "Bonn"]})
    log = Purchases.from_frame(made(rows()), items=made(items()), users=made(users), promotions=made(PLANS), **ALL)
    assert arrays_of(log) == arrays_of(prepared)
    assert log.fingerprint == prepared.fingerprint
    assert log.items.to_arrow().equals(prepared.items.to_arrow())
    assert log.users.to_arrow().equals(prepared.users.to_arrow())
    assert table_of(log, "promotions").equals(table_of(prepared, "promotions"))
    report, of_files = log.manifest["report"], prepared.manifest["report"]
    of_text = ("user_id_written_as_missing", "user_id_written_as_decimal", "user_id_in_scientific_notation")
    for part in ("dropped", "found"):  # the Parquet file holds numbers as users, the CSV file text
        of_files[part], report[part] = (
            {name: n for name, n in found.items() if name not in of_text} for found in (of_files[part], report[part])
        )
    assert report == of_files
    assert 0 < of_files["found"]["unreadable_price"] <= of_files["found"]["missing_price"]
    facts = ("n_events", "n_users", "n_items", "first_day", "last_day", "hashes", "id_hashes", "channels")
    assert {name: log.manifest[name] for name in facts} == {name: prepared.manifest[name] for name in facts}


def test_a_csv_file_is_the_same_again(workplace: Path) -> None:
    rows().to_csv("sales.csv", index=False)
    Path("map.yaml").write_text("{user_id: who, item_id: what, time: when, price: price}")
    manifest = prepare(DataConfig(source="table", raw=Path("sales.csv"), columns=Path("map.yaml")))
    for frame in (rows(), pl.from_pandas(rows())):
        assert Purchases.from_frame(frame, **NAMES, price="price").fingerprint == manifest["fingerprint"]


def small(**columns: Any) -> pd.DataFrame:
    table = {"who": [1, 2, 2], "what": ["a", "b", "a"], "when": ["2024-01-01", "2024-01-02", "2024-01-03"]}
    return pd.DataFrame(table | columns)


def test_ids_become_text_whatever_they_were() -> None:
    mixed = pd.Series([17850, "017850", 17850.0], dtype=object)
    assert Purchases.from_frame(small(who=mixed), **NAMES).user_ids.to_pylist() == ["017850", "17850"]
    for values in ([7.0, None, 8.0], pd.array([7, None, 8], "Int64"), pd.Categorical([7, None, 8]), ["7", None, "8.0"]):
        log = Purchases.from_frame(small(who=values), **NAMES)
        assert log.user_ids.to_pylist() == ["7", "8"]
        assert log.manifest["report"]["dropped"]["missing_user_id"] == 1


TIMES = {
    "date": [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)],
    "datetime": [datetime(2024, 1, 1, 5), datetime(2024, 1, 2), datetime(2024, 1, 3)],
    "nanoseconds": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]).as_unit("ns"),
    "mixed": pd.Series([date(2024, 1, 1), "2024-01-02", datetime(2024, 1, 3, 4, 5, 6, 789)], dtype=object),
    "text": ["2024-01-01", "2024-01-02T10:00", " 2024-01-03 "],
    "numbers": [20240101, 20240102, 20240103],
    "decimals": [20240101.0, 20240102.0, 20240103.0],
    "periods": pd.period_range("2024-01-01", periods=3, freq="D"),
    "one zone": pd.Series([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)]),
    "zones and none": pd.Series(
        [*(datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2)), date(2024, 1, 3)], dtype=object
    ),
    "text of zones": ["2024-01-01T00:00+02:00", "2024-01-02T23:00Z", "2024-01-03T01:00+02:00"],
}


@pytest.mark.parametrize("form", TIMES)
def test_times_may_be_days_times_or_text(form: str) -> None:
    log = Purchases.from_frame(small(when=TIMES[form]), **NAMES)
    assert (log.day - log.first_day).tolist() == [0, 1, 2]
    assert log.manifest["first_day"] == "2024-01-01"


@pytest.mark.parametrize(
    ("library", "values", "dtype"),
    [
        ("pandas", [17850.0, None, 3.0], "float64"),
        ("pandas", [17850, 4, 3], "int64"),
        ("pandas", pd.array([17850, None, 3], "Int64"), "Int64"),
        ("pandas", pd.Categorical(["x", "y", "x"]), "category"),
        ("pandas", pd.Categorical([5, 7, 5]), "category"),
        ("pandas", ["0017", "x", "y"], "str"),
        ("polars", pl.Series([17850, 4, 3], dtype=pl.UInt16), pl.UInt16),
        ("polars", pl.Series(["x", "y", "x"], dtype=pl.Categorical), pl.Categorical),
        ("polars", pl.Series([17850.0, None, 3.0]), pl.Float64),
        ("lazy", pl.Series([17850, 4, 3]), pl.Int64),
        ("arrow", pa.array([17850, 4, 3], pa.int32()), pa.int32()),
        ("duckdb", pa.array([17850, 4, 3], pa.int32()), pa.int32()),
        ("arrow", pa.array(["a", "b", "a"]).dictionary_encode(), pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_ids_go_back_in_the_dtype_and_the_library_in_which_they_came(library: str, values: Any, dtype: Any) -> None:
    table = {"who": values, "what": ["a", "b", "a"], "when": ["2024-01-01"] * 3}
    made: dict[str, Any] = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "lazy": pl.LazyFrame, "arrow": pa.table}
    made["duckdb"] = lambda columns: duckdb.from_arrow(pa.table(columns))
    log = Purchases.from_frame(made[library](table), **NAMES)
    ids = log.style.ids_to_native(log.user_ids, "user")
    frame = log.style.to_native(
        {"who": ids, "score": np.arange(log.n_users), "item": log.item_ids.take([0] * log.n_users)}
    )
    frames = {
        "pandas": pd.DataFrame,
        "polars": pl.DataFrame,
        "lazy": pl.DataFrame,
        "arrow": pa.Table,
        "duckdb": pa.Table,
    }
    assert isinstance(frame, frames[library])
    column = nw.from_native(frame, eager_only=True)["who"].to_native()
    assert (column.type if isinstance(column, pa.ChunkedArray) else column.dtype) == dtype
    assert id_texts(column).equals(log.user_ids)
    assert log.user_index_of(id_texts(column)).tolist() == list(range(log.n_users))


def test_ids_that_their_dtype_cannot_hold_stay_text() -> None:
    log = Purchases.from_frame(small(), **NAMES)
    assert list(log.style.ids_to_native(["1", "A7"], "user")) == ["1", "A7"]
    assert list(log.style.ids_to_native(["1", "007"], "user")) == ["1", "007"]
    assert list(log.style.ids_to_native([], "user")) == []
    assert FrameStyle().ids_to_native(log.item_ids, "item").to_pylist() == ["a", "b"]


def test_ids_that_callers_name_are_understood_as_numbers_and_as_text() -> None:
    asked = [17850, 17850.0, "17850", np.int8(3), np.float32(3), Decimal("3.0"), " 03 ", None, float("nan"), pd.NA]
    texts = ["17850", "17850", "17850", "3", "3", "3", "03", None, None, None]
    assert id_texts(asked).to_pylist() == texts
    for values in (pd.Series([1.0, None]), pl.Series([1, None]), np.array([1, np.nan]), pa.array([1, None])):
        assert id_texts(values).to_pylist() == ["1", None]
    assert id_texts(np.array([2**62, 3])).to_pylist() == [str(2**62), "3"]
    assert id_texts([]).to_pylist() == []
    for wrong in ("17850", 17850, [[1]], [{"a": 1}], [True, "x"], [b"x"], [date(2024, 1, 1)], None, {"a": 1}):
        with pytest.raises(DataError, match=r"expected"):
            id_texts(wrong)


# --- extended ---------------------------------------------------------------------------------------------------------


def events_by_day(log: Purchases, *, baskets: bool = True) -> list[tuple[Any, ...]]:
    """Every event by its ids, sorted: what two logs share whatever their numbers are, and the order within a day."""
    user, channels = log.user_of_event(), ["", *log.manifest["channels"]]
    first: dict[Any, Any] = {}  # baskets by their smallest event, as numbers depend on the order of a day
    events = []
    for place in range(log.n_events):
        event = (
            log.user_ids[int(user[place])].as_py(),
            int(log.day[place]),
            log.item_ids[int(log.item[place]) - 1].as_py(),
            -1.0 if np.isnan(log.price[place]) else float(log.price[place]),
            channels[log.channel[place]],
            float(log.quantity[place]),
        )
        key = (user[place], log.basket[place])
        first[key] = min(first.get(key, event), event)
        events.append((*event, key))
    return sorted((*event[:-1], first[event[-1]] if baskets else None) for event in events)


def check_extension(known: Purchases, log: Purchases, whole: Purchases) -> None:
    assert events_by_day(log) == events_by_day(whole)
    assert log.user_ids[: known.n_users].equals(known.user_ids)
    assert log.item_ids[: known.n_items].equals(known.item_ids)
    assert log.manifest["channels"][: len(known.manifest["channels"])] == known.manifest["channels"]
    assert set(log.user_ids.to_pylist()) == set(whole.user_ids.to_pylist())
    assert set(log.item_ids.to_pylist()) == set(whole.item_ids.to_pylist())
    user = log.user_of_event().astype(np.int64)
    assert (np.diff(user * 10**6 + log.day) >= 0).all()
    same_user = np.diff(user) == 0
    assert (log.basket[log.offsets[:-1][np.diff(log.offsets) > 0]] == 0).all()
    assert {name: getattr(log, name).dtype for name in ARRAYS} == {name: getattr(whole, name).dtype for name in ARRAYS}
    running = np.maximum.accumulate(np.where(np.r_[False, same_user], log.basket, -1) + user * 10**6)
    assert (log.basket <= running - user * 10**6 + 1).all() or log.n_events == 0


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), baskets=st.booleans(), backwards=st.booleans(), as_log=st.booleans())
def test_an_extended_log_is_the_log_made_of_all_rows_at_once(
    seed: int, baskets: bool, backwards: bool, as_log: bool
) -> None:
    df = rows(120, seed, n_days=12, unreadable=0)
    df["receipt"] = df["when"].str[8:10] + "-" + (df["receipt"] % 2).astype(str)
    names = ALL if baskets else {role: name for role, name in ALL.items() if role != "basket"}
    day = df["when"].str[:10]
    split = sorted(day.unique())[1 + seed % 10]
    older, newer = df[day < split], df[day >= split]
    older, newer = (newer, older) if backwards else (older, newer)
    known, whole = Purchases.from_frame(older, **names), Purchases.from_frame(df, **names)
    addition = Purchases.from_frame(newer, **names) if as_log else newer
    log = known.extended(addition)
    check_extension(known, log, whole)
    assert log.manifest["report"]["kept"] == whole.manifest["report"]["kept"] == log.n_events
    assert log.fingerprint == known.extended(addition).fingerprint != known.fingerprint


def test_days_without_receipts_stay_one_basket_when_a_day_is_split() -> None:
    df = rows(200, 3, n_days=5, unreadable=0).drop(columns="receipt")
    names = {role: name for role, name in ALL.items() if role != "basket"}
    known = Purchases.from_frame(df[::2], **names)
    check_extension(known, known.extended(df[1::2]), Purchases.from_frame(df, **names))


def test_within_a_day_new_events_come_behind_the_known_ones() -> None:
    known = Purchases.from_frame(small(who=1, when="2024-01-05"), **NAMES)
    later = pd.DataFrame({"who": [1, 1], "what": ["z", "c"], "when": ["2024-01-05 00:00", "2024-01-04"]})
    log = known.extended(later)
    ids = log.item_ids.take(pa.array(log.item - 1)).to_pylist()
    assert (ids[0], ids[-1]) == ("c", "z")
    assert log.item_ids.to_pylist() == ["a", "b", "c", "z"]
    assert log.item[1:4].tolist() == known.item.tolist()
    assert log.basket.tolist() == [0, 1, 1, 1, 1]


def test_a_saved_log_is_opened_and_extended_by_the_schemas_names(tmp_path: Path) -> None:
    log = Purchases.from_frame(rows(), items=items(), promotions=PLANS, **ALL)
    log.save(tmp_path / "log")
    opened = open_purchases(tmp_path / "log")
    assert arrays_of(opened) == arrays_of(log)
    assert opened.fingerprint == log.fingerprint
    for table in ("items", "users", "promotions"):
        assert table_of(opened, table).equals(table_of(log, table))
    with pytest.raises(OutputExistsError):
        log.save(tmp_path / "log")
    newer = pd.DataFrame({"user_id": [17850, 1], "item_id": ["0001", "new"], "time": [date(2025, 1, 1)] * 2})
    newer["channel"] = ["web", "app"]
    extended = opened.extended(newer)
    assert (extended.n_events, extended.item_ids[-1].as_py()) == (log.n_events + 2, "new")
    assert extended.manifest["channels"] == ["shop", "web", "app"]
    assert extended.channel[-1] == 3
    extended.save(tmp_path / "log", force=True)
    assert open_purchases(tmp_path / "log").fingerprint == extended.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_new_items_bring_their_attributes_and_plans() -> None:
    log = Purchases.from_frame(rows(), items=items(), promotions=PLANS, **ALL)
    newer = pd.DataFrame({"who": [5, 5], "what": ["new", "newer"], "when": ["2024-03-01"] * 2})
    table = pd.DataFrame({"what": ["new", "planned", "0001"], "colour": ["blue", "green", "black"]})
    plans = pd.DataFrame({"what": ["new", "0001", "0001"], "start": "2024-03-04", "end": "2024-03-10"})
    plans = pd.concat([plans, PLANS.rename(columns={"item_id": "what"})])[["what", "start", "end"]]
    extended = log.extended(newer, items=table, promotions=plans)
    assert extended.item_ids[log.n_items :].to_pylist() == ["new", "newer", "planned"]
    assert extended.items["colour"].to_list()[log.n_items :] == ["blue", None, "green"]
    assert extended.items["colour"][1] == log.items["colour"][1]
    planned = table_of(extended, "promotions").to_pylist()
    assert {(row["item_index"], row["medium"]) for row in planned if row["first_day"] > log.last_day} == {
        (2, "promotion"),
        (log.n_items + 1, "promotion"),
    }
    with pytest.raises(DataError, match="column colour of the frame of items holds string, expected int64"):
        Purchases.from_frame(small(), items=pd.DataFrame({"what": ["a", "b"], "colour": [1, 2]}), **NAMES).extended(
            newer, items=table
        )


def test_channels_beyond_what_a_byte_can_number_are_refused() -> None:
    names = NAMES | {"channel": "where"}
    one, other = (
        pd.DataFrame({"who": 1, "what": "a", "when": "2024-01-01", "where": [f"{which}{n}" for n in range(100)]})
        for which in "ab"
    )
    with pytest.raises(DataError, match="200 different values"):
        Purchases.from_frame(one, **names).extended(other)


# --- odd input --------------------------------------------------------------------------------------------------------

ZONED = [datetime(2024, 1, 1, tzinfo=UTC)] * 3
ODD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no frame": ([1, 2], {}, "is list .*expected a data frame of pandas, Polars, PyArrow or DuckDB"),
    "no frame at all": (None, {}, "is NoneType None; expected a data frame"),
    "a series": (pd.Series([1]), {}, "expected a data frame"),
    "empty": (small().head(0), {}, "has no rows, expected one row a purchase"),
    "no columns": (pd.DataFrame(), {}, "has no column who; found none"),
    "unknown column": (small(), {"user": "Who?"}, r"has no column Who\?; found who, what, when; did you mean who\?"),
    "unknown price": (small(), {"price": "cost"}, "has no column cost"),
    "column twice": (pd.DataFrame([[1, 2, 3]], columns=["who", "who", "what"]), {}, "cannot be read"),
    "numbered columns": (
        pd.DataFrame([[1, "a", "2024-01-01"]]),
        {"user": 0, "item": 1, "time": 2},
        "names that are text",
    ),
    "a list as a name": (small(), {"user": ["who"]}, "names that are text"),
    "nested columns": (
        small().set_axis(pd.MultiIndex.from_product([["a"], [*"xyz"]]), axis=1),
        {},
        "expected|no column",
    ),
    "ids of bytes": (small(who=[b"a", b"b", b"c"]), {}, "expected text or whole numbers"),
    "ids of complex": (small(who=[1j, 2j, 3j]), {}, "who of the frame of purchases"),
    "empty ids": (small(who=["", " ", ""]), {}, r"dropped: missing_user_id 3\)"),
    "time of numbers": (small(when=[7] * 3), {}, "3 of 3 rows .* have bad_date, e.g. '7'"),
    "time of spans": (small(when=pd.to_timedelta([1, 2, 3])), {}, "expected dates"),
    "days or months": (small(when=["1/2/2024", "3/4/2024", "2/1/2024"]), {}, 'write time_format: "%d/%m/%Y" or'),
    "tens or thousands": (small(price=["1,234"] * 3), {"price": "price"}, 'two ways; write decimal: ","'),
    "a format that is none": (small(), {"time_format": "%q"}, "time_format.*%q"),
    "objects as times": (small(when=[object()] * 3), {}, "when of the frame of purchases"),
    "ids of lists": (small(who=[[1], [2], [3]]), {}, r"who of the frame of purchases.*expected text or whole numbers"),
    "polars lists": (pl.DataFrame({"who": [[1]], "what": ["a"], "when": ["2024-01-01"]}), {}, "expected text or whole"),
    "ids of sets": (small(who=[{1}, {2}, {3}]), {}, "who of the frame of purchases.*expected text or whole numbers"),
    "ids of dates": (small(who=pd.to_datetime(["2024-01-01"] * 3)), {}, "expected text or whole numbers"),
    "ids of truth": (small(who=[True, False, True]), {}, "expected text or whole numbers"),
    "no id there": (small(who=[None] * 3), {}, r"none of the 3 rows is left \(dropped: missing_user_id 3\)"),
    "no item there": (small(what=[np.nan] * 3), {}, r"3 of 3 rows \(100%\) have missing_item_id"),
    "no day there": (small(when=[None] * 3), {}, r"3 of 3 rows \(100%\) have bad_date"),
    "no such days": (small(when="soon"), {}, "have bad_date, e.g. 'soon'; expected a date such as 2020-09-22"),
    "prices of lists": (small(price=[[1], [2], [3]]), {"price": "price"}, "price of .*expected numbers"),
    "prices of dates": (small(price=pd.to_datetime(["2024-01-01"] * 3)), {"price": "price"}, "expected numbers"),
    "broken plan": (
        pl.LazyFrame({"who": ["x"], "what": ["a"], "when": ["b"]}).with_columns(pl.col("who").cast(pl.Int8)),
        {},
        "cannot be read",
    ),
    "periods": (small(when=pd.period_range("2024-01", periods=3, freq="M")), {}, "have bad_date, e.g. '2024-01'"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_input_is_said_in_one_line(case: str) -> None:
    frame, names, message = ODD[case]
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        Purchases.from_frame(frame, **(NAMES | names))
    assert "\n" not in str(caught.value)


def test_odd_frames_beside_the_purchases_are_said_in_one_line() -> None:
    odd = {
        "items": [
            (pd.DataFrame({"colour": ["red"]}), "the frame of items has no column what; found colour"),
            (pd.DataFrame({"what": ["a"], "tags": [["x"]]}), "column tags of the frame of items holds .*expected text"),
            (pd.DataFrame({"what": ["x"]}), r"none of the 3 rows is left \(dropped: unknown_item 3\)"),
            (pd.DataFrame({"what": []}), "the table of items .* no rows"),
            ("items.csv", "the frame of items is str 'items.csv'; expected a data frame"),
        ],
        "users": [(pd.DataFrame({"name": ["x"]}), "the frame of users has no column who")],
        "promotions": [
            (pd.DataFrame({"what": ["a"], "begin": ["2024-01-01"]}), "the frame of promotions has no column start"),
            (PLANS.assign(start=1), "none of the 3 promotions"),
            (PLANS.assign(share=7), "none of the 3 promotions"),
            (PLANS, "is of an item that is known there"),
        ],
    }
    for role, cases in odd.items():
        for frame, message in cases:
            with pytest.raises(DataError, match=message) as caught:
                Purchases.from_frame(small(), **NAMES, **{role: frame})
            assert "\n" not in str(caught.value)


def test_odd_additions_are_said_in_one_line() -> None:
    log = Purchases.from_frame(small(), **NAMES)
    for addition, message in (
        (small().head(0), "has no rows"),
        (small().drop(columns="when"), "has no column when"),
        ("later.csv", "expected a data frame"),
        (small(when="never"), "3 of 3 rows .* have bad_date"),
    ):
        with pytest.raises(DataError, match=message):
            log.extended(addition)
    with pytest.raises(DataError, match="expected none of them beside it"):
        log.extended(log, items=items())


def test_texts_mean_what_they_mean_in_a_file() -> None:
    df = pd.concat([small()] * 50, ignore_index=True)
    df["price"] = ["1,5 €", 3, "cheap", *["2,25"] * 147]
    df["who"] = ["NULL", " 7 ", *df["who"].astype(str)[2:]]
    df["when"] = ["31/12/1979", "25/12/2099", *["25/04/2024"] * 148]
    log = Purchases.from_frame(df[1:], **NAMES, price="price")
    report = log.manifest["report"]
    assert report["dropped"] == {
        "missing_user_id": 0,
        "missing_item_id": 0,
        "bad_date": 0,
        "user_id_written_as_missing": 0,
        "item_id_written_as_missing": 0,
        "repeated_header": 0,
        "date_before_1980": 0,
        "date_in_the_future": 1,
        "unknown_item": 0,
    }
    assert report["found"]["unreadable_price"] == report["found"]["missing_price"] == 1
    assert np.nanmax(log.price) == 2.25
    notes = log.manifest["notes"]
    assert ["%d/%m/%Y" in notes[0], "comma" in notes[1], len(notes)] == [True, True, 2]
    words: dict[str, Any] = {"time_format": "%d/%m/%Y", "decimal": ",", "missing": ["1"], "timezone": "Europe/Berlin"}
    stated = Purchases.from_frame(df, **NAMES, price="price", **words)
    assert stated.manifest["report"]["dropped"]["user_id_written_as_missing"] == int((df["who"] == "1").sum())
    again = stated.extended(small(when="03/04/2024"))
    assert again.last_day - stated.last_day == 0
    assert again.n_events - stated.n_events == 2


def test_prices_of_several_types_are_numbers() -> None:
    mixed = pd.Series(["1.5", None, 3], dtype=object)
    log = Purchases.from_frame(small(price=mixed), **NAMES, price="price")
    assert log.manifest["report"]["found"]["missing_price"] == 1
    assert sorted(np.nan_to_num(log.price, nan=-1).tolist()) == [-1, 1.5, 3]
    decimals = pl.DataFrame({"who": ["u"], "what": ["a"], "when": ["2024-01-01"], "price": [Decimal("2.50")]})
    assert Purchases.from_frame(decimals, **NAMES, price="price").price.tolist() == [2.5]


# --- histories made by hand -------------------------------------------------------------------------------------------


def test_histories_made_by_hand_are_those_of_the_log() -> None:
    names = {role: name for role, name in ALL.items() if role in ("user", "item", "time", "quantity")}
    log = Purchases.from_frame(rows(), **names)
    day = log.last_day - 5
    by_log = log.histories(day)
    lists: list[list[Any]] = [[] for _ in range(log.n_users)]
    for user, place in zip(log.user_of_event().tolist(), range(log.n_events), strict=True):
        when = date.fromordinal(int(log.day[place]) + date(1970, 1, 1).toordinal())
        lists[user].append((log.item_ids[int(log.item[place]) - 1].as_py(), when, log.quantity[place]))
    by_hand, unknown, later = given_histories(log, lists, day)
    assert by_hand.known_as.tolist() == [-1] * len(by_hand)
    assert by_hand.log.n_items == log.n_items
    assert unknown == []
    assert len(later) == int((log.day >= day).sum())
    assert by_hand.n_events.tolist() == by_log.n_events.tolist()
    for name in ("item", "day", "quantity", "basket"):
        ours, theirs = (getattr(each.log, name)[each.events()[1]] for each in (by_hand, by_log))
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_what_cannot_be_used_of_a_history_is_returned() -> None:
    log = Purchases.from_frame(small(what=[10, 11, 10]), **NAMES)
    lists: list[list[Any]] = [
        [(10.0, "2024-01-05"), ("11", datetime(2024, 1, 3, 9), 2)],
        [],
        [("x", "2024-01-01"), (10, "2024-02-01"), (None, "2024-01-01")],
    ]
    made, unknown, later = given_histories(log, lists, "2024-02-01")
    assert made.n_events.tolist() == [2, 0, 0]
    assert made.log.item.tolist() == [2, 1]
    assert made.log.quantity.tolist() == [2, 1]
    assert made.day == (date(2024, 2, 1) - date(1970, 1, 1)).days
    assert (unknown, later) == ([(2, "x"), (2, None)], [(2, "10")])
    assert len(given_histories(log, [], made.day).histories) == 0
    assert given_histories(log, [[]], made.day).histories.n_events.tolist() == [0]


@pytest.mark.parametrize(
    "history",
    [
        "a",
        ["ab"],
        [("a",)],
        [("a", "2024-13-01")],
        [("a", 20240101)],
        [("a", None)],
        [("a", pd.NaT)],
        [(["a"], "2024-01-01")],
        [("a", ZONED[0])],
        [("a", "2024-01-01", "many")],
        [("a", "2024-01-01", float("nan"))],
        [("a", "2024-01-01", 1e300)],
        5,
        None,
        [("a", "20240101")],
        [{"a": 1, "b": 2}],
    ],
)
def test_a_history_that_is_none_is_said_in_one_line(history: Any) -> None:
    histories: list[Any] = [history]
    log = Purchases.from_frame(small(), **NAMES)
    with pytest.raises(DataError, match="expected") as caught:
        given_histories(log, histories, "2024-02-01")
    assert "\n" not in str(caught.value)
