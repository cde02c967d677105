"""The benchmark of quality from end to end, on invented purchases: real commands, lists, scores, both outputs."""

import json
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from toy import fold_of

from benchmarks import ablation, quality, quality_lists, quality_seeds
from benchmarks.quality_data import DATA_SETS, DataSet, Part, find_data_set
from benchmarks.quality_lists import Commands, ListedFold, list_folds, prepare_task
from benchmarks.quality_seeds import Seed, read_seeds, write_seed
from benchmarks.quality_tables import fusion, score_part, settings_for
from recsys.config import load_config
from recsys.console import run
from recsys.data.purchases import open_purchases
from recsys.data.synthetic.write import synthesize
from recsys.errors import RunError
from recsys.evaluation.scoring import FoldLists
from recsys.evaluation.splits import make_split
from recsys.evaluation.tables import list_rows
from recsys.runs import find_run

FILES = ("transactions_train.csv", "articles.csv", "customers.csv")
TRAINED = {"decoder", "no_decoder", "rerank"}
RULES = ("repeat", "variants", "transitions", "transitions_training_counts", "popularity")
SHOP = DataSet(
    about="Invented purchases.",
    settings={
        "data.source": "hm",
        "data.name": "shop",
        "split.n_folds": "2",
        "model.width": "8",
        "model.max_length": "16",
        "training.epochs": "1",
        "evaluation.n_bootstrap": "200",
    },
    parts=(
        Part("all", ("map@12", "hit_rate@10")),
        Part("new", ("map@12",), targets="new", exclude_seen=True),
        Part("with_history", ("recall@12",), targets="with_history"),
    ),
    rules=RULES,
    raw={name: f"shop/{name}" for name in FILES},
)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        run(quality.app, [str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def finished(*arguments: object, out: Path = Path("out")) -> dict:
    """Run the benchmark into ``out`` and return what it wrote."""
    assert command("shop", "--seeds", "1 2", "--out", out, *arguments) == 0
    return json.loads((out / "results/quality-shop.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    synthesize(folder / "shop", n_customers=120, n_articles=250, seed=3, end=date(2020, 9, 22), n_days=60)
    return folder


@pytest.fixture(scope="module")
def benchmark(real, tmp_path_factory):
    """A folder in which the benchmark has run once: two seeds, and a peer that recommends what the repeat rule does."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RECSYS_REAL_DATA", str(real))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setitem(DATA_SETS, "shop", SHOP)
        finished("--work", "work")
    return folder


@pytest.fixture
def place(benchmark, real, monkeypatch):
    monkeypatch.chdir(benchmark)
    monkeypatch.setenv("RECSYS_REAL_DATA", str(real))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setitem(DATA_SETS, "shop", SHOP)
    return benchmark


@pytest.fixture
def result(place):
    return json.loads(Path("out/results/quality-shop.json").read_text(encoding="utf-8"))


def keyed(rows: list[dict], *names: str) -> dict:
    return {tuple(row[name] for name in names): row for row in rows}


def test_every_system_has_a_row_for_each_fold_and_their_mean(result):
    folds = list(result["protocol"]["segments"]["all"]["n_users"])
    assert len(folds) == 2
    found = {row["system"] for row in result["rows"]}
    assert {"decoder", *RULES} < found
    assert not {system for system in found if system.partition("/")[0] in TRAINED and "/" in system}
    rows = keyed(result["rows"], "segment", "metric", "system", "fold")
    for part in SHOP.parts:
        for metric in part.metrics:
            for system in (*TRAINED, *RULES):
                mean, *each = (rows[part.segment, metric, system, fold] for fold in ("mean", *folds))
                assert mean["value"] == pytest.approx(np.mean([row["value"] for row in each]))
                assert all(row["low"] <= row["value"] <= row["high"] for row in (mean, *each))


def test_the_decoders_value_is_the_mean_of_its_seeds(result):
    own = [row for row in result["rows"] if row["system"] in TRAINED]
    assert {row["system"] for row in own} == TRAINED
    for row in own:
        assert row["seeds"] == [1, 2]
        assert row["value"] == pytest.approx(np.mean(list(row["per_seed"].values())))
        assert list(row["per_seed"]) == ["1", "2"]
    assert any(len(set(row["per_seed"].values())) > 1 for row in own), "two seeds gave the same decoder"
    assert all(row["seeds"] == [] for row in result["rows"] if row["system"] not in TRAINED)


def test_differences_are_the_decoder_minus_each_other_system(result):
    rows = keyed(result["rows"], "segment", "metric", "fold", "system")
    assert len(result["differences"]) == sum(row["system"] != "decoder" for row in result["rows"])
    for row in result["differences"]:
        place = (row["segment"], row["metric"], row["fold"])
        apart = rows[(*place, "decoder")]["value"] - rows[(*place, row["to"])]["value"]
        assert row["value"] == pytest.approx(apart)
        assert row["low"] <= row["value"] <= row["high"]


def test_the_best_rule_is_fused_with_every_other(result):
    for name, segment in result["protocol"]["segments"].items():
        best = segment["best_rule"]
        metric = next(part.metrics[0] for part in SHOP.parts if part.segment == name)
        values = {
            row["system"]: row["value"]
            for row in result["rows"]
            if (row["segment"], row["metric"], row["fold"]) == (name, metric, "mean")
        }
        assert values[best] == max(values[rule] for rule in RULES)
        assert {fusion(best, rule) for rule in RULES if rule != best} == values.keys() - {*TRAINED, *RULES}


def test_the_section_names_its_command_and_every_system(place, result):
    text = Path("out/RESULTS.md").read_text(encoding="utf-8")
    assert "<!-- quality-shop -->" in text
    assert '`make bench-quality DATA=shop SEEDS="1 2"`' in text
    assert all(f"| {row['system']} | {row['value']:.4f}" in text for row in result["rows"] if row["fold"] == "mean")


def test_what_was_trained_is_not_trained_again_and_what_was_cut_short_is(place, result, tmp_path, capsys):
    shutil.copytree("work", tmp_path / "work", symlinks=True)
    half_done = tmp_path / "work" / "models" / "shop-2"
    (half_done / "run.json").unlink()
    (half_done / "weights.safetensors").unlink()
    shutil.rmtree(half_done / "checkpoints")
    before = (tmp_path / "work" / "models" / "shop-1" / "run.json").stat().st_mtime_ns
    again = finished("--work", tmp_path / "work", out=tmp_path / "out")
    said = capsys.readouterr().err
    assert "prepared before" in said
    assert "shop-1 was trained before" in said
    assert "training shop-2" in said
    assert (tmp_path / "work" / "models" / "shop-1" / "run.json").stat().st_mtime_ns == before
    assert again["rows"] == result["rows"]


def test_systems_trained_and_asked_side_by_side_are_the_same(place, result, tmp_path, monkeypatch):
    shutil.copytree("work", tmp_path / "work", symlinks=True)
    for name in ("shop-1", "shop-2"):
        shutil.rmtree(tmp_path / "work" / "models" / name)
    asked = []
    monkeypatch.setattr(quality_lists, "_lists_of", lambda one, data: asked.append(one))  # of this process
    again = finished("--work", tmp_path / "work", "--jobs", "2", out=tmp_path / "out")
    assert again["rows"] == result["rows"]
    assert not asked, "others were to be asked"
    assert (again["protocol"]["jobs"], result["protocol"]["jobs"]) == (2, 1)


@pytest.fixture
def seeds(result, tmp_path):
    """A copy of the files of both seeds, in the folder of results that it returns."""
    shutil.copytree("out/results/seeds", tmp_path / "out/results/seeds")
    return tmp_path / "out"


def test_seeds_of_two_days_have_the_rows_of_one_run(result, tmp_path, monkeypatch):
    first, second = "a" * 12, "b" * 12
    monkeypatch.setattr(quality_seeds, "code_version", lambda: first)
    alone = finished("--work", "work", "--seeds", "2", out=tmp_path)
    assert {tuple(row["seeds"]) for row in alone["rows"]} == {(2,), ()}
    assert first in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    monkeypatch.setattr(quality_seeds, "code_version", lambda: second)
    both = finished("--work", "work", "--seeds", "1", out=tmp_path)
    assert both["rows"] == result["rows"]
    assert both["differences"] == result["differences"]
    assert {name: seed["commit"] for name, seed in both["protocol"]["seeds"].items()} == {"1": second, "2": first}
    assert both["protocol"]["decoders"].keys() == result["protocol"]["decoders"].keys()
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert '`make bench-quality DATA=shop SEEDS="1 2"`' in text
    assert "commits are mixed here" in text
    assert first in text
    assert second in text


def test_a_seed_that_this_code_has_measured_is_not_trained_again(result, seeds, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(quality, "train_all", lambda commands, numbers, jobs: trained.extend(numbers) or {})
    monkeypatch.setattr(quality_seeds, "is_code_of", lambda commit: True)
    again = finished("--work", "work", out=seeds)
    said = capsys.readouterr().err
    assert all(f"seed {number} is not trained again" in said for number in (1, 2))
    monkeypatch.setattr(quality_seeds, "is_code_of", lambda commit: False)
    assert finished("--work", "work", "--seeds", "none", out=seeds)["rows"] == again["rows"] == result["rows"]
    assert not trained
    with pytest.raises(KeyError):  # of a run that was not made
        finished("--work", "work", "--seeds", "2", out=seeds)
    assert trained == [2]
    assert "seed 2 is measured anew: its file is of other code" in capsys.readouterr().err


def test_a_seed_that_was_asked_something_else_is_refused_by_name(result, seeds, capsys):
    folder = seeds / "results/seeds/shop"
    seed = read_seeds(folder)[2]
    arguments = ("shop", "--work", "work", "--seeds", "none", "--out", seeds)
    for change, said in {
        "fingerprint": ("0123456789abcdef", "data 0123456789ab, expected "),
        "settings": (seed.about["terms"]["settings"] | {"model.width": 9}, "model.width 9, expected 8"),
        "targets": ({}, "other customers or targets in all, new, with_history"),
        "columns": (seed.about["terms"]["columns"][1:], "no values of all decoder map@12"),
    }.items():
        write_seed(replace(seed, about=seed.about | {"terms": seed.about["terms"] | {change: said[0]}}), folder)
        assert command(*arguments) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"{folder / '2.npz'} has {said[1]}" in error
        assert "delete it" in error
    assert not (seeds / "results/quality-shop.json").exists()
    # A setting that came later, or says nothing of the training, is no other one.
    settings = {key: value for key, value in seed.about["terms"]["settings"].items() if key != "training.loss"}
    write_seed(replace(seed, about=seed.about | {"terms": seed.about["terms"] | {"settings": settings}}), folder)
    assert command(*arguments) == 0


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "array", "renamed"])
def test_a_damaged_file_of_a_seed_is_one_line(damage, result, seeds, capsys):
    path = seeds / "results/seeds/shop/2.npz"
    content = path.read_bytes()
    if damage == "array":
        with path.open("wb") as stream:
            np.save(stream, np.ones(3))
    elif damage == "renamed":
        path = path.rename(path.with_name("3.npz"))
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"version https://"}[damage])
    assert command("shop", "--work", "work", "--seeds", "1", "--out", seeds) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"{path} is not the file of a seed" in error
    assert "delete it" in error


def test_without_seeds_there_are_no_tables(place, tmp_path, capsys):
    assert command("shop", "--seeds", "none", "--out", tmp_path) == 1
    assert "holds no seed to make tables of" in capsys.readouterr().err


def test_the_file_of_a_seed_holds_values_and_no_customer(result, seeds):
    path = seeds / "results/seeds/shop/1.npz"
    assert path.stat().st_size < 10_000
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"about", "levels", "codes"}
        about, levels, codes = (file[name] for name in file.files)
    assert levels.dtype == np.float64
    assert codes.dtype == np.uint16
    assert ((levels >= 0) & (levels <= 1)).all()
    text = about.tobytes().decode()
    data = open_purchases(Path("work/data/processed/shop"))
    assert not [one for one in data.user_ids.to_pylist() if f'"{one}"' in text]
    said = json.loads(text)
    assert all({"code_version", "seconds", "best_epoch"} <= one.keys() for one in said["trainings"]["decoder"])
    assert {"python", "torch", "numpy", "recsys"} == said["versions"].keys()


def test_values_come_back_to_the_bit(tmp_path):
    random = np.random.default_rng(0)
    about = {
        "format": 1,
        "seed": 7,
        "commit": "",
        "date": "",
        "machine": "",
        "threads": "",
        "trainings": {},
        "terms": {},
    }
    values = {
        ("all", "test"): {("decoder", "map@12"): random.random(70_000)},
        ("new", "test"): {("x", "y"): np.zeros(3)},
    }
    write_seed(Seed(7, about, values), tmp_path)
    (found,) = read_seeds(tmp_path).values()
    assert found.about == about
    assert found.values.keys() == values.keys()
    for place, columns in values.items():
        assert all(np.array_equal(found.values[place][column], of) for column, of in columns.items())


def test_only_code_that_trains_makes_another_code(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
        return subprocess.check_output(["git", *who, *arguments], cwd=tmp_path, text=True).strip()

    monkeypatch.setattr(quality_seeds, "ROOT", tmp_path)
    (tmp_path / "recsys").mkdir()
    (tmp_path / "recsys" / "model.py").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    commit = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "1.npz").write_text("a result")
    git("add", ".")
    git("commit", "-q", "-m", "y")
    assert quality_seeds.is_code_of(commit)
    assert not quality_seeds.is_code_of(f"{commit}+changes")
    assert not quality_seeds.is_code_of("unknown")
    assert not quality_seeds.is_code_of("0123456789ab")
    (tmp_path / "recsys" / "model.py").write_text("2")
    assert not quality_seeds.is_code_of(commit)


def test_after_a_training_that_failed_no_other_begins(monkeypatch):
    begun = []

    class Failing:
        def trainings(self, seed):
            return [()]

        def train(self, seed, more):
            begun.append(seed)
            time.sleep(0.05)
            raise RunError(f"no {seed}")

    for jobs in (1, 2):
        begun.clear()
        with pytest.raises(RunError, match=r"no [01]"):
            quality_lists.train_all({"decoder": Failing()}, range(9), jobs)
        assert len(begun) <= 2 * jobs


def test_windows_are_learned_for_side_by_side_too():
    at_once, most, lock = 0, 0, threading.Lock()

    class Slow:
        def trainings(self, seed):
            return [("a",), ("b",), ("c",)]

        def train(self, seed, more):
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.2)
            with lock:
                at_once -= 1
            return f"{seed}{more[0]}"

    found = quality_lists.train_all({"decoder": Slow()}, [7], 2)
    assert list(found.values()) == [("7a", "7b", "7c")]
    assert most == 2


def test_a_decoder_may_learn_anew_for_each_window_up_to_its_date(place, tmp_path, monkeypatch):
    end = np.datetime64(open_purchases(Path("work/data/processed/shop")).last_day + 1, "D")
    settings = SHOP.settings | {"split.end": str(end), "training.until": "test"}
    monkeypatch.setitem(DATA_SETS, "shop", replace(SHOP, settings=settings, retrained=True))
    found = finished("--work", "work", "--seeds", "1", out=tmp_path)
    folds = list(found["protocol"]["segments"]["all"]["n_users"])
    assert "rerank" not in {row["system"] for row in found["rows"]}, "its decoder knows every window before the test"
    runs = [Path(f"work/models/shop-1-until-{fold}") for fold in folds]
    assert [one["name"] for one in found["protocol"]["decoders"]["1"]] == [run.name for run in runs]
    for fold, folder in zip(folds, runs, strict=True):
        config = load_config(folder / "config.yaml")
        (test,) = make_split(open_purchases(Path("work/data/processed/shop")), config.split).tests
        assert (test.name, config.training.until) == (fold, "test")
    # Each fold is asked of the weights that were made for it.
    monkeypatch.chdir("work")
    decoders = {"decoder/1": tuple(find_run(f"models/shop-1-until-{fold}") for fold in folds)}
    task = prepare_task({"decoder": Commands("shop", DATA_SETS["shop"], quality.CONFIG, (), "1")})
    listed = list_folds(task, decoders, None)
    for number, (own, fold) in enumerate(zip(listed, folds, strict=True)):
        alone = {"decoder/1": (find_run(f"models/shop-1-until-{fold}"),)}
        (again,) = list_folds(replace(task, folds=[task.folds[number]]), alone, None)
        assert np.array_equal(own.lists[False].lists["decoder/1"], again.lists[False].lists["decoder/1"])


def test_peers_are_scored_like_everything_else(place, tmp_path):
    config = load_config(Path("work/models/shop-1/config.yaml"))
    data = open_purchases(Path("work/data/processed/shop"))
    for fold in make_split(data, config.split).tests:
        best = np.argsort(-np.bincount(data.item[data.day < fold.start_day], minlength=data.n_items + 1)[1:])[:12] + 1
        lists = np.tile(best.astype(np.int32), (len(fold.user_index), 1))
        path = tmp_path / "peers" / "other" / f"{fold.name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(list_rows(fold.histories(data), lists, np.ones(lists.shape)), path)
    found = finished("--work", "work", "--peers", tmp_path / "peers", out=tmp_path / "out")
    rows = keyed(found["rows"], "segment", "metric", "fold", "system")
    # It recommends what sold most, as popularity does; equal sales may stand in another order.
    for fold in ("mean", *found["protocol"]["segments"]["all"]["n_users"]):
        popularity = rows["all", "map@12", fold, "popularity"]["value"]
        assert rows["all", "map@12", fold, "other (peer)"]["value"] == pytest.approx(popularity, abs=0.01)
    assert fusion(found["protocol"]["segments"]["all"]["best_rule"], "other (peer)") in {
        row["to"] for row in found["differences"]
    }
    assert not [key for key in rows if key[0] == "new" and key[3] == "other (peer)"], (
        "it has no lists without seen items"
    )
    path.unlink()
    assert command("shop", "--out", "out", "--work", "work", "--seeds", "1", "--peers", tmp_path / "peers") == 1


def test_a_work_folder_of_another_configuration_is_refused(place, tmp_path, capsys):
    settings = ("--work", "work", "--seeds", "1", "--out", tmp_path, "--set", "training.lr=0.5")
    assert command("shop", *settings) == 1
    assert "was trained with another configuration" in capsys.readouterr().err


def test_data_prepared_otherwise_are_refused(place, monkeypatch, capsys):
    monkeypatch.setitem(DATA_SETS, "shop", replace(SHOP, settings={**SHOP.settings, "data.start": "2020-08-01"}))
    assert command("shop", "--work", "work", "--seeds", "1", "--out", "out") == 1
    assert "was prepared with other settings" in capsys.readouterr().err


def test_sequences_are_asked_for_their_last_item_with_and_without_their_history(workplace, monkeypatch):
    random = np.random.default_rng(0)
    lines = [f"{user} {' '.join(map(str, random.permutation(40)[:8] + 1))}" for user in range(60)]
    Path("lines.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = DATA_SETS["beauty"].settings | {"data.name": "toy", "model.width": "8", "training.epochs": "1"}
    monkeypatch.setitem(DATA_SETS, "toy", replace(DATA_SETS["beauty"], settings=settings, raw="lines.txt"))
    monkeypatch.setenv("RECSYS_REAL_DATA", str(workplace))
    assert command("toy", "--seeds", "1", "--out", "out") == 0
    found = json.loads(Path("out/results/quality-toy.json").read_text(encoding="utf-8"))
    rows = keyed(found["rows"], "segment", "metric", "fold", "system")
    assert {key[:3] for key in rows} == {
        (segment, metric, fold)
        for segment in ("all", "seen_too")
        for metric in ("hit_rate@10", "ndcg@10")
        for fold in ("mean", "test")
    }
    # Nobody buys anything twice: what is left out could only stand in the way.
    for system in ("decoder", "item_knn", "als", "popularity"):
        key = ("hit_rate@10", "mean", system)
        assert rows[("all", *key)]["value"] >= rows[("seen_too", *key)]["value"]
    assert not list(Path().glob("models")), "it trains in a folder of its own"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no data set 'nowhere'; expected one of completejourney, online_retail"),
        (["cold_completejourney", "--peers", "out"], "know the hidden items"),
        (["shop", "--seeds", "a b"], "expected distinct whole numbers"),
        (["shop", "--seeds", "1 1"], "expected distinct whole numbers"),
        (["shop", "--set", "model.width=16"], "--out"),
        (["shop", "--peers", "missing"], "is not a folder"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(arguments, said, place, capsys):
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_real_data_that_are_not_there_are_named(workplace, monkeypatch, capsys):
    monkeypatch.delenv("RECSYS_REAL_DATA", raising=False)
    assert command("beauty", "--out", "out") == 2
    error = capsys.readouterr().err
    assert "amazon_beauty/Beauty.txt" in error
    assert "RECSYS_REAL_DATA=/path/to/data make bench-quality DATA=beauty" in error
    monkeypatch.setenv("RECSYS_REAL_DATA", str(workplace))
    assert command("hm_week", "--out", "out") == 1
    assert f"{workplace / 'hm/transactions_last_week.csv'} is missing" in capsys.readouterr().err
    assert not (workplace / "out").exists()


def test_a_customers_value_is_averaged_over_seeds_before_customers_are_redrawn():
    # two seeds are right for half of the customers each: every customer's mean is a half, whoever is redrawn
    users, right = np.arange(40), np.arange(40) % 2 == 0
    first, second = (np.where(side, 1, 2).astype(np.int32)[:, None] for side in (right, ~right))
    lists = {"decoder/1": first, "decoder/2": second, "rule": np.full((40, 1), 1, np.int32)}
    asked = FoldLists(fold_of(users, np.arange(41), np.ones(40, np.int32)), lists)
    listed = ListedFold({False: asked}, {"all": np.ones(40, dtype=bool)})
    data_set = DataSet("", {}, (), ("rule",))
    scored = score_part(Part("all", ("hit_rate@1",)), [listed], data_set, settings_for([1, 2], 100))
    assert scored.tables["mean"]["decoder"]["hit_rate@1"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert scored.differences["mean"]["rule"]["hit_rate@1"] == {"value": -0.5, "low": -0.5, "high": -0.5}


def test_a_segment_without_customers_is_left_out():
    asked = FoldLists(fold_of(np.arange(3), np.arange(4), np.ones(3, np.int32)), {"rule": np.ones((3, 1), np.int32)})
    listed = ListedFold({False: asked}, {"all": np.zeros(3, dtype=bool)})
    part, data_set = Part("all", ("hit_rate@1",)), DataSet("", {}, (), ("rule",))
    assert score_part(part, [listed], data_set, settings_for([1], 100)) is None


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_declared_data_set_has_a_configuration_and_sets_no_more_than_is_said(name):
    data_set = find_data_set(name)
    settings = [f"{key}={value}" for key, value in {**data_set.settings, **data_set.preparing}.items()]
    load_config(quality.CONFIG, settings)
    allowed = {"model.width", "model.max_length", "training.epochs", "training.recent_days"}
    if data_set.settings.get("split.protocol") == "leave_one_out":
        allowed |= {"predict.exclude_seen"}
        assert data_set.settings["predict.exclude_seen"] == str(data_set.parts[0].exclude_seen).lower()
    for key in data_set.settings.keys() - allowed:
        assert key.split(".")[0] in {"data", "split"}, f"{key} is more than what docs/evaluation.md says is set"


def test_a_variant_is_held_against_the_whole_on_the_same_customers(place, monkeypatch, capsys):
    monkeypatch.setitem(ablation.EARLIER, "shop", ablation.Earlier("a shop", ("training.query_windows=2",)))
    with pytest.raises(SystemExit) as stop:
        run(ablation.app, ["shop", "--seeds", "1", "--variants", "no_past_items", "--work", "ablation", "--out", "out"])
    assert not stop.value.code
    found = json.loads(Path("out/results/ablation-shop.json").read_text(encoding="utf-8"))
    rows = keyed(found["rows"], "segment", "metric", "fold", "system")
    apart = keyed(found["differences"], "segment", "metric", "fold", "to")
    key = ("all", "map@12", "mean")
    assert rows[*key, "no_past_items"]["seeds"] == [1]
    assert apart[*key, "no_past_items"]["value"] == pytest.approx(
        rows[*key, "decoder"]["value"] - rows[*key, "no_past_items"]["value"]
    )
    text = Path("out/RESULTS.md").read_text(encoding="utf-8")
    assert "| no_past_items: past items scored like any other |" in text
    model = load_config(Path("ablation/models/no_past_items-shop-1/config.yaml")).model
    assert model.components == ("sequence", "sales", "categories", "co_purchases")

    again = ["shop", "--seeds", "1", "--variants", "no_sales", "--work", "ablation", "--out", "out"]
    with pytest.raises(SystemExit) as stop:
        run(ablation.app, [*again, "--set", "training.lr=0.1"])
    assert stop.value.code == 2
    assert "measure these anew too, or name another folder with --out: no_past_items" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        run(ablation.app, again)
    assert not stop.value.code
    both = json.loads(Path("out/results/ablation-shop.json").read_text(encoding="utf-8"))
    assert list(both["protocol"]["variants"]) == ["decoder", "no_past_items", "no_sales"]
    assert {"decoder/1", "no_past_items/1", "no_sales/1"} == both["protocol"]["decoders"].keys()
    for cells, name, before in ((both["rows"], "system", rows), (both["differences"], "to", apart)):
        after = keyed(cells, "segment", "metric", "fold", name)
        assert after[*key, "no_past_items"] == before[*key, "no_past_items"]
    text = Path("out/RESULTS.md").read_text(encoding="utf-8")
    assert all(f"| {name}: " in text for name in ("decoder", "no_past_items", "no_sales"))


def ablation_of(commit: str, value: float, *variants: str) -> dict:
    """Results of ``variants`` beside the whole, each of one row and one difference, as of another time."""
    names = ("decoder", *variants)
    row = {"metric": "map@12", "segment": "all", "fold": "mean", "value": value, "low": 0.0, "high": 1.0}
    return {
        "protocol": {
            "settings": [],
            "variants": {name: {"about": commit} for name in names},
            "decoders": {f"{name}/42": [{"code_version": commit}] for name in names},
        },
        "rows": [row | {"system": name} for name in (*names, "repeat")],
        "differences": [row | {"system": "decoder", "to": name} for name in (*variants, "repeat")],
        "commit": commit,
        "date": f"of {commit}",
    }


def test_variants_that_were_not_run_stay_with_their_own_commit_and_those_that_are_gone_are_dropped():
    old = ablation_of("old", 0.1, "no_sales", "no_categories", "cut_since")
    both = ablation.merged(old, ablation_of("new", 0.2, "no_decoder", "no_sales"))
    # Whatever carries no commit of its own has that of its file.
    expected = {"decoder": "new", "no_decoder": "new", "no_sales": "new", "repeat": "new", "no_categories": "old"}
    for rows, name in ((both["rows"], "system"), (both["differences"], "to")):
        assert len({row[name] for row in rows}) == len(rows)
        commits = {row[name]: row["commit"] for row in rows}
        assert commits == {system: expected[system] for system in expected if name == "system" or system != "decoder"}
        assert all(row["date"] == f"of {row['commit']}" for row in rows)
        assert all(row["value"] == {"new": 0.2, "old": 0.1}[row["commit"]] for row in rows)
    assert list(both["protocol"]["variants"]) == ["decoder", "no_decoder", "no_sales", "no_categories"]
    assert {name: runs[0]["code_version"] for name, runs in both["protocol"]["decoders"].items()} == {
        f"{name}/42": expected[name] for name in ("decoder", "no_decoder", "no_sales", "no_categories")
    }
    assert both["commit"] == "new"
    third = ablation.merged(both, ablation_of("newest", 0.3, "no_sales"))
    commits = {row["system"]: row["commit"] for row in third["rows"]}
    assert commits["no_categories"] == "old"
    assert commits["no_decoder"] == "new"


def test_an_unknown_variant_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        run(ablation.app, ["completejourney", "--variants", "no_head"])
    assert stop.value.code == 2
    assert "there is no variant 'no_head'; expected some of decoder, no_decoder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_every_variant_is_a_configuration(name):
    for earlier in ablation.EARLIER.values():
        load_config(quality.CONFIG, [*earlier.settings, *ablation.VARIANTS[name][1]])
