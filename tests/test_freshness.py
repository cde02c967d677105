"""How weights and sales tables age: the study asks weights of three ages, with new sales tables and with old ones."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from test_backtest import config_of
from test_promotions import ASKED, weekly
from toy import toy_data, write_prepared

from benchmarks.freshness import SalesAsOf, app, freshness
from recsys.console import run as run_app
from recsys.data.synthetic.write import synthesize
from recsys.errors import ConfigError, DataError
from recsys.evaluation.splits import make_split
from recsys.modeling.backtest import Backtest, backtest
from recsys.signals.sales import ITEM_FEATURES, ItemSales


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with the purchases of seventeen weeks."""
    folder = tmp_path_factory.mktemp("freshness")
    end = date(2020, 9, 22)
    synthesize(folder / "data/raw/synthetic", n_customers=150, n_articles=60, seed=3, end=end, n_days=120)
    return folder


@pytest.fixture
def place(shop, monkeypatch):
    monkeypatch.chdir(shop)
    return shop


def test_freshness_compares_ages_of_weights_with_fresh_and_stale_tables(place):
    asked = Backtest.of(config_of("each"), 1)
    scores = freshness(asked)
    assert [row["trained_windows_before"] for row in scores["rows"]] == [1, 4, 8]
    learned = [make_split(asked.data, asked.made[day].config.split).train_day for day in sorted(asked.made)]
    assert [(asked.folds[0].start_day - day) // 7 for day in learned] == [8, 4, 1]
    fresh, stale = (scores["rows"][2][name]["map@12"]["value"] for name in ("fresh", "stale"))
    assert scores["rows"][2]["fresh_minus_stale"]["map@12"]["value"] == pytest.approx(fresh - stale)
    assert scores["systems"]["trained_8_before_fresh"]["map@12"]["value"] == fresh
    tables = [Path(f"reports/each-before-2020-07-22/recommendations/{name}") for name in ("decoder", "decoder_stale")]
    assert len({(folder / "2020-09-16.parquet").read_bytes() for folder in tables}) == 2
    # The youngest weights with fresh tables are those of a backtest.
    rolling = backtest(asked)["systems"]["decoder"]["map@12"]
    assert scores["rows"][0]["fresh"]["map@12"]["value"] == rolling["value"]


def test_what_the_study_cannot_compare_is_refused(place):
    with pytest.raises(DataError, match="lower --weeks"):
        freshness(Backtest.of(config_of("long"), 14))
    without = config_of("without", "model.sales_head=false", "model.repeat_head=false")
    with pytest.raises(ConfigError, match="reads none"):
        freshness(Backtest.of(without, 1))


def test_a_mistake_on_the_command_line_ends_in_one_line(place, capfd):
    with pytest.raises(SystemExit) as stopped:
        run_app(app, ["--set", "data.source=synthetic", "--weeks", "60"])
    assert stopped.value.code == 1
    error = capfd.readouterr().err
    assert "too short for 60 test windows" in error
    assert "Traceback" not in error


def test_old_sales_do_not_know_what_was_sold_since(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=15, n_days=60, seed=2)
    day = 18_040
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1).astype(np.int64)
    later = events[:, 1] >= day
    events[later, 2] = 1 + (events[later, 2] * 7) % 15
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=15, users=[f"u{n}" for n in range(20)])
    assert np.array_equal(SalesAsOf(data, day).at(day + 9), SalesAsOf(corrupted, day).at(day + 9))
    assert not np.array_equal(ItemSales(data).at(day + 9), ItemSales(corrupted).at(day + 9))


def test_old_sales_are_told_with_todays_plan(tmp_path):
    data = weekly(tmp_path, [(4, ASKED)])
    stale, fresh = SalesAsOf(data, ASKED - 14), ItemSales(data)
    n_own = len(ITEM_FEATURES)
    np.testing.assert_array_equal(stale.at(ASKED)[:, :n_own], fresh.at(ASKED - 14)[:, :n_own])
    np.testing.assert_array_equal(stale.at(ASKED)[:, n_own:], fresh.at(ASKED)[:, n_own:])
