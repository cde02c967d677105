"""``recsys generate`` as a command: table, page and report, for both categories of decoder."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import toy_data
from typer.testing import CliRunner

from recsys.cli import build_app
from recsys.config import SplitConfig, load_config
from recsys.errors import DataError, OutputExistsError, UsageError
from recsys.evaluation.splits import histories_to_continue
from recsys.modeling.generate import generate
from recsys.modeling.generation import SamplingConfig
from recsys.modeling.predict import predict_folds
from recsys.modeling.train import train
from recsys.reports.generated import load_continued
from recsys.runs import find_run

COMMON = [
    "data.source=hm",
    "data.name=toy",
    "split.n_folds=1",
    "training.epochs=1",
    "training.accelerator=cpu",
    "evaluation.n_bootstrap=100",
]
OURS = ["name=ours", "model.width=16", "model.max_length=16", "training.batch_tokens=256"]
OURS += ["training.n_negatives=16"]
PUBLISHED = ["name=published", "split.protocol=customers", "original.family=id", "original.hidden_size=16"]
PUBLISHED += ["original.num_heads=2", "original.num_layers=1", "original.batch_size=16"]


@pytest.fixture
def data(workplace):
    return toy_data(workplace / "data" / "processed", n_users=40, n_items=30, n_days=80, seed=4)


@pytest.fixture(params=[OURS, PUBLISHED], ids=["ours", "published"])
def trained(request, data):
    train(load_config(None, [*COMMON, *request.param]))
    return find_run(None)


def choice_for(run, **options):
    """As the command chooses: our decoder generates no item twice."""
    return SamplingConfig(**options, no_repeat=run.name == "ours")


def test_it_writes_a_table_its_settings_and_a_page(trained, data):
    page = generate(trained, choice_for(trained, max_items=5), n_customers=15)
    table = pq.read_table(trained.report_folder / "generated.parquet").to_pydict()
    asked, _ = histories_to_continue(data, trained.config.split)
    known = {data.user_ids[int(user)].as_py() for user in asked.user_index}
    assert set(table["user_id"]) <= known
    assert len(set(table["user_id"])) == min(15, len(known))
    assert set(table["item_id"]) <= set(data.item_ids.to_pylist())
    assert max(table["place"]) <= 5
    assert max(table["log_probability"]) <= 0
    settings = json.loads((trained.report_folder / "generated.json").read_text())
    assert settings["max_items"] == 5
    assert settings["no_repeat"] is (trained.name == "ours")
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert html.count("<svg") >= 4
    assert ("was not taught where a basket ends" in html) == (trained.name == "ours")


def test_equal_commands_write_equal_tables_and_none_replaces_another_unasked(trained):
    generate(trained, SamplingConfig(max_items=4, seed=3))
    first = pq.read_table(trained.report_folder / "generated.parquet")
    with pytest.raises(OutputExistsError):
        generate(trained, SamplingConfig(max_items=4))
    generate(trained, SamplingConfig(max_items=4, seed=3), force=True)
    assert pq.read_table(trained.report_folder / "generated.parquet").equals(first)
    generate(trained, SamplingConfig(max_items=4, seed=4), force=True)
    assert not pq.read_table(trained.report_folder / "generated.parquet").equals(first)


def test_the_page_shows_what_was_really_bought_next(trained, data):
    generate(trained, choice_for(trained, method="greedy", max_items=6), n_customers=10_000)
    shown = load_continued(trained, data)
    asked, real_end = histories_to_continue(data, trained.config.split)
    assert shown.n_customers == len(asked.user_index)
    by_id = {data.user_ids[int(user)].as_py(): int(user) for user in asked.user_index}
    assert len(shown.people) == min(20, len(by_id))
    for person in shown.people:
        user = by_id[person.id]
        begin, cut, end = data.offsets[user], asked.history_end[user], real_end[user]
        assert person.n_purchases == cut - begin
        after = [data.item_ids[int(item) - 1].as_py() for item in data.item[cut:end]]
        if trained.name == "ours":
            after = list(dict.fromkeys(after))
        assert [line.product.id for line in person.bought] == after[:6]
        before = {data.item_ids[int(item) - 1].as_py() for item in data.item[begin:cut]}
        assert all(line.repeat == (line.product.id in before) for line in person.bought)


def test_the_report_shows_it_once_it_is_there(trained):
    predict_folds(trained)
    runner = CliRunner()
    assert runner.invoke(build_app("evaluate"), ["evaluate", "--run", trained.name]).exit_code == 0
    app = build_app("report")
    assert runner.invoke(app, ["report", "--run", trained.name]).exit_code == 0
    page = trained.report_folder / "index.html"
    assert 'id="continued"' not in page.read_text(encoding="utf-8")
    done = runner.invoke(build_app("generate"), ["generate", "--run", trained.name, "--max-items", "4"])
    assert f"next: recsys report --run {trained.name} --force" in " ".join(done.stderr.split())
    page.rename(page.with_name("old.html"))
    done = runner.invoke(build_app("generate"), ["generate", "--run", trained.name, "--max-items", "4", "--force"])
    assert f"next: recsys report --run {trained.name} shows" in " ".join(done.stderr.split())
    assert runner.invoke(app, ["report", "--run", trained.name]).exit_code == 0
    html = page.read_text(encoding="utf-8")
    assert html.count('id="continued"') == 1
    assert 'href="#continued"' in html


def test_settings_that_a_method_does_not_look_at_are_refused(trained):
    for method, *given in (
        ("greedy", "--top-k", "5"),
        ("greedy", "--top-p", "0"),
        ("greedy", "--temperature", "0.5"),
    ):
        result = CliRunner().invoke(build_app("generate"), ["generate", "--method", method, *given])
        assert isinstance(result.exception, UsageError)
        assert f"does not look at {given[0]}" in str(result.exception)
    result = CliRunner().invoke(build_app("generate"), ["generate", "--temperature", "inf"])
    assert isinstance(result.exception, UsageError)
    result = CliRunner().invoke(build_app("generate"), ["generate", "--max-items", "999"])
    assert isinstance(result.exception, UsageError)
    assert not list(trained.report_folder.glob("generated*"))


@pytest.mark.parametrize(
    "settings",
    [
        "[]",
        "{}",
        '{"max_items": "4", "no_repeat": true, "seed": 1}',
        '{"max_items": 4, "no_repeat": true, "seed": -1}',
        '{"max_items": 1, "no_repeat": true, "seed": 1}',
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(trained, data, settings):
    generate(trained, choice_for(trained, max_items=4))
    (trained.report_folder / "generated.json").write_text(settings)
    with pytest.raises(DataError, match="generate"):
        load_continued(trained, data)


@pytest.mark.parametrize("place", [[1, 1], [1, 3], [0, 1], [1, None], ["a", "b"], [1.5, 2.0]])
def test_places_that_cannot_be_are_refused_in_one_line(trained, data, place):
    generate(trained, choice_for(trained, max_items=4))
    user = data.user_ids[int(histories_to_continue(data, trained.config.split)[0].user_index[0])].as_py()
    rows = {"user_id": [user] * 2, "place": place, "item_id": data.item_ids.to_pylist()[:2]}
    pq.write_table(pa.table(rows), trained.report_folder / "generated.parquet")
    with pytest.raises(DataError, match="place"):
        load_continued(trained, data)


def test_histories_are_cut_where_the_protocol_says(data):
    weekly, real_end = histories_to_continue(data, SplitConfig(n_folds=2))
    assert weekly.start_day == data.last_day - 6
    for user in weekly.user_index:
        days = data.day[data.offsets[user] : data.offsets[user + 1]]
        assert weekly.history_end[user] == data.offsets[user] + (days < weekly.start_day).sum()
        assert real_end[user] > weekly.history_end[user]
    halved, real_end = histories_to_continue(data, SplitConfig(protocol="customers"))
    n_known = (halved.history_end - data.offsets[:-1])[halved.user_index]
    n_after = (real_end - halved.history_end)[halved.user_index]
    assert set(np.unique(n_known - n_after)) <= {0, 1}
    last, real_end = histories_to_continue(data, SplitConfig(protocol="leave_one_out"))
    assert ((real_end - last.history_end)[last.user_index] == 1).all()
    with pytest.raises(DataError, match="n_folds is 0"):
        histories_to_continue(data, SplitConfig(n_folds=0))
