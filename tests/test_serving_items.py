"""What the page is told of items: their points, what is bought around them, where they are recommended."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys
from recsys.config import load_config
from recsys.runs import Run
from recsys.serving.item_facts import around, recommended_to, weekly_sales
from recsys.serving.item_points import SOLD, attributes_of, centred, packed, plane_of

BASKETS = {
    "anna": [["bread"], ["tea", "jam"], ["jam"]],
    "bela": [["tea", "jam", "jam"], ["bread", "tea"]],
    "cleo": [["jam"]],
}


@pytest.fixture
def shop() -> recsys.Purchases:
    rows = [
        (user, item, date(2024, 1, 1) + timedelta(days=7 * place))
        for user, baskets in BASKETS.items()
        for place, items in enumerate(baskets)
        for item in items
    ]
    return recsys.Purchases.from_frame(
        pl.DataFrame(rows, ["user", "item", "time"], orient="row"), user="user", item="item", time="time"
    )


@pytest.fixture
def run(workplace) -> Run:
    return Run(Path("models/shop"), load_config(None, []), {})


def index_of(shop, name) -> int:
    return int(shop.item_index_of(pa.array([name]))[0])


def test_what_stands_around_an_item_is_counted_once_a_basket_and_never_across_customers(shop):
    found = around(shop, index_of(shop, "tea"))

    def counts(part):
        return {name: int(part[index_of(shop, name)]) for name in ("bread", "tea", "jam")}

    assert counts(found.before) == {"bread": 1, "tea": 0, "jam": 1}
    assert counts(found.beside) == {"bread": 1, "tea": 0, "jam": 2}
    assert counts(found.after) == {"bread": 1, "tea": 0, "jam": 1}


def test_weeks_end_on_the_last_day_and_hold_every_sale(shop):
    assert weekly_sales(shop, index_of(shop, "jam")).tolist() == [3, 1, 1]
    assert weekly_sales(shop, index_of(shop, "bread")).tolist() == [1, 1, 0]


def test_lists_that_hold_an_item_are_counted_by_rank(run):
    assert recommended_to(run, "tea", 5) is None
    table = pl.DataFrame({"user_id": ["a", "a", "b"], "rank": [1, 2, 1], "item_id": ["jam", "tea", "tea"]})
    run.report_folder.mkdir(parents=True)
    table.write_parquet(run.report_folder / "recommendations.parquet")
    assert recommended_to(run, "tea", 1) == {"n_lists": 2, "ranks": [1, 1], "customers": ["b"]}
    assert recommended_to(run, "salt", 1) == {"n_lists": 0, "ranks": [0], "customers": []}


def test_the_bytes_of_a_map_give_back_points_and_categories():
    colours = ["red", "blue", "red", None, "red", " "]
    items = pa.table({"item_id": list("abcdef"), "colour": colours, "size_id": range(6)})
    attributes = attributes_of(items, np.array([0, 1, 2, 3, 4, 9]))
    plane = np.arange(12, dtype=np.uint16).reshape(6, 2)
    told = packed(plane, attributes, {"layout": "PCA"})
    length = int(np.frombuffer(told, "<u4", 1)[0])
    about, columns = json.loads(told[4 : 4 + length]), np.frombuffer(told[4 + length :], "<u2").reshape(-1, 6)
    assert length % 4 == 0
    assert (about["n"], about["layout"]) == (6, "PCA")
    assert [one["name"] for one in about["attributes"]] == ["colour", SOLD]
    assert np.array_equal(columns[:2].T, plane)
    assert [about["attributes"][0]["values"][code] for code in columns[2]] == [
        "red",
        "blue",
        "red",
        "not known",
        "red",
        "not known",
    ]
    assert [about["attributes"][1]["values"][code] for code in columns[3]] == ["0", "1", "2 +", "2 +", "4 +", "8 +"]


def test_points_are_the_same_each_time_and_likes_stand_together(run):
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 50)
    vectors = rng.normal(0, 0.1, (100, 8)) + np.where(group[:, None] == 0, 1, -1) * np.eye(8)[0]
    ids = pa.array([str(number) for number in range(100)])
    plane, how = plane_of(centred(vectors), run, "items", ids)
    again, _ = plane_of(centred(vectors), run, "items", ids)
    assert how == "PCA"
    assert np.array_equal(plane, again)
    assert plane.min() >= 0
    left, right = sorted((plane[group == 0, 0], plane[group == 1, 0]), key=np.mean)
    assert left.max() < right.min()


def test_the_map_that_the_run_has_drawn_is_taken_where_its_items_are_these(run):
    ids = pa.array(["a", "b", "c"])
    run.report_folder.mkdir(parents=True)
    drawn = pa.table({"item_id": ids, "x": [0.0, 1.0, 2.0], "y": [0.0, 2.0, 0.0]})
    pq.write_table(drawn, run.report_folder / "map-items.parquet")
    plane, how = plane_of(np.eye(3, dtype=np.float32), run, "items", ids)
    assert (how, plane[:, 0].tolist()) == ("t-SNE", [0, 32768, 65535])
    assert plane_of(np.eye(3, dtype=np.float32), run, "items", pa.array(["a", "b", "d"]))[1] == "PCA"
