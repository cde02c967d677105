"""Recommendations as people ask for them: any date, any candidates, every customer, original ids."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_train import config_with
from toy import toy_data, write_prepared

from recsys.cli import build_app
from recsys.config import PredictConfig
from recsys.console import run as run_app
from recsys.data.days import day_date
from recsys.data.kaggle_submission import check_submission, write_submission
from recsys.data.purchases import open_purchases
from recsys.errors import DataError
from recsys.evaluation.tables import REASONS_SCHEMA
from recsys.modeling import lists
from recsys.modeling.predict import predict_folds
from recsys.modeling.recommenders.base import candidates_at, read_item_list
from recsys.modeling.recommenders.decoder import WithColdStart
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.train import train
from recsys.runs import find_run
from recsys.schema import SYSTEMS


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with prepared data and one trained run; two of its 32 customers have bought nothing."""
    folder = tmp_path_factory.mktemp("trained")
    data = toy_data(folder, n_users=30, n_items=20, n_days=60, seed=4)
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1)
    write_prepared(
        folder / "data" / "processed" / "toy", events, n_items=20, users=[f"u{number}" for number in range(32)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(config_with("training.epochs=1"))
    return folder


@pytest.fixture
def place(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def predict(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run_app(build_app("predict"), ["predict", *arguments])
    assert not stop.value.code


def fails(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run_app(build_app("predict"), ["predict", *arguments])
    return int(stop.value.code)


def rows_of(path: str) -> dict[str, list[str]]:
    table = pq.read_table(path).to_pylist()
    lists: dict[str, list[str]] = {}
    for row in sorted(table, key=lambda row: (row["user_id"], row["rank"])):
        lists.setdefault(row["user_id"], []).append(row["item_id"])
    return lists


def test_every_customer_gets_k_items_with_original_ids(place):
    predict("--k", "5", "--out", "a.parquet", "--force")
    lists = rows_of("a.parquet")
    assert set(lists) == {f"u{number}" for number in range(32)}
    assert all(len(items) == len(set(items)) == 5 for items in lists.values())
    assert all(len(item) == 10 and item.startswith("0") for items in lists.values() for item in items)
    scores = pq.read_table("a.parquet")["score"].to_numpy().reshape(32, 5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_newcomers_get_the_best_sellers_of_the_week(place):
    predict("--k", "3", "--out", "b.parquet", "--force")
    predict("--k", "3", "--out", "pop.parquet", "--system", "popularity_week", "--force")
    assert rows_of("b.parquet")["u31"] == rows_of("pop.parquet")["u31"]


@pytest.mark.parametrize("system", [name for name in BASELINES if name != "variants"])
def test_every_baseline_can_be_asked_like_the_decoder(place, system):
    predict("--system", system, "--k", "4", "--out", f"{system}.parquet", "--force")
    assert all(len(set(items)) == 4 for items in rows_of(f"{system}.parquet").values())


def test_only_candidates_are_recommended_and_never_blocked_items(place):
    Path("candidates.txt").write_text("item_id\n" + "\n".join(f"{n:010d}" for n in range(1, 9)) + "\n")
    Path("blocked.txt").write_text("0000000003\n\n0000000004\n")
    limits = ("--candidates", "candidates.txt", "--blocklist", "blocked.txt")
    predict("--k", "6", *limits, "--out", "c.parquet", "--force")
    expected = {f"{n:010d}" for n in (1, 2, 5, 6, 7, 8)}
    assert all(set(items) == expected for items in rows_of("c.parquet").values())


def test_what_a_customer_bought_can_be_left_out(place):
    predict("--k", "4", "--exclude-seen", "--out", "d.parquet", "--force")
    data = open_purchases(Path("data/processed/toy"))
    for user, items in rows_of("d.parquet").items():
        index = int(user[1:])
        own = data.item[data.offsets[index] : data.offsets[index + 1]]
        assert not {f"{n:010d}" for n in own} & set(items)


def test_a_list_that_cannot_be_filled_says_what_to_change(place, capsys):
    Path("two.txt").write_text("0000000001\n0000000002\n")
    assert fails("--k", "3", "--candidates", "two.txt", "--out", "e.parquet") == 1
    assert not Path("e.parquet").exists()
    assert not list(Path().glob(".e.parquet*"))


def test_an_output_that_exists_needs_force(place):
    Path("kept.parquet").write_text("mine")
    assert fails("--out", "kept.parquet") == 2
    assert Path("kept.parquet").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--date", "2020-13-45"], "YYYY-MM-DD", 2),
        (["--system", "magic"], "beside decoder there are repeat", 2),
        (["--run", "nowhere"], "known runs: toy", 1),
        (["--run", "data"], "is not a run folder", 1),
        (["--candidates", "missing.txt"], "missing.txt is missing", 1),
        (["--date", "2030-01-01", "--sold-within-days", "7"], "no item may be recommended at 2030-01-01", 1),
        (["--submission", "--k", "5"], "12 items", 2),
        (["--folds", "--k", "5"], "--folds", 2),
        (["--folds", "--reasons"], "--folds", 2),
        (["--reasons", "--system", "popularity"], "there are none of popularity", 2),
        (["--since", "yesterday"], "--since 'yesterday' is not a date; expected YYYY-MM-DD", 2),
        (["--since", "2030-01-01", "--date", "2030-02-01"], "no customer bought from 2030-01-01 to 2030-01-31", 2),
        (["--since", "2030-01-01", "--date", "2030-01-01"], "is not before the date asked, 2030-01-01", 2),
        (["--since", "1970-01-01", "--submission"], "a list for every customer", 2),
        (["--since", "1970-01-01", "--folds"], "--folds", 2),
    ],
)
def test_a_question_that_cannot_be_meant_ends_in_one_line(place, capfd, arguments, said, code):
    assert fails("--out", "never.parquet", *arguments) == code
    error = capfd.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not Path("never.parquet").exists()


def test_a_date_long_after_the_data_is_answered_with_a_word_about_it(place, capfd):
    last = open_purchases(Path("data/processed/toy")).last_day
    predict("--k", "2", "--date", str(day_date(last + 7)), "--out", "soon.parquet", "--force")
    assert "the data end" not in capfd.readouterr().err
    predict("--k", "2", "--date", str(day_date(last + 8)), "--out", "late.parquet", "--force")
    assert f"the data end on {day_date(last)}, 8 days before that" in " ".join(capfd.readouterr().err.split())


def test_only_customers_with_newer_purchases_are_asked_and_get_the_lists_they_get_anyway(place, capfd):
    data = open_purchases(Path("data/processed/toy"))
    last_bought = np.array([data.day[end - 1] if end > begin else -1 for begin, end in pairwise(data.offsets)])
    since = int(np.median(last_bought))
    predict("--k", "4", "--reasons", "--out", "whole/all.parquet", "--force")
    predict("--k", "4", "--reasons", "--since", str(day_date(since)), "--out", "some/since.parquet", "--force")
    lists = rows_of("some/since.parquet")
    assert set(lists) == {f"u{user}" for user in np.flatnonzero(last_bought >= since)}
    assert 0 < len(lists) < 30
    assert lists.items() <= rows_of("whole/all.parquet").items()
    assert f"items for each of {len(lists)} of 32 customers" in " ".join(capfd.readouterr().err.split())
    assert set(pq.read_table("some/reasons.parquet")["user_id"].to_pylist()) == set(lists)


def test_who_bought_on_the_date_or_later_alone_has_no_newer_purchases(place):
    data = open_purchases(Path("data/processed/toy"))
    date = data.last_day - 10
    predict("--k", "3", "--since", str(day_date(date - 5)), "--date", str(day_date(date)), "--out", "e.parquet")
    user, in_time = data.user_of_event(), (data.day >= date - 5) & (data.day < date)
    assert set(rows_of("e.parquet")) == {f"u{one}" for one in user[in_time]}
    assert {f"u{one}" for one in user[data.day >= date]} - set(rows_of("e.parquet"))


def kept_chunks() -> list[str]:
    return [path.name for path in Path("lists").glob(".killed.csv.*.chunks/*.parquet")]


def test_lists_of_a_killed_command_go_on_where_it_was(place, capfd, monkeypatch):
    # A customer at a time, and slowly, so that there is something left to kill.
    slowly = """
import sys, time
from recsys.modeling import lists, predict
from recsys.modeling.recommenders.decoder import WithColdStart
recommend, lists.CHUNK_USERS = WithColdStart.recommend, 1
WithColdStart.recommend = lambda *asked: (time.sleep(0.2), recommend(*asked))[1]
predict.app(sys.argv[1:])
"""
    question = ["--run", "toy", "--k", "4", "--out", "lists/killed.csv"]
    killed = subprocess.Popen([sys.executable, "-c", slowly, *question], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(kept_chunks()) < 2 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert killed.returncode == -signal.SIGKILL
    n_kept = len(kept_chunks())
    assert 2 <= n_kept < 32
    assert not Path("lists/killed.csv").exists()
    monkeypatch.setattr(lists, "CHUNK_USERS", 1)
    recommend, asked = WithColdStart.recommend, []
    monkeypatch.setattr(WithColdStart, "recommend", lambda *given: (asked.append(given), recommend(*given))[1])
    predict(*question)
    assert f"{n_kept} of 32 chunks of these lists stand" in " ".join(capfd.readouterr().err.split())
    assert len(asked) == 32 - n_kept
    predict(*question[:-1], "lists/uninterrupted.csv")
    assert Path("lists/killed.csv").read_bytes() == Path("lists/uninterrupted.csv").read_bytes()
    assert {path.suffix for path in Path("lists").iterdir()} == {".csv"}


@pytest.mark.parametrize("other", [["--k", "3"], ["--date", "2024-01-01"], ["--exclude-seen"], ["--system", "repeat"]])
def test_what_stands_of_other_lists_is_not_taken_for_these(place, capfd, monkeypatch, other):
    def fail_after_two(recommender, histories, *asked):
        if histories.user_index[0] == 2:
            raise DataError("the disk is gone")
        return recommend(recommender, histories, *asked)

    recommend = WithColdStart.recommend
    monkeypatch.setattr(lists, "CHUNK_USERS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(WithColdStart, "recommend", fail_after_two)
        assert fails("--k", "4", "--out", "other.parquet", "--force") == 1
    (folder,) = Path().glob(".other.parquet.*.chunks")
    assert len(list(folder.glob("*.parquet"))) == 2
    predict("--k", "4", *other, "--out", "other.parquet", "--force")
    assert "chunks of these lists stand" not in capfd.readouterr().err
    assert not list(Path().glob(".other.parquet.*.chunks"))


def test_lists_are_not_made_again_where_only_what_comes_after_them_failed(place, monkeypatch):
    question = ["--k", "4", "--reasons", "--out", "after/lists.xlsx"]
    with monkeypatch.context() as patch:
        patch.setattr("recsys.modeling.predict.export_lists", lambda *_: (_ for _ in ()).throw(DataError("too long")))
        assert fails(*question) == 1
    assert len(list(Path("after").glob(".lists.xlsx.*.chunks/*.parquet"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(WithColdStart, "recommend", None)
        predict(*question, "--force")
    assert sorted(path.name for path in Path("after").iterdir()) == ["lists.xlsx", "reasons.parquet"]


def test_a_damaged_chunk_is_made_anew(place, monkeypatch):
    question = ["--k", "4", "--out", "damaged[1]/lists.csv"]
    predict("--k", "4", "--out", "whole.csv")
    with monkeypatch.context() as patch:
        patch.setattr("recsys.modeling.predict.export_lists", lambda *_: (_ for _ in ()).throw(DataError("too long")))
        assert fails(*question) == 1
    (chunk,) = Path("damaged[1]").rglob("0.parquet")
    chunk.write_bytes(b"")
    predict(*question)
    assert Path("damaged[1]/lists.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert [path.name for path in Path("damaged[1]").iterdir()] == ["lists.csv"]


def test_unknown_items_in_a_list_are_named(place, tmp_path):
    data = open_purchases(Path("data/processed/toy"))
    (tmp_path / "ids.txt").write_text("0000000001\n999\n")
    with pytest.raises(DataError, match="1 of 2 items are unknown, such as '999'"):
        read_item_list(tmp_path / "ids.txt", data)
    pq.write_table(pa.table({"item_id": ["0000000002"]}), tmp_path / "ids.parquet")
    assert read_item_list(tmp_path / "ids.parquet", data).tolist() == [2]


def test_candidates_are_what_sold_in_the_days_before_the_date(tmp_path):
    data = write_prepared(tmp_path / "d", [(0, 10, 1), (0, 17, 2), (0, 19, 3), (0, 20, 4)])
    assert np.flatnonzero(candidates_at(data, 20, PredictConfig(sold_within_days=3)).allowed).tolist() == [2, 3]
    assert np.flatnonzero(candidates_at(data, 20, PredictConfig()).allowed).tolist() == [1, 2, 3, 4]


def test_the_folds_hold_lists_of_all_systems_for_those_who_bought(place):
    predict("--folds", "--force")
    data = open_purchases(Path("data/processed/toy"))
    (fold,) = {path.stem for path in Path("reports/toy/recommendations").glob("*/*.parquet")}
    assert not Path("reports/toy/recommendations/variants").exists()
    for system in [name for name in SYSTEMS if name not in ("variants", "tifu_knn")]:
        lists = rows_of(f"reports/toy/recommendations/{system}/{fold}.parquet")
        assert 0 < len(lists) <= data.n_users
        assert all(len(set(items)) == 12 for items in lists.values())


def test_variants_are_left_out_where_the_items_have_no_column_that_tells_them(place, capsys):
    found = find_run("models/toy")
    baselines = found.config.baselines.model_copy(update={"systems": ("popularity", "variants")})
    predict_folds(replace(found, config=found.config.model_copy(update={"baselines": baselines})), force=True)
    assert not Path("reports/toy/recommendations/variants").exists()
    assert "variants are left out: the items have no column product_code" in capsys.readouterr().err
    assert fails("--system", "variants", "--out", "variants.parquet") == 1


def test_a_submission_covers_every_customer_and_passes_its_own_check(place):
    predict("--submission", "--out", "sub/recommendations.parquet", "--force")
    lines = Path("sub/submission.csv").read_text().splitlines()
    assert lines[0] == "customer_id,prediction"
    assert len(lines) == 33
    lists = rows_of("sub/recommendations.parquet")
    assert {line.split(",")[0]: line.split(",")[1].split(" ") for line in lines[1:]} == lists


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: ["customer,prediction", *lines[1:]], "header"),
        (lambda lines: lines[:-1], "31 of 32 customers"),
        (lambda lines: [*lines[:-1], lines[-2]], "31 of 32 customers"),
        (lambda lines: [*lines[:-1], lines[-1][:-11]], "not 12 ten-digit ids"),
        (lambda lines: [*lines[:-1], lines[-1].replace(" 0", " ", 1)], "not 12 ten-digit ids"),
        (lambda lines: [*lines[:-1], lines[-1][:-10] + "9999999999"], "does not hold"),
        (lambda lines: [*lines[:-1], lines[-1][:-10] + lines[-1].split(",")[1][:10]], "twice"),
    ],
)
def test_the_check_of_a_submission_finds_what_kaggle_would_refuse(place, tmp_path, spoil, said):
    predict("--submission", "--out", "good/recommendations.parquet", "--force")
    data = open_purchases(Path("data/processed/toy"))
    bad = tmp_path / "submission.csv"
    bad.write_text("\n".join(spoil(Path("good/submission.csv").read_text().splitlines())) + "\n")
    with pytest.raises(DataError, match=said):
        check_submission(bad, data)


def test_reasons_stand_beside_the_lists_row_by_row(place):
    predict("--k", "4", "--reasons", "--out", "why/recommendations.parquet", "--force")
    reasons = pq.read_table("why/reasons.parquet")
    assert reasons.schema.names == REASONS_SCHEMA.names
    rows = reasons.to_pylist()
    lists = rows_of("why/recommendations.parquet")
    listed = {(user, rank): item for user, items in lists.items() for rank, item in enumerate(items, 1)}
    assert {(row["user_id"], row["rank"]): row["item_id"] for row in rows} == listed
    data = open_purchases(Path("data/processed/toy"))
    for row in rows:
        user = int(row["user_id"][1:])
        own = slice(data.offsets[user], data.offsets[user + 1])
        bought = data.item[own]
        if row["reason"] == "repeat":
            assert row["past_item_id"] == row["item_id"]
            days = data.day[own][bought == int(row["item_id"])]
            assert row["past_date"] == day_date(days.max())
            assert row["text"].startswith("bought once" if len(days) == 1 else f"bought {len(days)} times")
        else:
            assert int(row["item_id"]) not in bought
        assert (row["past_item_id"] is None) == (row["past_date"] is None) == (row["share"] is None)
        assert row["past_item_id"] is None or int(row["past_item_id"]) in bought
        assert row["share"] is None or 0 <= row["share"] <= 1
    assert {row["reason"] for row in rows if row["user_id"] == "u31"} == {"popular"}


def test_writing_a_submission_keeps_the_order_of_ranks(tmp_path):
    items = [f"{n:010d}" for n in range(24)]
    table = pa.table({"user_id": ["b"] * 12 + ["a"] * 12, "rank": list(range(1, 13)) * 2, "item_id": items})
    pq.write_table(table, tmp_path / "r.parquet")
    write_submission(tmp_path / "r.parquet", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == "b," + " ".join(items[:12])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--date", "1969-01-01"], 2, "nothing was bought before 1969-01-01"),
        (["--k", "21"], 1, "only 20 items may be recommended, but lists of 21 were asked for; lower predict.k (--k"),
        (["--k", "0"], 2, "--k"),
        (["--ruin", "x"], 2, "--ruin"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_writes_nothing(place, capsys, arguments, code, said):
    assert fails("--out", "asked.parquet", *arguments) == code
    talk = capsys.readouterr().err
    assert said in talk
    assert len(talk.splitlines()) == 1
    assert not Path("asked.parquet").exists()


def test_lists_to_be_scored_are_no_longer_than_the_catalogue_either(place):
    found = find_run("toy")
    config = found.config.model_copy(update={"predict": found.config.predict.model_copy(update={"k": 21})})
    with pytest.raises(DataError, match=r"only 20 items may be recommended.*--set predict\.k=20 when training"):
        predict_folds(replace(found, config=config), force=True)


def test_an_item_list_may_begin_with_a_byte_order_mark(place):
    data = open_purchases(Path("data/processed/toy"))
    Path("marked.txt").write_bytes(b"\xef\xbb\xbf" + data.item_ids[3].as_py().encode() + b"\r\n")
    assert read_item_list(Path("marked.txt"), data).tolist() == [4]
