from pathlib import Path

import narwhals as nw
import numpy as np
import pyarrow as pa
import pytest

from recsys.config import DataConfig
from recsys.data.clean import Cleaned, clean
from recsys.data.engine import open_engine
from recsys.data.sources.base import RawTables, Rule
from recsys.errors import DataError


def clean_rows(engine: str, rows: dict[str, list], config: DataConfig | None = None, **tables) -> Cleaned:
    with open_engine(engine) as opened:
        others = {name: opened.from_arrow(table) for name, table in tables.items() if isinstance(table, pa.Table)}
        raw = RawTables(events=opened.from_arrow(pa.table(rows)), **(tables | others))
        return clean(raw, config or DataConfig(), opened)


@pytest.fixture(params=["polars", "duckdb"])
def engine(request):
    return request.param


ROWS = {
    "user_id": ["u", "u", "v", "w"],
    "item_id": ["a", "b", "b", "c"],
    "time": ["2020-01-01T10:00", "2020-01-01T09:00", "2020-01-02", "2020-01-03"],
    "channel": ["web", None, "shop", "web"],
    "basket_id": ["7", "C8", "", None],
}


def test_text_channels_and_baskets_become_ranks_and_missing_ones_zero(engine):
    events = clean_rows(engine, ROWS).events
    found = {
        (int(item), int(day), int(channel), basket > 0)
        for item, day, channel, basket in zip(events.item, events.day, events.channel, events.basket, strict=True)
    }
    assert found == {(1, 18262, 2, True), (2, 18262, 0, True), (2, 18263, 1, False), (3, 18264, 2, False)}
    assert sorted(events.millisecond.tolist()) == [0, 0, 32_400_000, 36_000_000]


def test_a_rule_drops_what_it_names_and_null_is_no(engine):
    rule = Rule("from_the_web", nw.col("channel") == "web")
    cleaned = clean_rows(engine, ROWS, rules=(rule,))
    assert cleaned.report.dropped["from_the_web"] == 2
    assert cleaned.items["item_id"].to_pylist() == ["b"]
    assert cleaned.users["user_id"].to_pylist() == ["u", "v"]


def test_items_of_a_partial_table_are_kept_without_attributes(engine):
    items = pa.table({"item_id": ["a", "z"], "colour": ["red", "blue"]})
    partial = clean_rows(engine, ROWS, items=items, partial_items=True, sold_items_only=True)
    assert partial.items.to_pylist() == [
        {"item_id": "a", "colour": "red"},
        {"item_id": "b", "colour": None},
        {"item_id": "c", "colour": None},
    ]
    whole = clean_rows(engine, ROWS, items=items)
    assert whole.items["item_id"].to_pylist() == ["a", "z"]
    assert whole.report.dropped["unknown_item"] == 3


def test_users_whose_events_are_all_dropped_stay_only_if_the_table_has_them(engine):
    users = pa.table({"user_id": ["u", "x"]})
    window = DataConfig(end="2020-01-02")
    assert clean_rows(engine, ROWS, window, users=users).users["user_id"].to_pylist() == ["u", "x"]
    assert clean_rows(engine, ROWS, window).users["user_id"].to_pylist() == ["u"]


def test_the_shortest_and_longest_history_count_what_is_kept_of_it(engine):
    history = {"u": "aaz", "v": "aab", "w": "abbz", "x": "z", "y": "b"}
    rows = [(user, item) for user, items in history.items() for item in items]
    events = {"user_id": [user for user, _ in rows], "item_id": [item for _, item in rows], "time": ["2020-01-01"] * 12}
    users = pa.table({"user_id": list(history)})
    cleaned = clean_rows(engine, events, DataConfig(top_k_items=2, min_history=2, max_history=2), users=users)
    assert cleaned.users["user_id"].to_pylist() == ["u"]
    assert cleaned.items["item_id"].to_pylist() == ["a", "b"]  # b is among the most sold, though nobody left bought it
    dropped = {"not_in_top_k_items": 3, "history_too_short": 1, "history_too_long": 6}
    assert cleaned.report.dropped | dropped == cleaned.report.dropped
    assert cleaned.report.before_history_limits == {"events": 9, "users": 4}
    assert (len(cleaned.events), cleaned.report.kept) == (2, 2)


def test_one_limit_alone_is_enough_and_the_same_is_found_by_counting(engine):
    random = np.random.default_rng(0)
    user, item = random.zipf(1.6, (2, 500)) % 40
    events = {"user_id": user.astype(str), "item_id": item.astype(str), "time": ["2020-01-01"] * 500}
    lengths = np.unique_counts(user).counts
    for limits, kept in (({"min_history": 3}, lengths >= 3), ({"max_history": 9}, lengths <= 9)):
        cleaned = clean_rows(engine, events, DataConfig(**limits))
        assert (len(cleaned.users), len(cleaned.events)) == (kept.sum(), lengths[kept].sum())


def test_limits_that_leave_nobody_name_themselves(engine):
    with pytest.raises(DataError, match=r"history_too_short 4\); .*data\.min_history"):
        clean_rows(engine, ROWS, DataConfig(min_history=5))


def test_of_items_sold_equally_often_the_smaller_ids_are_the_most_sold(engine):
    events = {"user_id": ["u"] * 7, "item_id": list("edcbaea"), "time": ["2020-01-01"] * 7}
    cleaned = clean_rows(engine, events, DataConfig(top_k_items=4))
    assert cleaned.items["item_id"].to_pylist() == ["a", "b", "c", "e"]


def test_a_column_of_very_many_channels_is_refused(engine):
    rows = {"user_id": ["u"] * 200, "item_id": ["a"] * 200, "time": ["2020-01-01"] * 200, "channel": range(200)}
    with pytest.raises(DataError, match="200 different values"):
        clean_rows(engine, rows)


def test_a_time_column_of_numbers_is_refused(engine):
    with pytest.raises(DataError, match="expected dates"):
        clean_rows(engine, {"user_id": ["u"], "item_id": ["a"], "time": [20200101]})


def test_the_source_files_are_named_in_the_error(engine):
    files = (Path("shop.csv"),)
    with pytest.raises(DataError, match=r"shop\.csv has a header and no rows"):
        clean_rows(engine, pa.table(ROWS).slice(0, 0).to_pydict() | {"time": pa.array([], pa.string())}, inputs=files)


def test_times_of_a_zone_are_refused_as_engines_would_read_other_days(engine):
    times = pa.array([0, 1, 2, 3], pa.timestamp("us", "America/New_York"))
    with pytest.raises(DataError, match="expected the shop's local time without a zone"):
        clean_rows(engine, ROWS | {"time": times})
