"""The second stage learns from windows that had ended, and stands beside the decoder as a system of its own."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_train import config_with
from toy import toy_data, write_prepared

from recsys.cli import build_app
from recsys.console import run as run_app
from recsys.errors import ConfigError
from recsys.evaluate import score_run
from recsys.features import OWN_FEATURES, ItemSales
from recsys.modeling.predict import predict_folds
from recsys.modeling.recommend import Candidates, History, Lists, all_items
from recsys.modeling.rerank import feature_names, fit_reranked, pair_features, rerank_folds
from recsys.modeling.train import train
from recsys.prepared import load_prepared
from recsys.runs import find_run
from recsys.splits import make_split

DATA = Path("data/processed/toy")


@pytest.fixture(scope="module")
def reranked(tmp_path_factory):
    """A folder with a run whose two test windows have lists of all systems and of the second stage."""
    folder = tmp_path_factory.mktemp("reranked")
    toy_data(folder / "data" / "processed", n_users=40, n_items=30, n_days=60, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(config_with("training.epochs=1", "split.n_folds=2", "predict.k=5", "baselines.systems=[popularity]"))
        predict_folds(find_run("toy"))
        rerank_folds(find_run("toy"), n_candidates=20, n_rounds=10)
    return folder


@pytest.fixture
def place(reranked, monkeypatch):
    monkeypatch.chdir(reranked)
    return reranked


def tables(name="rerank") -> dict[str, list]:
    return {
        path.stem: pq.read_table(path).to_pylist() for path in Path("reports/toy/recommendations").glob(f"{name}/*")
    }


def test_it_is_scored_beside_the_decoder(place):
    systems = score_run(find_run("toy"))["systems"]
    assert list(systems) == ["decoder", "rerank", "popularity"]
    assert tables().keys() == tables("decoder").keys()
    for rows, theirs in zip(tables().values(), tables("decoder").values(), strict=True):
        assert [(row["user_id"], row["rank"]) for row in rows] == [(row["user_id"], row["rank"]) for row in theirs]
        assert len({(row["user_id"], row["item_id"]) for row in rows}) == len(rows)
    assert tables() != tables("decoder")


def test_a_customer_without_a_history_keeps_the_list_of_the_decoder(place):
    found, data = find_run("toy"), load_prepared(DATA)
    fold = make_split(data, found.config.split).tests[-1]
    end = fold.history_end.copy()
    end[fold.user_index[::2]] = data.offsets[fold.user_index[::2]]
    history, candidates = History(data, end, fold.start_day), Candidates(all_items(data.n_items))
    second = fit_reranked(found, history, n_candidates=20, n_rounds=10)
    lists, theirs = (system.recommend(history, fold.user_index, 5, candidates) for system in (second, second.decoder))
    assert np.array_equal(lists.item[::2], theirs.item[::2])
    assert np.array_equal(lists.score[::2], theirs.score[::2])
    assert not np.array_equal(lists.item[1::2], theirs.item[1::2])


def test_what_is_bought_in_a_window_or_later_changes_no_list_of_it(place, tmp_path, monkeypatch):
    expected = tables()
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    found, data = find_run("toy"), load_prepared(DATA)
    last = make_split(data, found.config.split).tests[-1]
    items = np.array(data.item)
    in_window = data.day >= last.start_day
    items[in_window] = np.random.default_rng(0).integers(1, data.n_items + 1, in_window.sum())
    np.save(DATA / "item.npy", items)
    rerank_folds(found, n_candidates=20, n_rounds=10, force=True)
    assert tables() == expected


def test_a_pair_holds_the_past_only_where_the_item_was_bought(tmp_path):
    data = write_prepared(tmp_path / "d", [(0, 10, 1), (0, 12, 1), (1, 11, 3)], n_items=3)
    lists = Lists(
        np.array([0, 1], dtype=np.int32),
        np.array([[2, 1], [3, 2]], dtype=np.int32),
        np.array([[4.0, 1.0], [3.0, 2.5]], dtype=np.float32),
    )
    rows = pair_features(History(data, data.ends_before(20), 20), lists, ItemSales(data))
    names = feature_names(ItemSales(data))
    assert rows.shape == (4, len(names))
    assert rows[:, :3].tolist() == [[4, 0, 1], [1, 3, 2], [3, 0, 1], [2.5, 0.5, 2]]
    count = rows[:, names.index("count")]
    assert np.isnan(count).tolist() == [True, False, False, True]
    assert np.expm1(count[[1, 2]]) == pytest.approx([2, 1])
    assert np.array_equal(rows[:, 3 : 3 + len(OWN_FEATURES)], ItemSales(data).at(20)[[2, 1, 3, 2], : len(OWN_FEATURES)])


def test_a_decoder_that_has_learned_the_window_to_learn_from_is_refused(place, tmp_path, monkeypatch):
    shutil.copytree(place / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    train(config_with("training.epochs=1", "training.until=test"))
    with pytest.raises(ConfigError, match=r"toy has training\.until test: .*; train with training\.until validation"):
        rerank_folds(find_run("toy"), n_candidates=20, n_rounds=10)


def typed(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_app(build_app("rerank"), ["rerank", *words])
    return int(stopped.value.code or 0)


def test_lists_that_stand_need_force(place, capfd):
    assert typed("--run", "toy") == 2
    assert "already exists" in capfd.readouterr().err


def test_without_lightgbm_it_says_what_to_install(place, capfd, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert typed("--run", "toy") == 2
    assert "pip install 'recsys[rerank]'" in capfd.readouterr().err


def test_new_lists_of_the_decoder_take_those_of_the_second_stage_away(place, tmp_path, monkeypatch):
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    predict_folds(find_run("toy"), force=True)
    assert not tables()
