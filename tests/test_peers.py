"""What other libraries are given, and how their lists are scored; the libraries themselves are not here."""

import json
import re
import subprocess
import sys
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fusion import fuse_reciprocal_ranks
from benchmarks.peers.export import DATASETS, LEAVE_ONE_OUT_PEERS, WEEKLY_PEERS, config_of, events, export_split
from benchmarks.peers.files import Budget, Events, Recommendations, Split, best, filled, map_at_k, matrix
from benchmarks.peers.run import PEERS, choose
from benchmarks.peers.score import write_scores
from recsys.config import load_config
from recsys.data.days import day_number
from recsys.errors import DataError, UsageError
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import make_split
from tests.toy import toy_data, write_prepared

N_DAYS = 150


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=30, n_items=40, n_days=N_DAYS, seed=1)


@pytest.fixture
def config():
    return load_config(None, ["split.n_folds=2", "evaluation.n_bootstrap=100"])


@pytest.fixture
def folder(data, config, tmp_path):
    export_split("completejourney", data, config, tmp_path / "peers")
    return tmp_path / "peers"


def read(path):
    table = pq.read_table(path)
    return {name: table[name].cast(pa.string()).to_pylist() if name.endswith("_id") else np.asarray(table[name])
            for name in table.column_names}  # fmt: skip


def test_ids_order_and_days_come_back_as_they_were(data):
    table = events(data, data.offsets[1:])
    user, item = (
        data.user_index_of(table["user_id"].combine_chunks()),
        data.item_index_of(table["item_id"].combine_chunks()),
    )
    assert user.tolist() == data.user_of_event().tolist()
    assert item.tolist() == data.item.tolist()
    assert np.asarray(table["day"]).tolist() == data.day.tolist()
    timestamp = np.asarray(table["timestamp"])
    assert (timestamp // 86_400).tolist() == data.day.tolist()
    same_user = user[1:] == user[:-1]
    assert (np.diff(timestamp)[same_user] > 0).all()


def test_no_event_of_the_window_or_later_is_given_to_anybody(folder, data, config):
    split = make_split(data, config.split)
    for fold in (split.validation, *split.tests):
        history = read(folder / "history" / f"{fold.name}.parquet")
        assert history["day"].max() < fold.start_day
        assert len(history["day"]) == np.count_nonzero(data.day < fold.start_day)
        users = read(folder / "queries" / f"{fold.name}.parquet")["user_id"]
        assert users == data.user_ids.take(pa.array(fold.user_index)).to_pylist()


def test_what_is_learned_from_ends_before_the_first_test_fold_and_marks_the_validation_window(folder, data, config):
    split = make_split(data, config.split)
    train = read(folder / "train.parquet")
    assert train["day"].max() < split.tests[0].start_day
    assert (train["validation"] == (train["day"] >= split.train_day)).all()


def test_what_happens_in_a_window_changes_nothing_that_is_known_at_its_date(folder, data, config, tmp_path):
    fold = make_split(data, config.split).tests[1]
    user, day, item = data.user_of_event(), np.asarray(data.day), np.asarray(data.item).copy()
    later = day >= fold.start_day
    item[later] = item[later] % data.n_items + 1
    changed = write_prepared(tmp_path / "changed", np.stack([user, day, item], axis=1), n_items=data.n_items,
                             users=data.user_ids.to_pylist())  # fmt: skip
    export_split("completejourney", changed, config, tmp_path / "again")
    for name in ("train.parquet", f"history/{fold.name}.parquet", f"features/{fold.name}.parquet"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_features_of_a_test_fold_hold_no_answer_and_those_before_the_right_one(folder, data, config):
    split = make_split(data, config.split)
    for fold in split.tests:
        assert "label" not in pq.read_schema(folder / "features" / f"{fold.name}.parquet").names
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert max(meta["features"]) < split.validation.name
    table = read(folder / "features" / f"{split.validation.name}.parquet")
    pairs = set(zip(table["user_id"], table["item_id"], strict=True))
    assert len(pairs) == len(table["label"])
    user = np.repeat(split.validation.user_index, np.diff(split.validation.target_offsets))
    bought = set(
        zip(
            data.user_ids.take(pa.array(user)).to_pylist(),
            data.item_ids.take(pa.array(split.validation.target_item - 1)).to_pylist(),
            strict=True,
        )
    )
    rows = zip(table["user_id"], table["item_id"], table["label"], strict=True)
    labelled = {(user_id, item_id) for user_id, item_id, label in rows if label}
    assert labelled == bought & pairs
    assert labelled


def test_leave_one_out_gives_all_but_the_last(tmp_path):
    rows = [(user, 18_000 + place, 1 + (user + place) % 9) for user in range(6) for place in range(5)]
    data = write_prepared(tmp_path / "toy", rows, n_items=9)
    config = config_of("beauty", [])
    export_split("beauty", data, config, tmp_path / "peers")
    history, train = read(tmp_path / "peers/history/test.parquet"), read(tmp_path / "peers/train.parquet")
    assert [history["user_id"].count(f"u{user}") for user in range(6)] == [4] * 6
    assert train["validation"].sum() == 6
    assert "lightgbm" not in json.loads((tmp_path / "peers/meta.json").read_text(encoding="utf-8"))["peers"]


def test_a_data_set_without_a_name_is_refused():
    with pytest.raises(UsageError, match="expected completejourney, online_retail, beauty, ml-1m"):
        config_of("nothing", [])
    assert all(config_of(name, []).data.folder.name == name for name in DATASETS)


def test_held_out_customers_are_refused(data, tmp_path):
    config = load_config(None, ["split.protocol=customers"])
    with pytest.raises(UsageError, match="weekly or leave_one_out"):
        export_split("completejourney", data, config, tmp_path / "peers")


def test_unprepared_data_are_refused_with_the_command_that_prepares_them(root, tmp_path):
    words = [sys.executable, "-m", "benchmarks.peers", "export", "beauty", str(tmp_path / "peers"), "--data"]
    done = subprocess.run([*words, str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert "recsys dataset main --source sequences --set data.name=beauty --raw" in done.stderr


def test_the_script_of_the_peers_starts_by_itself(root, tmp_path):
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks/peers/run.py"), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "meta.json is missing; run `python -m benchmarks.peers export" in done.stderr


def popular(split: Split, fold: str) -> tuple[np.ndarray, Recommendations, Recommendations]:
    """The most bought items as the lists of a peer, with empty ones to be filled."""
    history, users = split.history(fold), split.queries(fold)
    counts = np.bincount(history.item, minlength=len(split.item_ids)).astype(float)
    scores = np.tile(counts, (len(users), 1))
    every = best(scores, 5)
    scores[matrix(history, len(split.user_ids), len(split.item_ids))[users].nonzero()] = -np.inf
    return (
        users,
        filled(every, users, history, split, new=False),
        filled(best(scores, 3), users, history, split, new=True),
    )


def write_popular(folder, name="popular") -> Split:
    split = Split(folder)
    for fold in split.meta["folds"]:
        users, every, new = popular(split, fold)
        split.write_lists(name, fold, users, every)
        split.write_lists(name, f"{fold}-new", users, new)
    info = {"library": "toy 1", "settings": {}, "fitted": {}, "tried": [], "minutes_allowed": 1, "n_threads": 1}
    split.write_info(name, info | {"seconds": {"all": 90}})
    return split


def test_lists_are_full_distinct_and_the_new_ones_hold_nothing_bought_before(folder):
    split = write_popular(folder)
    for fold in split.meta["folds"]:
        history = read(folder / "history" / f"{fold}.parquet")
        bought = set(zip(history["user_id"], history["item_id"], strict=True))
        for kind in ("", "-new"):
            lists = read(folder / "lists/popular" / f"{fold}{kind}.parquet")
            pairs = list(zip(lists["user_id"], lists["item_id"], strict=True))
            assert len(set(pairs)) == len(pairs) == 12 * len(split.queries(fold))
            assert lists["rank"].tolist() == list(range(1, 13)) * len(split.queries(fold))
            assert (np.diff(lists["score"].reshape(-1, 12)) <= 0).all()
            assert not (kind and bought & set(pairs))
    assert not list(folder.rglob("*.part"))


def test_what_is_chosen_on_is_what_is_scored(folder, data, config):
    split = Split(folder)
    users, bought = split.targets()
    fold = make_split(data, config.split).validation
    assert users.tolist() == fold.user_index.tolist()
    item = np.random.default_rng(0).permuted(np.tile(np.arange(data.n_items), (len(users), 1)), axis=1)[:, :12]
    ours = average_precisions((item + 1).astype(np.int32), fold, 12).mean()
    assert map_at_k(Recommendations(item, np.zeros(item.shape)), bought, 12) == pytest.approx(ours)


def test_a_list_is_scored_like_ours_and_mixed_with_the_repeat_rule(folder, tmp_path):
    write_popular(folder)
    text = write_scores(folder, tmp_path / "RESULTS.md")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert {"repeat", "popular (toy)", "repeat + popular (toy)"} <= set(rows)
    assert rows["popular (toy)"].split("|")[2].strip() == "1.5"
    assert len({line.count("|") for line in rows.values()}) == 1
    written = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "<!-- peers-completejourney -->" in written
    assert text in written


def test_a_peer_that_is_called_like_a_rule_of_ours_is_shown_beside_it(folder, tmp_path):
    write_popular(folder, "als")
    text = write_scores(folder, tmp_path / "RESULTS.md")
    assert "| als |" in text
    assert "| als (toy) |" in text


def test_lists_of_a_missing_fold_are_said(folder, tmp_path):
    with pytest.raises(DataError, match="holds no lists"):
        write_scores(folder, tmp_path / "RESULTS.md")
    split = write_popular(folder)
    (folder / "lists/popular" / f"{split.meta['folds'][0]}-new.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks .*-new\.parquet"):
        write_scores(folder, tmp_path / "RESULTS.md")


def test_fusing_a_list_with_itself_changes_nothing():
    lists = np.random.default_rng(0).permuted(np.tile(np.arange(1, 20), (5, 1)), axis=1)[:, :12]
    assert fuse_reciprocal_ranks((lists, lists), 12).tolist() == lists.tolist()


def test_the_best_settings_on_the_validation_window_are_chosen_until_half_of_the_time_is_up(folder):
    split = Split(folder)

    class Fixed:
        grid = ({"item": 0}, {"item": "targets"}, {"item": 1})

        def fit(self, events: Events, settings: dict, budget: Budget) -> None:
            assert not events.validation.any()
            self.settings = settings

        def rank(self, name: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
            assert history.day.max() < day_number(date.fromisoformat(name))
            bought = split.targets()[1].toarray().astype(float)
            scores = bought if self.settings["item"] == "targets" else 1 - bought
            lists = best(np.where(scores > 0, scores, -np.inf), 12)
            return lists, lists

    settings, tried = choose(Fixed(), split, Budget(60))
    assert (settings, len(tried), tried[1]["map"]) == ({"item": "targets"}, 3, pytest.approx(1))
    assert len(choose(Fixed(), split, Budget(0))[1]) == 1


def test_peers_know_nothing_of_the_package_and_load_their_library_only_when_they_are_fitted(root):
    folder = root / "benchmarks" / "peers"
    for path in (folder / "run.py", folder / "files.py", *(folder / "models").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) recsys", text, re.MULTILINE), path
        outside = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)) - set(sys.stdlib_module_names)
        assert outside <= {"benchmarks", "numpy", "pyarrow", "scipy"}, path


def test_every_peer_of_the_protocols_can_be_run():
    assert set(WEEKLY_PEERS) == set(PEERS)
    assert set(LEAVE_ONE_OUT_PEERS) < set(PEERS)
