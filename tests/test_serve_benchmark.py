"""What the benchmark of the service would get wrong in silence."""

import polars as pl
import pytest

from benchmarks.serve_events import growth, losses
from benchmarks.serve_load import Sample, figures
from benchmarks.serve_run import sell_the_rest
from recsys.data.synthetic.write import synthesize


def test_only_lists_within_the_time_count_and_refusals_do_not_shorten_the_latency():
    warm_up = [Sample(9.0, 0.5, 200)] * 5
    lists = [Sample(10 + number / 100, (number + 1) / 1000, 200) for number in range(100)]
    refused, late, broken = [Sample(10.5, 0.0001, 429)] * 300, [Sample(11.9, 0.2, 200)], [Sample(11, 0.1, 0)]
    found = figures([*warm_up, *lists, *refused, *late, *broken], 10, 12)
    assert found["value"] == 50
    assert found["p50_ms"] == pytest.approx(51)
    assert found["p99_ms"] == pytest.approx(100)
    assert found["refused_p99_ms"] == pytest.approx(0.1)
    assert found["statuses"] == {"0": 1, "200": 101, "429": 300}


def test_purchases_that_are_missing_and_those_that_are_there_twice_are_both_told():
    assert losses([1, 2, 3], 3) == (0, 0)
    assert losses([], 3) == (3, 0)
    assert losses([1, 2, 2, 2], 3) == (1, 2)
    assert losses([1, 2, 3, 4], 3) == (0, 1)


def test_growth_leaves_out_how_memory_fills_in_the_beginning():
    assert growth([0, 50, *[100] * 16, 130, 130])["value"] == 30
    assert growth([100.0] * 30)["value"] == 0


def test_every_article_is_sold_and_a_fifth_of_them_lately(tmp_path):
    synthesize(tmp_path, n_customers=20, n_articles=1000)
    sell_the_rest(tmp_path)
    sold = pl.read_csv(tmp_path / "transactions_train.csv", infer_schema=False)
    assert sold["article_id"].n_unique() == 1000
    assert sold.filter(pl.col("t_dat") >= "2020-08-24")["article_id"].n_unique() == 200
    assert sold["t_dat"].max() == "2020-09-22"
