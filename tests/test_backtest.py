"""A backtest goes through the weeks as they would have gone, and is what its single steps are."""

import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from recsys.cli import build_app
from recsys.config import load_config
from recsys.console import run as run_app
from recsys.data.days import day_number
from recsys.data.purchases import open_purchases
from recsys.data.synthetic.write import synthesize
from recsys.errors import ConfigError
from recsys.evaluation.runs import score_run
from recsys.evaluation.splits import make_split
from recsys.modeling.backtest import Backtest, backtest
from recsys.modeling.build import build_module
from recsys.modeling.predict import predict_folds
from recsys.modeling.train import train
from recsys.runs import find_run

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


def typed(*words: str) -> int:
    options = [word for setting in SETTINGS[1:] for word in ("--set", setting)]
    with pytest.raises(SystemExit) as stopped:
        run_app(build_app("backtest"), ["backtest", "--source", "synthetic", *options, *words])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def gone_through(tmp_path_factory):
    """A folder in which two weeks were gone through by one command, with weights trained for each."""
    folder = tmp_path_factory.mktemp("backtest")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        synthesize(
            Path("data/raw/synthetic"), n_customers=150, n_articles=60, seed=3, end=date(2020, 9, 22), n_days=120
        )
        assert typed("--weeks", "2", "--retrain-every", "1", "--run", "each") == 0
    return folder


@pytest.fixture
def place(gone_through, monkeypatch):
    monkeypatch.chdir(gone_through)
    return gone_through


def written(file="backtest.json", name="each"):
    return json.loads(Path(f"reports/{name}/{file}").read_text(encoding="utf-8"))


def test_the_data_are_prepared_and_each_week_has_weights_of_its_own(place):
    scores = written()
    assert [fold["start"] for fold in scores["folds"]] == ["2020-09-09", "2020-09-16"]
    assert [fold["learned_before"] for fold in scores["folds"]] == ["2020-09-02", "2020-09-09"]
    assert len({fold["run"] for fold in scores["folds"]}) == 2
    assert set(scores["systems"]) == {"decoder", "repeat", "popularity"}
    assert scores["systems"]["decoder"]["map@12"]["low"] is not None
    assert {"repeated", "new"} <= set(scores["segments"])


def test_no_weights_saw_the_week_they_are_asked_about_or_a_later_one(place):
    for fold in written()["folds"]:
        found = find_run(fold["run"])
        assert found.info["epochs_run"] == 1
        split, start = make_split(found.open_data(), found.config.split), day_number(date.fromisoformat(fold["start"]))
        assert split.validation.end_day <= start
        assert (split.train_end == found.open_data().ends_before(start - 7)).all()


def test_weights_stay_the_same_when_the_weeks_asked_about_change(place, tmp_path, monkeypatch):
    fold = written()["folds"][0]
    found = find_run(fold["run"])
    expected = load_file(found.folder.resolve() / "weights.safetensors")
    shutil.copytree("data/processed", tmp_path / "data" / "processed")
    monkeypatch.chdir(tmp_path)
    log = open_purchases(found.config.data.folder)
    later = np.flatnonzero(log.day >= day_number(date.fromisoformat(fold["start"])))
    items = np.array(log.item)
    items[later] = np.random.default_rng(0).integers(1, log.n_items + 1, len(later))
    np.save(found.config.data.folder / "item.npy", items)
    train(found.config)
    again = load_file(Path("models") / found.name / "weights.safetensors")
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_what_stands_is_not_made_again(place):
    files = [
        *Path("models").glob("each-*/weights.safetensors"),
        *Path("reports").glob("each-*/recommendations/*/*.parquet"),
    ]
    before, scores = {file: file.stat().st_mtime_ns for file in files}, written()
    lost = next(file for file in files if file.suffix == ".parquet")
    lost.unlink()
    assert typed("--weeks", "2", "--retrain-every", "1", "--run", "each") == 0
    assert {file for file in files if file.stat().st_mtime_ns != before[file]} == {lost}
    assert written() == scores


def test_without_retraining_it_is_what_train_predict_and_evaluate_say(place):
    scores = backtest(Backtest.from_config(config_of("once"), 2))
    assert {fold["run"] for fold in scores["folds"]} == {"once-before-2020-09-02"}
    train(config_of("steps", "split.n_folds=2"))
    predict_folds(find_run("steps"))
    steps = score_run(find_run("steps"))
    for part in ("systems", "differences", "segments", "segment_sizes"):
        assert scores[part] == steps[part]
    for fold, expected in zip(scores["folds"], steps["folds"], strict=True):
        assert {key: fold[key] for key in expected} == expected
    assert scores["protocol"].items() >= {k: v for k, v in steps["protocol"].items() if k != "run"}.items()


def test_weights_that_learn_until_the_test_window_learned_before_a_window_later(place, capfd):
    plan = Backtest.from_config(config_of("until", "training.until=test"), 1)
    scores = backtest(plan)
    (fold,) = scores["folds"]
    # Its own window held out would be that before: 2020-09-09 to 2020-09-15.
    assert (fold["start"], fold["learned_before"]) == ("2020-09-16", "2020-09-16")
    assert "it learns from what lies before 2020-09-16" in " ".join(capfd.readouterr().err.split())
    found = find_run(fold["run"])
    learned = build_module(found.config, plan.log).batches.split
    assert learned.train_day == day_number(date(2020, 9, 16))
    assert (learned.train_end == plan.log.ends_before(learned.train_day)).all()


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (
            ["--weeks", "2", "--retrain-every", "1", "--run", "each", "--set", "training.lr=0.1"],
            "another --run|with --run",
            1,
        ),
        (["--weeks", "60"], "too short for 60 test windows", 1),
    ],
)
def test_what_cannot_be_gone_through_ends_in_one_line(place, capfd, words, said, code):
    assert typed(*words) == code
    error = capfd.readouterr().err
    assert any(part in error for part in said.split("|"))
    assert "Traceback" not in error


def test_a_protocol_without_dates_is_refused():
    with pytest.raises(ConfigError, match="set it to weekly"):
        Backtest.from_config(config_of("loo", "split.protocol=leave_one_out"), 1)
