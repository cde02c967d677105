"""How weights and sales tables age: the study asks weights of three ages, with new sales tables and with old ones."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from toy import events_of, toy_data, write_prepared

from benchmarks.freshness import SalesAsOf, app, freshness
from recsys.config import load_config
from recsys.console import run as run_app
from recsys.data.synthetic.write import synthesize
from recsys.errors import ConfigError, DataError
from recsys.evaluation.splits import make_split
from recsys.modeling.backtest import Backtest, backtest
from recsys.signals.sales import ITEM_FEATURES
from recsys.signals.snapshot import Snapshots

SETTINGS = [
    "data.source=synthetic",
    "model.width=16",
    "model.max_length=16",
    "training.batch_tokens=512",
    "training.epochs=1",
    "training.n_negatives=16",
    "training.accelerator=cpu",
    "evaluation.n_bootstrap=100",
    "baselines.systems=[repeat, popularity]",
]


def config_of(name, *changes):
    return load_config(None, [*SETTINGS, f"name={name}", *changes])


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
    plan = Backtest.from_config(config_of("each"), 1)
    scores = freshness(plan)
    assert [row["trained_windows_before"] for row in scores["rows"]] == [1, 4, 8]
    learned = [make_split(plan.log, plan.made[day].config.split).train_day for day in sorted(plan.made)]
    assert [(plan.folds[0].start_day - day) // 7 for day in learned] == [8, 4, 1]
    fresh, stale = (scores["rows"][2][name]["map@12"]["value"] for name in ("fresh", "stale"))
    assert scores["rows"][2]["fresh_minus_stale"]["map@12"]["value"] == pytest.approx(fresh - stale)
    assert scores["systems"]["trained_8_before_fresh"]["map@12"]["value"] == fresh
    tables = [Path(f"reports/each-before-2020-07-22/recommendations/{name}") for name in ("decoder", "decoder_stale")]
    assert len({(folder / "2020-09-16.parquet").read_bytes() for folder in tables}) == 2
    # The youngest weights with fresh tables are those of a backtest.
    rolling = backtest(plan)["systems"]["decoder"]["map@12"]
    assert scores["rows"][0]["fresh"]["map@12"]["value"] == rolling["value"]


def test_what_the_study_cannot_compare_is_refused(place):
    with pytest.raises(DataError, match="lower --weeks"):
        freshness(Backtest.from_config(config_of("long"), 14))
    without = config_of("without", "model.components=[sequence]")
    with pytest.raises(ConfigError, match="reads none"):
        freshness(Backtest.from_config(without, 1))


def test_a_mistake_on_the_command_line_ends_in_one_line(place, capfd):
    with pytest.raises(SystemExit) as stopped:
        run_app(app, ["--set", "data.source=synthetic", "--weeks", "60"])
    assert stopped.value.code == 1
    error = capfd.readouterr().err
    assert "too short for 60 test windows" in error
    assert "Traceback" not in error


def test_old_sales_do_not_know_what_was_bought_since(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=15, n_days=60, seed=2)
    day = 18_040
    events = events_of(data)
    later = events[:, 1] >= day
    events[later, 2] = 1 + (events[later, 2] * 7) % 15
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=15, users=[f"u{n}" for n in range(20)])
    stale, other = (SalesAsOf(log, day).at(day + 9) for log in (data, corrupted))
    assert np.array_equal(stale.item_features, other.item_features)
    assert np.array_equal(stale.category_rarity, other.category_rarity)
    assert np.array_equal(stale.hazards.everyone, other.hazards.everyone)
    assert (stale.lift != other.lift).nnz == 0
    fresh = (Snapshots(log).at(day + 9).item_features for log in (data, corrupted))
    assert not np.array_equal(*fresh)


def test_old_sales_come_with_todays_promotions(tmp_path):
    events = [(user, 18_000 + day, 1 + (user + day) % 4) for user in range(5) for day in range(0, 40, 2 + user)]
    planned = [(1, 18_012, 18_019, "mailer", 1.0), (3, 18_026, 18_033, "mailer", 0.5)]
    data = write_prepared(tmp_path, events, n_items=4, promotions=planned)
    as_of, today = 18_012, 18_026
    stale, fresh = SalesAsOf(data, as_of).at(today).item_features, Snapshots(data)
    n_own = len(ITEM_FEATURES)
    np.testing.assert_array_equal(stale[:, :n_own], fresh.at(as_of).item_features[:, :n_own])
    np.testing.assert_array_equal(stale[:, n_own:], fresh.at(today).item_features[:, n_own:])
    assert stale[:, n_own:].any()
    assert not np.array_equal(fresh.at(as_of).item_features, fresh.at(today).item_features)
