"""Every file of docs/extending.md is written into its folder, found there and used."""

import importlib
import re
import sys
from datetime import date
from pathlib import Path

import example_run
import numpy as np
import pytest
import torch
from toy import fold_of, toy_data

from recsys.config import Config, DataConfig
from recsys.data.engine import open_engine
from recsys.data.sources import all_sources, read_source
from recsys.evaluation.evaluate import print_scores
from recsys.evaluation.metrics import all_metrics
from recsys.evaluation.results import load_scores
from recsys.evaluation.scoring import FoldLists, Settings, score_systems
from recsys.evaluation.splits import make_split
from recsys.modeling.decoder.components import component_classes
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender, build_purchase_model, signals_of
from recsys.modeling.recommenders.registry import collect_systems
from recsys.report import build_page
from recsys.reports import glossary
from recsys.reports.charts import read_log
from recsys.reports.customers import load_customers
from recsys.runs import find_run

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FILES = dict(re.findall(r"^`(recsys/\S+\.py)`\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.M | re.S))


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Returns a function that adds the page's file for a folder of the package to that folder, and returns its name.

    The folder itself is left alone: its package looks into a second one for the time of the test.
    """
    written = []

    def add(folder: str) -> str:
        (path,) = (path for path in FILES if path.startswith(f"recsys/{folder}/"))
        package = importlib.import_module(f"recsys.{folder.replace('/', '.')}")
        assert not (PAGE.parents[1] / path).exists()
        more = tmp_path / "more"
        more.mkdir()
        (more / Path(path).name).write_text(FILES[path], encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(more)])
        written.append(f"{package.__name__}.{Path(path).stem}")
        return Path(path).stem

    yield add
    for name in written:
        package, _, module = name.rpartition(".")
        sys.modules.pop(name, None)
        vars(sys.modules[package]).pop(module, None)


def test_every_folder_that_is_listed_has_an_example():
    assert [str(Path(path).parent) for path in FILES] == [
        "recsys/data/sources",
        "recsys/evaluation/metrics",
        "recsys/reports/sections",
        "recsys/modeling/recommenders/rules",
        "recsys/modeling/decoder/components",
    ]


def test_a_source_is_one_file(added, tmp_path):
    name = added("data/sources")
    assert name in all_sources()
    (tmp_path / "receipts.csv").write_text("customer,product,day\nu1,i1,2024-01-02\nu2,i1,2024-01-03\n")
    with open_engine("polars") as engine:
        tables = read_source(DataConfig(source=name, raw=tmp_path), engine)
        rows = engine.collect(tables.events).to_pylist()
    assert rows[0] == {"user_id": "u1", "item_id": "i1", "time": "2024-01-02"}
    assert len(rows) == 2


def test_a_metric_is_one_file(added, capsys):
    name = added("evaluation/metrics")
    fold = fold_of(np.arange(2), np.array([0, 1, 2]), np.array([5, 6]))
    scores = score_systems([FoldLists(fold, {"rule": np.array([[5, 7], [8, 9]])})], Settings((2,), 100))
    assert scores["systems"]["rule"]["precision@2"]["value"] == pytest.approx((1 / 2 + 0) / 2)
    assert list(all_metrics())[-1] == name
    assert glossary.metric_name("precision@2") == "Precision@2"
    assert glossary.amount("precision@2", 0.25) == "25.0%"
    print_scores(scores)
    assert "PRECISION@2" in capsys.readouterr().out


def test_a_section_of_the_report_is_one_file(added, workplace):
    name = added("reports/sections")
    example_run.write_run()
    example_run.write_lists()
    run = find_run("small")
    log = run.open_data()
    gallery = load_customers(run, log, make_split(log, run.config.split))
    scores = load_scores(example_run.write_scores(), "small")
    html = build_page(run, log, scores, read_log(run.folder / "metrics.csv"), gallery, date(2020, 4, 1))
    assert f'<a href="#{name}">Best sellers</a>' in html
    shown = html.index(f'<section id="{name}"')
    assert html.index('<section id="systems"') < shown < html.index('<section id="windows"')
    n_sold = np.bincount(log.item)
    assert f": {n_sold.max()} purchases</li>" in html[shown:]


@pytest.fixture
def toy(tmp_path):
    return toy_data(tmp_path / "toy", n_users=12, n_items=10, n_days=60, seed=0)


def test_a_baseline_is_one_file(added, toy):
    name = added("modeling/recommenders/rules")
    known = toy.histories(18_040)
    fitted = collect_systems()[name](known, Config(), None)
    lists = fitted.recommend(known, 3, Candidates(all_items(toy.n_items)))
    row, position = known.events()
    for user in np.unique(row):
        counts = np.bincount(toy.item[position[row == user]], minlength=toy.n_items + 1)
        assert counts[lists.item[user, 0]] == counts.max()


def test_a_component_is_one_file(added, toy):
    name = added("modeling/decoder/components")
    assert name in component_classes()
    config = Config.model_validate({"model": {"width": 8, "n_layers": 1, "components": ["sequence", name]}})
    snapshots, user_codes = signals_of(config, toy)
    model = build_purchase_model(config, snapshots.codes, user_codes, snapshots.n_promoted).eval()
    assert list(model.components) == [name]
    known = toy.histories(18_040)
    with torch.no_grad():
        model.item_bias.zero_()
        model.transformer()[0].own.weight.zero_()
    lists = DecoderRecommender(model, snapshots, user_codes).recommend(known, 3, Candidates(all_items(toy.n_items)))
    n_sold = np.bincount(toy.item[toy.day < 18_040], minlength=toy.n_items + 1)
    assert (n_sold[lists.item[:, 0]] >= n_sold[lists.item[:, 2]]).all()
