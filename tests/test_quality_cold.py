"""New products: what is hidden is hidden from everything, and ranked from end to end on invented purchases."""

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import quality
from benchmarks.quality_cold import (
    RANDOM,
    WITHOUT_CONTENT,
    cold_folds,
    first_of,
    hidden_items,
    list_hidden,
    prepare_hidden_task,
    write_without,
)
from benchmarks.quality_data import DATA_SETS, DataSet, Part, without_hidden_items
from benchmarks.quality_lists import Commands
from recsys import schema
from recsys.config import load_config
from recsys.console import run
from recsys.data.prepare import prepare
from recsys.data.purchases import Histories, open_purchases
from recsys.data.synthetic.write import synthesize
from recsys.evaluation.splits import make_split
from recsys.modeling.lists import load_decoder
from recsys.modeling.recommenders.base import Candidates, Recommendations
from recsys.runs import find_run
from recsys.signals.sales import ITEM_FEATURES
from recsys.signals.snapshot import Snapshots

FILES = ("transactions_train.csv", "articles.csv", "customers.csv")
SHOP = DataSet(
    about="Invented purchases.",
    settings={
        "data.source": "hm",
        "data.name": "shop",
        "split.n_folds": "2",
        "split.end": "2020-09-23",
        "model.width": "8",
        "model.max_length": "16",
        "training.epochs": "1",
        "evaluation.n_bootstrap": "100",
    },
    parts=(Part("all", ("map@12",)),),
    rules=("repeat",),
    raw={name: f"shop/{name}" for name in FILES},
)
COLD = without_hidden_items("shop", "Invented purchases", SHOP)


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run(quality.app, list(arguments))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """A folder in which new products were asked for once, with one seed."""
    folder = tmp_path_factory.mktemp("cold")
    synthesize(folder / "real" / "shop", n_customers=120, n_articles=400, seed=3, end=date(2020, 9, 22), n_days=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RECSYS_REAL_DATA", str(folder / "real"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setitem(DATA_SETS, "shop", SHOP)
        patch.setitem(DATA_SETS, "cold_shop", COLD)
        assert command("cold_shop", "--seeds", "1", "--work", "work", "--out", "out") == 0
    return folder


@pytest.fixture
def place(benchmark, monkeypatch):
    monkeypatch.chdir(benchmark)
    monkeypatch.setenv("RECSYS_REAL_DATA", str(benchmark / "real"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setitem(DATA_SETS, "shop", SHOP)
    monkeypatch.setitem(DATA_SETS, "cold_shop", COLD)
    return benchmark


@pytest.fixture
def whole(place):
    return open_purchases(Path("work/data/processed/shop"))


@pytest.fixture
def known(place):
    return open_purchases(Path("work/data/processed/cold_shop"))


def test_a_tenth_of_the_items_with_a_sale_is_hidden_and_always_the_same(whole):
    hidden = hidden_items(whole)
    sold = np.bincount(whole.item, minlength=whole.n_items + 1) > 0
    assert hidden.sum() == round(sold.sum() / 10)
    assert not (hidden & ~sold).any()
    assert np.array_equal(hidden, hidden_items(whole))
    assert not np.array_equal(hidden, hidden_items(whole, seed=1))


def test_the_reduced_data_are_what_preparing_without_the_hidden_purchases_gives(place, whole, known, monkeypatch):
    hidden = {whole.item_ids[index - 1].as_py() for index in np.flatnonzero(hidden_items(whole)).tolist()}
    source = place / "real" / "shop"
    fewer = place / "fewer"
    fewer.mkdir(exist_ok=True)
    for name in FILES[1:]:
        (fewer / name).write_bytes((source / name).read_bytes())
    with (source / FILES[0]).open(newline="") as old, (fewer / FILES[0]).open("w", newline="") as new:
        rows = csv.DictReader(old)
        writer = csv.DictWriter(new, rows.fieldnames)
        writer.writeheader()
        writer.writerows(row for row in rows if row["article_id"] not in hidden)
    monkeypatch.chdir(place / "work")
    prepare(load_config(None, ["data.source=hm", "data.name=fewer", f"data.raw={fewer}"]).data, force=True)
    again = open_purchases(Path("data/processed/fewer"))
    for name in (*schema.EVENT_ARRAYS, schema.OFFSETS):
        assert np.array_equal(getattr(known, name), getattr(again, name), equal_nan=name == "price"), name
    assert known.fingerprint == again.fingerprint
    assert known.n_events < whole.n_events


def test_a_customer_of_hidden_items_alone_is_still_there(whole, place):
    everything = whole.item[whole.offsets[5] : whole.offsets[6]]
    assert len(everything)
    hidden = np.isin(np.arange(whole.n_items + 1), everything)
    config = load_config(None, ["data.source=hm", "data.name=nobody"]).data
    write_without(whole, hidden, config)
    reduced = open_purchases(config.folder)
    assert reduced.n_users == whole.n_users
    assert reduced.n_items == whole.n_items
    assert reduced.offsets[5] == reduced.offsets[6]
    assert not hidden[reduced.item].any()
    kept = ~hidden[whole.item]
    assert np.array_equal(reduced.user_of_event(), whole.user_of_event()[kept])
    for name in ("item", "day", "channel", "quantity"):
        assert np.array_equal(getattr(reduced, name), getattr(whole, name)[kept])


def test_folds_ask_for_hidden_items_and_know_nothing_of_them(whole, known):
    config = load_config(Path("work/models/cold_shop-1/config.yaml"))
    hidden = hidden_items(whole)
    folds = list(cold_folds(whole, known, hidden, config))
    assert [fold.name for fold in folds] == [fold.name for fold in make_split(whole, config.split).tests]
    for fold, full in zip(folds, make_split(whole, config.split).tests, strict=True):
        assert hidden[fold.target_item].all()
        assert len(fold.target_item) == hidden[full.target_item].sum() > 0
        assert (np.diff(fold.target_offsets) > 0).all()
        assert np.array_equal(fold.history_end, known.ends_before(fold.start_day))


def test_rows_are_those_of_the_decoder_with_and_without_content_and_of_chance(place, whole):
    result = json.loads(Path("out/results/quality-cold_shop.json").read_text(encoding="utf-8"))
    systems = {"decoder", "no_decoder", WITHOUT_CONTENT, RANDOM}
    for segment in ("hidden", "hidden, with_history"):
        rows = [row for row in result["rows"] if row["segment"] == segment]
        assert {row["system"] for row in rows} == systems
        assert {row["metric"] for row in rows} == {"recall@12"}
        assert len(rows) == 3 * len(systems)  # two folds and their mean
        assert all(row["low"] <= row["value"] <= row["high"] and row["seeds"] == [1] for row in rows)
    assert {row["to"] for row in result["differences"]} == systems - {"decoder"}
    n_hidden = int(hidden_items(whole).sum())
    assert result["protocol"]["hidden"]["n_items"] == n_hidden
    assert result["protocol"]["hidden"]["expected_recall_of_random"] == pytest.approx(min(12 / n_hidden, 1))
    assert result["protocol"]["candidates"] == f"the {n_hidden} hidden of {whole.n_items} items"
    assert set(result["protocol"]["decoders"]) == {"1", "no_decoder/1", f"{WITHOUT_CONTENT}/1"}
    text = Path("out/RESULTS.md").read_text(encoding="utf-8")
    assert '`make bench-quality DATA=cold_shop SEEDS="1"`' in text
    assert all(f"| {row['system']} | {row['value']:.4f}" in text for row in result["rows"] if row["fold"] == "mean")


def test_the_decoder_without_content_is_blind_to_attributes_and_categories(place):
    model = load_config(Path("work/models/no_content-cold_shop-1/config.yaml")).model
    assert (model.attributes, model.components) == (False, ("sequence", "past_items", "co_purchases"))
    whole = load_config(Path("work/models/cold_shop-1/config.yaml")).model
    assert (whole.attributes, whole.components) == (True, None)


def test_a_user_without_history_is_shown_hidden_items_of_categories_that_sell(place, known, whole):
    hidden_V = hidden_items(whole)
    fold = next(cold_folds(whole, known, hidden_V, load_config(Path("work/models/cold_shop-1/config.yaml"))))
    histories = Histories(known, np.zeros(1, dtype=np.int32), known.offsets[:1], fold.start_day)
    sold_V = Snapshots(known).at(fold.start_day).item_features[:, ITEM_FEATURES.index("category_sold_7")]
    n_hidden = int(hidden_V.sum())
    ranked = {
        name: load_decoder(find_run(f"work/models/{name}-1"), known).recommend(
            histories, n_hidden, Candidates(hidden_V)
        )
        for name in ("cold_shop", "no_content-cold_shop")
    }
    assert spearmanr(ranked["cold_shop"].score[0], sold_V[ranked["cold_shop"].item[0]]).statistic > 0.5
    assert np.ptp(ranked["no_content-cold_shop"].score[0]) < 1e-4  # all alike


def test_what_was_hidden_is_not_hidden_again_and_other_data_are_refused(place, tmp_path, capsys):
    assert command("cold_shop", "--seeds", "1", "--work", "work", "--out", str(tmp_path)) == 0
    assert "items were hidden before" in capsys.readouterr().err
    manifest = place / "work" / "data" / "processed" / "cold_shop" / "manifest.json"
    before = manifest.read_text(encoding="utf-8")
    manifest.write_text(json.dumps(json.loads(before) | {"hidden": {"of": "other data"}}), encoding="utf-8")
    assert command("cold_shop", "--seeds", "1", "--work", "work", "--out", str(tmp_path)) == 1
    assert "without the items hidden now" in capsys.readouterr().err
    manifest.write_text(before, encoding="utf-8")


def test_a_seeds_lists_are_the_same_whatever_else_is_listed(place, monkeypatch):
    monkeypatch.chdir("work")
    task = prepare_hidden_task(Commands("cold_shop", COLD, quality.CONFIG, (), "1"))
    names = {"decoder": "cold_shop-1", WITHOUT_CONTENT: "no_content-cold_shop-1"}
    runs = {f"{system}/1": (find_run(f"models/{name}"),) for system, name in names.items()}
    both = list_hidden(task, task.hidden, runs, [2, 1])
    for name, run_of_it in runs.items():
        for fold, alone in zip(both, list_hidden(task, task.hidden, {name: run_of_it}, [1]), strict=True):
            for system in (name, f"{RANDOM}/1"):
                assert np.array_equal(fold.lists[False].lists[system], alone.lists[False].lists[system])


def test_items_that_score_alike_stand_in_random_order_another_for_each_customer():
    n = 300
    lists = Recommendations(np.tile([4, 1, 2, 3], (n, 1)), np.tile([2.0, 1.0, 1.00001, 1.0], (n, 1)))
    found = first_of(lists, 3, np.random.default_rng(0))
    assert (found[:, 0] == 4).all()
    assert (np.bincount(found[:, 1], minlength=4)[1:] > n / 5).all()


def test_one_word_means_both_data_sets(workplace, monkeypatch, capsys):
    monkeypatch.delenv("RECSYS_REAL_DATA", raising=False)
    assert command("cold", "--out", "out") == 2
    assert "cold_hm_week is read from" in capsys.readouterr().err
