"""The second stage learns from windows that had ended, and stands beside the decoder as a system of its own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_train import config_with
from toy import toy_data, write_prepared

from benchmarks.rerank import app, feature_names, fit_reranked, pair_features, rerank_folds, score_reranked
from recsys.console import run as run_app
from recsys.data.purchases import Histories, open_purchases
from recsys.errors import ConfigError
from recsys.evaluation.runs import score_run
from recsys.evaluation.splits import make_split
from recsys.modeling.predict import predict_folds
from recsys.modeling.recommenders.base import Candidates, Recommendations, all_items
from recsys.modeling.train import train
from recsys.runs import find_run
from recsys.signals.sales import OWN_FEATURES
from recsys.signals.snapshot import Snapshots

DATA = Path("data/processed/toy")


@pytest.fixture(scope="module")
def reranked(tmp_path_factory):
    """A folder with a run that has two test windows, and the lists that its own systems made for them."""
    folder = tmp_path_factory.mktemp("reranked")
    toy_data(folder / "data" / "processed", n_users=40, n_items=30, n_days=60, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(config_with("training.epochs=1", "split.n_folds=2", "predict.k=5", "baselines.systems=[popularity]"))
        predict_folds(find_run("toy"))
    return folder


@pytest.fixture
def place(reranked, monkeypatch):
    monkeypatch.chdir(reranked)
    return reranked


def tables() -> dict[str, dict[str, list]]:
    found = find_run("toy")
    return {
        fold.name: {system: items.tolist() for system, items in lists.items()}
        for fold, lists in rerank_folds(found, n_candidates=20, n_rounds=10)
    }


def test_it_is_scored_beside_the_decoder(place):
    found = find_run("toy")
    scores, ours = score_reranked(found, n_candidates=20, n_rounds=10), score_run(found)
    assert list(scores["systems"]) == ["decoder", "rerank"]
    assert scores["systems"]["decoder"]["map@5"] == ours["systems"]["decoder"]["map@5"]
    assert [fold["start"] for fold in scores["folds"]] == [fold["start"] for fold in ours["folds"]]
    for lists in tables().values():
        assert all(len(set(row)) == len(row) == 5 for row in lists["rerank"])
        assert len(lists["rerank"]) == len(lists["decoder"])
        assert lists["rerank"] != lists["decoder"]


def test_a_customer_without_a_history_keeps_the_list_of_the_decoder(place):
    found, data = find_run("toy"), open_purchases(DATA)
    fold = make_split(data, found.config.split).tests[-1]
    end = fold.history_end.copy()
    end[fold.user_index[::2]] = data.offsets[fold.user_index[::2]]
    everybody = np.arange(data.n_users, dtype=np.int32)
    known, candidates = Histories(data, everybody, end, fold.start_day), Candidates(all_items(data.n_items))
    second = fit_reranked(found, known, n_candidates=20, n_rounds=10)
    histories = known.of(fold.user_index)
    lists, theirs = (system.recommend(histories, 5, candidates) for system in (second, second.decoder))
    assert np.array_equal(lists.item[::2], theirs.item[::2])
    assert np.array_equal(lists.score[::2], theirs.score[::2])
    assert not np.array_equal(lists.item[1::2], theirs.item[1::2])


def test_what_is_bought_in_a_window_or_later_changes_no_list_of_it(place, tmp_path, monkeypatch):
    expected = tables()
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    data = open_purchases(DATA)
    last = make_split(data, find_run("toy").config.split).tests[-1]
    items = np.array(data.item)
    in_window = data.day >= last.start_day
    items[in_window] = np.random.default_rng(0).integers(1, data.n_items + 1, in_window.sum())
    np.save(DATA / "item.npy", items)
    assert tables() == expected


def test_a_pair_holds_the_past_only_where_the_item_was_bought(tmp_path):
    data = write_prepared(tmp_path / "d", [(0, 10, 1), (0, 12, 1), (1, 11, 3)], n_items=3)
    lists = Recommendations(
        np.array([[2, 1], [3, 2]], dtype=np.int32),
        np.array([[4.0, 1.0], [3.0, 2.5]], dtype=np.float32),
    )
    snapshots = Snapshots(data)
    rows = pair_features(data.histories(20), lists, snapshots)
    names = feature_names(snapshots)
    assert rows.shape == (4, len(names))
    assert rows[:, :3].tolist() == [[4, 0, 1], [1, 3, 2], [3, 0, 1], [2.5, 0.5, 2]]
    count = rows[:, names.index("count")]
    assert np.isnan(count).tolist() == [True, False, False, True]
    assert np.expm1(count[[1, 2]]) == pytest.approx([2, 1])
    expected = snapshots.at(20).item_features[[2, 1, 3, 2], : len(OWN_FEATURES)]
    assert np.array_equal(rows[:, 3 : 3 + len(OWN_FEATURES)], expected)


def test_a_decoder_that_has_learned_the_window_to_learn_from_is_refused(place, tmp_path, monkeypatch):
    shutil.copytree(place / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    train(config_with("training.epochs=1", "training.until=test"))
    with pytest.raises(ConfigError, match=r"toy has training\.until test: .*; train with training\.until validation"):
        score_reranked(find_run("toy"), n_candidates=20, n_rounds=10)


def test_the_command_prints_both_systems(place, capfd):
    with pytest.raises(SystemExit) as stopped:
        run_app(app, ["--run", "toy", "--candidates", "20", "--rounds", "10"])
    assert not stopped.value.code
    printed = capfd.readouterr().out
    assert "decoder" in printed
    assert "rerank" in printed
