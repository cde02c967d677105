import json
import time
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import fold_of

from recsys import config as configuration
from recsys.config import Config, dump_config
from recsys.console import run
from recsys.data.days import day_number
from recsys.evaluation.bootstrap import bootstrap, interval
from recsys.evaluation.evaluate import app
from recsys.evaluation.metrics.average_precision import average_precision_at_k
from recsys.evaluation.metrics.base import hits_of
from recsys.evaluation.runs import settings_of
from recsys.evaluation.scoring import FoldLists, Settings, score_segment, score_systems
from recsys.evaluation.segments import target_segments
from recsys.evaluation.splits import make_split
from recsys.evaluation.tables import MADE_BY
from recsys.runs import find_run

FIRST = day_number(date(2020, 1, 1))
SETTINGS = Settings((1, 3), 300)


def lists_table(rows):
    """Recommendations from (user_id, [item_id, …]) pairs."""
    flat = [(user, rank, item, 1 / rank) for user, items in rows for rank, item in enumerate(items, start=1)]
    return pa.table(dict(zip(("user_id", "rank", "item_id", "score"), map(list, zip(*flat, strict=True)), strict=True)))


def asked(lists, n_users=40, seed=0):
    random = np.random.default_rng(seed)
    targets = random.integers(1, 6, size=n_users)
    return FoldLists(fold_of(np.arange(n_users) * 3, np.arange(n_users + 1), targets), lists, n_candidates=5)


def random_lists(seed, n_users=40):
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(np.arange(1, 6))[:3] for _ in range(n_users)])


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """A run on toy data with two weekly test folds, lists of the decoder and of popularity, in its own folder.

    User a buys 1 again and again, b tries new items, c begins in the last week with item 5, launched that week.
    """
    monkeypatch.chdir(tmp_path)
    histories = [[(0, 1), (7, 1), (14, 1), (21, 1)], [(0, 2), (8, 3), (15, 4), (22, 1)], [(27, 5)]]
    folder = configuration.PROCESSED_DIR / "toy"
    folder.mkdir(parents=True)
    events = [event for history in histories for event in history]
    arrays = {
        "item": np.array([item for _, item in events], dtype=np.int32),
        "day": np.array([FIRST + day for day, _ in events], dtype=np.int32),
        "price": np.ones(9, dtype=np.float32),
        "channel": np.ones(9, dtype=np.int8),
        "quantity": np.ones(9, dtype=np.float32),
        "basket": np.ones(9, dtype=np.int32),
        "offsets": np.array([0, 4, 8, 9]),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    pq.write_table(pa.table({"item_id": ["1", "2", "3", "4", "5"]}), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": ["a", "b", "c"]}), folder / "users.parquet")
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    config = Config.model_validate({"name": "toy", "data": {"name": "toy"}, "split": {"n_folds": 2}})
    place = configuration.MODELS_DIR / "toy"
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(dump_config(config))
    (place / "run.json").write_text(json.dumps({"data_fingerprint": "f" * 64}))
    (place / "weights.safetensors").touch()
    found = find_run("toy")
    for system, items in {"decoder": ["1", "4"], "popularity": ["2", "1"]}.items():
        for fold in ("2020-01-15", "2020-01-22"):
            path = found.table_path(system, fold)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(lists_table([(user, items) for user in "abc"]), path)
    return found


def command(*arguments):
    """Run the command line; return its exit code."""
    try:
        run(app, [str(argument) for argument in arguments])
    except SystemExit as leaving:
        return leaving.code
    return 0


def read_metrics():
    return json.loads((configuration.REPORTS_DIR / "toy" / "metrics.json").read_text())


def test_a_run_is_scored_fold_by_fold_and_their_mean_is_the_headline(finished_run):
    assert command("--run", "toy") == 0
    scores = read_metrics()
    by_fold = [fold["systems"]["decoder"]["map@12"]["value"] for fold in scores["folds"]]
    # a and b find 1 or 4: (1 + 1/2) / 2; then a and b find 1 and c nothing: 2 / 3
    assert by_fold == [pytest.approx(3 / 4), pytest.approx(2 / 3)]
    assert scores["systems"]["decoder"]["map@12"]["value"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert [fold["start"] for fold in scores["folds"]] == ["2020-01-15", "2020-01-22"]
    assert scores["systems"]["decoder"]["coverage@12"] == {"value": 2 / 5, "low": None, "high": None}
    assert list(scores["systems"]) == ["decoder", "popularity"]


def test_the_protocol_counts_who_was_asked_and_who_was_left_out(finished_run):
    command("--run", "toy")
    protocol = read_metrics()["protocol"]
    assert protocol["n_users_asked"] == [2, 3]
    assert protocol["n_users_left_out"] == [1, 0]
    assert protocol["catalogue_size"] == 5
    assert "2020-01-15, 2020-01-22" in protocol["description"]


def test_differences_are_the_decoder_minus_each_baseline(finished_run):
    command("--run", "toy")
    scores = read_metrics()
    ours, theirs = (scores["systems"][name]["map@12"]["value"] for name in ("decoder", "popularity"))
    assert scores["differences"]["popularity"]["map@12"]["value"] == pytest.approx(ours - theirs)
    assert "decoder" not in scores["differences"]


def test_segments_hold_the_targets_they_name(finished_run):
    data = finished_run.open_data()
    fold = make_split(data, finished_run.config.split).tests[1]
    assert fold.target_item.tolist() == [1, 1, 5]
    found = {name: mask.tolist() for name, mask in target_segments(data, fold).items()}
    assert found["repeated"] == [True, False, False]
    assert found["new"] == [False, True, True]
    assert found["without_history"] == [False, False, True]
    assert found["history_1-4"] == [True, True, False]
    assert found["newly_launched"] == [True, True, True]  # everything was first sold within 28 days here
    assert found["tail"] == [False, False, True]


def test_segments_do_not_look_past_the_window(finished_run):
    data = finished_run.open_data()
    fold = make_split(data, finished_run.config.split).tests[0]
    before = target_segments(data, fold)
    later = data.day >= fold.end_day
    changed = replace(data, item=np.where(later, 2, data.item).astype(np.int32))
    after = target_segments(changed, fold)
    assert all((before[name] == after[name]).all() for name in before)


def test_segment_tables_count_their_users(finished_run):
    command("--run", "toy")
    scores = read_metrics()
    assert scores["segment_sizes"]["without_history"] == 1
    assert scores["segments"]["repeated"]["decoder"]["map@12"]["value"] == 1
    assert scores["segment_sizes"]["history_100+"] == 0
    assert scores["segments"]["history_100+"] == {}


def test_a_missing_list_names_the_command_that_writes_it(finished_run, capsys):
    finished_run.table_path("popularity", "2020-01-15").unlink()
    assert command("--run", "toy") == 1
    assert "run `recsys predict --folds --run toy` first" in capsys.readouterr().err
    assert not (finished_run.report_folder / "metrics.json").exists()


def test_scores_that_exist_are_replaced_only_by_force(finished_run):
    assert [command("--run", "toy"), command("--run", "toy"), command("--run", "toy", "--force")] == [0, 2, 0]


def test_the_same_seed_gives_the_same_file(finished_run):
    command("--run", "toy")
    first = read_metrics()
    command("--run", "toy", "--force")
    assert read_metrics() == first


def test_an_interval_of_all_equal_values_has_no_width():
    means = bootstrap([np.arange(9)], [np.full((9, 1), 0.25)], 100)
    assert interval(means[1:, 0, 0]) == (0.25, 0.25)


def test_intervals_have_the_width_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(size=(2000, 1))
    low, high = interval(bootstrap([np.arange(2000)], [values], 2000, seed=1)[1:, 0, 0])
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.1)


def test_customers_are_redrawn_together_in_all_folds():
    """A customer's luck in one fold cancels against another's only if both rows are drawn together."""
    users = np.arange(50)
    values = np.random.default_rng(0).normal(size=(50, 1))
    assert np.allclose(bootstrap([users, users], [values, -values], 200).sum(axis=1), 0)


def test_blocks_of_draws_do_not_change_intervals(monkeypatch):
    sample = [np.arange(20)], [np.random.default_rng(0).normal(size=(20, 3))]
    whole = bootstrap(*sample, 50)
    monkeypatch.setattr("recsys.evaluation.bootstrap.MAX_DRAWN", 7 * 20)
    assert np.allclose(bootstrap(*sample, 50), whole)


def test_equal_lists_differ_by_nothing_and_comparison_is_paired():
    lists = random_lists(1)
    scores = score_systems([asked({"decoder": lists, "popularity": lists})], SETTINGS)
    assert scores["differences"]["popularity"]["map@3"] == {"value": 0, "low": 0, "high": 0}
    assert scores["systems"]["decoder"]["map@3"]["low"] < scores["systems"]["decoder"]["map@3"]["high"]


def test_users_without_recommendations_score_zero():
    lists = random_lists(2)
    half = lists.copy()
    half[20:] = 0
    one = asked({"x": half})
    hits = hits_of(half, one.fold.target_offsets, one.fold.target_item)
    expected = average_precision_at_k(hits, np.ones(40, dtype=int), 3)
    assert score_systems([one], SETTINGS)["systems"]["x"]["map@3"]["value"] == pytest.approx(expected.sum() / 40)


def test_a_segment_of_all_targets_is_the_whole():
    one = asked({"x": random_lists(3)})
    table, size = score_segment([one], [np.ones(40, dtype=bool)], SETTINGS)
    assert size == 40
    assert table["x"]["ndcg@3"] == score_systems([one], SETTINGS)["systems"]["x"]["ndcg@3"]


@pytest.fixture
def two_tables(tmp_path):
    """Recommendations for a, b and a stranger; what a, b and c bought, with one row twice."""
    recommendations, targets = tmp_path / "mine.parquet", tmp_path / "targets.parquet"
    pq.write_table(lists_table([("a", ["x", "y"]), ("b", ["z", "x"]), ("stranger", ["x"])]), recommendations)
    pq.write_table(pa.table({"user_id": ["a", "a", "b", "c"], "item_id": ["x", "x", "x", "w"]}), targets)
    return recommendations, targets


def test_any_two_tables_can_be_scored(two_tables, tmp_path, capsys):
    recommendations, targets = two_tables
    out = tmp_path / "scores.json"
    assert command("--recommendations", recommendations, "--targets", targets, "--out", out) == 0
    scores = json.loads(out.read_text())
    assert scores["systems"]["mine"]["map@2"]["value"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores["protocol"]["n_users_asked"] == 3
    assert "mine" in capsys.readouterr().out


def test_row_order_of_the_tables_does_not_matter(two_tables, tmp_path):
    recommendations, targets = two_tables
    scores = []
    for name in ("one.json", "two.json"):
        command("--recommendations", recommendations, "--targets", targets, "--out", tmp_path / name)
        scores.append(json.loads((tmp_path / name).read_text())["systems"]["mine"]["map@2"]["value"])
        for path in two_tables:
            table = pq.read_table(path)
            pq.write_table(table.take(np.arange(table.num_rows)[::-1]), path)
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user_id": ["a"], "item_id": ["x"]}, "lacks rank; it has user_id, item_id"),
        ({"user_id": ["a", "a"], "rank": [1, 1], "item_id": ["x", "y"]}, "user 'a' has 2 items at rank 1"),
        ({"user_id": ["a"], "rank": [0], "item_id": ["x"]}, "holds rank 0; ranks are whole numbers from 1"),
        ({"user_id": ["q"], "rank": [1], "item_id": ["x"]}, "no user in common: recommendations for 'q'"),
        ({"user_id": pa.array([], pa.string()), "rank": [], "item_id": []}, "has no rows"),
        ({"user_id": ["a"], "rank": ["top"], "item_id": ["x"]}, "rank does not hold whole numbers"),
        ({"user_id": ["a"], "rank": [1], "item_id": pa.array([None], pa.string())}, "1 rows without item_id"),
    ],
)
def test_a_table_that_cannot_be_scored_is_one_line(table, message, two_tables, capsys):
    recommendations, targets = two_tables
    pq.write_table(pa.table(table), recommendations)
    assert command("--recommendations", recommendations, "--targets", targets) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_file_that_is_missing_or_no_table_is_one_line(two_tables, tmp_path, capsys):
    (tmp_path / "text.parquet").write_text("user_id,rank,item_id")
    assert command("--recommendations", tmp_path / "none.parquet", "--targets", two_tables[1]) == 1
    assert command("--recommendations", tmp_path / "text.parquet", "--targets", two_tables[1]) == 1
    errors = capsys.readouterr().err
    assert "none.parquet is missing" in errors
    assert "text.parquet is not a Parquet table" in errors


def test_one_table_alone_is_refused(two_tables):
    assert command("--recommendations", two_tables[0]) == 2


def test_cutoffs_are_sorted_and_distinct():
    config = Config.model_validate({"evaluation": {"cutoffs": [12, 1, 12]}})
    assert settings_of(config).cutoffs == (1, 12)


def test_an_average_is_the_mean_of_its_members_values_and_stays_paired():
    lists = {"a": random_lists(1), "b": random_lists(2), "rule": random_lists(3)}
    one = [asked(lists, seed=0), asked(lists, seed=4)]
    scores = score_systems(one, replace(SETTINGS, averages={"both": ("a", "b")}))
    assert next(iter(scores["systems"])) == "both"
    for table in (scores["systems"], *(fold["systems"] for fold in scores["folds"])):
        for metric in ("map@3", "hit_rate@1"):
            assert table["both"][metric]["value"] == pytest.approx(
                (table["a"][metric]["value"] + table["b"][metric]["value"]) / 2
            )
    plain = score_systems(one, SETTINGS)["systems"]
    assert all(scores["systems"][system] == values for system, values in plain.items())
    apart = scores["differences"]["rule"]["map@3"]
    expected = scores["systems"]["both"]["map@3"]["value"] - scores["systems"]["rule"]["map@3"]["value"]
    assert apart["value"] == pytest.approx(expected)


def test_an_average_of_one_system_with_itself_differs_from_it_by_nothing():
    lists = {"a": random_lists(1), "same": random_lists(1)}
    scores = score_systems([asked(lists)], replace(SETTINGS, averages={"mean": ("a", "same")}))
    assert scores["differences"]["a"]["map@3"] == {"value": 0, "low": 0, "high": 0}


def test_lists_of_another_training_are_refused(finished_run, capsys):
    """A table that names its training is scored with that one alone; one that names none is anybody's."""
    path = finished_run.table_path("popularity", "2020-01-15")
    table = pq.read_table(path)
    for maker, code in ((finished_run.identity, 0), ("another training", 1)):
        pq.write_table(table.replace_schema_metadata({MADE_BY: maker}), path)
        assert command("--run", "toy", "--force") == code
    error = capsys.readouterr().err
    assert "2020-01-15.parquet was made by another training of this name; run `recsys predict --folds --force`" in error
    assert error.splitlines()[-1].startswith("error: ")


def test_tables_without_an_item_in_common_are_refused(two_tables, capsys):
    recommendations, targets = two_tables
    pq.write_table(lists_table([("a", ["7", "8"])]), recommendations)
    assert command("--recommendations", recommendations, "--targets", targets) == 1
    error = capsys.readouterr().err
    assert "no item in common: recommended is '7', bought was 'x'; item_id must be written the same way" in error
    assert error.count("\n") == 1


def test_customers_without_a_list_are_counted_and_miss(two_tables, tmp_path, capsys):
    recommendations, targets = two_tables
    out = tmp_path / "scores.json"
    assert command("--recommendations", recommendations, "--targets", targets, "--out", out) == 0
    assert "1 of 3 customers who bought have no list and are misses" in capsys.readouterr().err
    assert json.loads(out.read_text())["systems"]["mine"]["hit_rate@1"]["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("best", [2, 4_000_000, 2**40])
def test_ranks_that_do_not_count_from_one_are_refused_at_once(two_tables, capsys, best):
    recommendations, targets = two_tables
    users = [f"u{number}" for number in range(50)]
    pq.write_table(pa.table({"user_id": users, "rank": [best] * 50, "item_id": ["x"] * 50}), recommendations)
    began = time.process_time()
    assert command("--recommendations", recommendations, "--targets", targets) == 1
    assert time.process_time() - began < 2
    assert f"the best rank of user 'u0' is {best:,}; ranks count from 1 for each user" in capsys.readouterr().err


def test_a_rank_far_behind_takes_no_memory_and_is_not_judged(two_tables, tmp_path):
    recommendations, targets = two_tables
    out = tmp_path / "scores.json"
    rows = {"user_id": ["a", "a", "b"], "rank": [1, 4_000_000, 1], "item_id": ["y", "x", "x"]}
    pq.write_table(pa.table(rows), recommendations)
    assert command("--recommendations", recommendations, "--targets", targets, "--out", out) == 0
    (metrics,) = json.loads(out.read_text())["systems"].values()
    assert {name.partition("@")[2] for name in metrics} == {"1"}
    assert metrics["hit_rate@1"]["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("k", "cutoffs", "expected"),
    [(12, [1, 5, 12, 20], (1, 5, 12)), (5, [1, 5, 12], (1, 5)), (3, [5, 12], (3,)), (10, [1, 12], (1, 10))],
)
def test_a_cutoff_beyond_the_length_of_the_lists_is_that_length(k, cutoffs, expected):
    config = Config.model_validate({"evaluation": {"cutoffs": cutoffs}, "predict": {"k": k}})
    assert settings_of(config).cutoffs == expected
