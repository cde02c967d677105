"""`dataset main --split` against the same rules in pandas, as the published notebook had them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.config import Config, DataConfig, SplitConfig, load_config
from recsys.console import run
from recsys.data.purchases import open_purchases
from recsys.data.synthetic.write import synthesize
from recsys.dataset import app
from recsys.evaluation.splits import make_split, with_split_rules


def histories(raw: Path, n_articles: int) -> tuple[int, int, dict[str, list[tuple[str, str]]]]:
    """Rows and customers of the most sold articles, and each kept customer's (day, article), in order of these two."""
    rows = pd.read_csv(raw / "transactions_train.csv", dtype=str, usecols=["t_dat", "customer_id", "article_id"])
    sold = rows.groupby("article_id").size().reset_index(name="sold")
    top = sold.sort_values(["sold", "article_id"], ascending=[False, True]).head(n_articles)
    rows = rows[rows.article_id.isin(top.article_id)].sort_values(["t_dat", "article_id"])
    lists = {str(user): list(zip(own.t_dat, own.article_id, strict=True)) for user, own in rows.groupby("customer_id")}
    return len(rows), len(lists), {user: own for user, own in lists.items() if 2 <= len(own) <= 10}


def typed(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        run(app, ["main", *words])
    return end.value.code


def assert_equal_to_pandas(raw: Path, folder: Path, n_articles: int) -> None:
    n_rows, n_customers, expected = histories(raw, n_articles)
    report = json.loads((folder / "report.json").read_text())
    assert report["before_history_limits"] == {"events": n_rows, "users": n_customers}
    data = open_purchases(folder)
    assert data.n_users == len(expected)
    days = data.day.astype("datetime64[D]").astype(str).tolist()
    articles = data.item_ids.take(data.item - 1).to_pylist()
    assert data.user_ids.to_pylist() == sorted(expected)
    for user, begin, end in zip(data.user_ids.to_pylist(), data.offsets, data.offsets[1:], strict=False):
        assert days[begin:end] == sorted(days[begin:end])
        assert sorted(zip(days[begin:end], articles[begin:end], strict=True)) == expected[user]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "hm"
    synthesize(folder, n_customers=600, seed=1)
    return folder


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_made_up_purchases_give_the_histories_that_pandas_finds(made_up, workplace, engine):
    assert typed("--split", "--raw", str(made_up), "--top-k-articles", "50", "--engine", engine) == 0
    assert_equal_to_pandas(made_up, Path("data/processed/hm-split"), 50)


def test_the_real_sample_gives_the_histories_that_pandas_finds(real_data, workplace):
    assert typed("--split", "--raw", str(real_data / "hm")) == 0
    assert_equal_to_pandas(real_data / "hm", Path("data/processed/hm-split"), 1000)
    data = open_purchases(Path("data/processed/hm-split"))
    assert (data.n_items, data.n_users) == (1000, 530)


def test_articles_keep_their_texts_and_customers_their_attributes(made_up, workplace):
    typed("--split", "--raw", str(made_up), "--top-k-articles", "50")
    data = open_purchases(Path("data/processed/hm-split"))
    articles = pd.read_csv(made_up / "articles.csv", dtype=str).set_index("article_id")
    customers = pd.read_csv(made_up / "customers.csv", dtype=str).set_index("customer_id")
    texts = articles.detail_desc[data.item_ids.to_pylist()].fillna("")
    assert data.items["detail_desc"].fill_null("").to_list() == texts.to_list()
    ages = pd.Series(data.users["age"].to_list(), dtype=object).fillna("")
    assert ages.to_list() == customers.age[data.user_ids.to_pylist()].fillna("").to_list()


def test_the_command_prints_what_the_published_notebook_counted(made_up, workplace, capsys):
    typed("--split", "--raw", str(made_up), "--top-k-articles", "50")
    printed = {line.rsplit(maxsplit=1)[0].strip(): line.split()[-1] for line in capsys.readouterr().err.splitlines()}
    n_rows, n_customers, kept = histories(made_up, 50)
    n_held_out = round(0.2 * len(kept))
    counts = (n_rows, n_customers, len(kept), len(kept) - n_held_out, n_held_out)
    names = (
        "purchases of the items kept",
        "users who made them",
        "users with 2 to 10 of them",
        "of whom, by seed 42, to learn from",
        "held out",
    )
    assert [printed[name] for name in names] == [f"{count:,}" for count in counts]
    assert printed["next: recsys train --config"] == "configs/original_id.yaml"


def test_histories_without_an_upper_limit_are_counted_as_two_or_more(made_up, workplace, capsys):
    typed("--split", "--raw", str(made_up), "--top-k-articles", "50", "--set", "data.max_history=null")
    assert "users with 2 or more of them" in capsys.readouterr().err


def test_a_fifth_of_the_customers_is_held_out_and_each_of_them_is_asked(made_up, workplace):
    typed("--split", "--raw", str(made_up), "--top-k-articles", "50")
    data = open_purchases(Path("data/processed/hm-split"))
    split = make_split(data, SplitConfig(protocol="customers"))
    asked = np.concatenate([split.validation.user_index, split.tests[0].user_index])
    unlearned = np.flatnonzero(split.train_end == data.offsets[:-1])
    assert len(unlearned) == round(0.2 * data.n_users)
    assert sorted(asked) == unlearned.tolist()


def test_tables_that_lie_directly_in_the_raw_folder_are_found(made_up, workplace):
    (workplace / "data").mkdir()
    (workplace / "data" / "raw").symlink_to(made_up, target_is_directory=True)
    assert typed("--split") == 0
    assert open_purchases(Path("data/processed/hm-split")).n_items == 1000


def test_what_the_configuration_says_is_not_overruled():
    asked = load_config(None, ["data.source=completejourney", "data.max_history=20", "data.top_k_items=null"]).data
    rules = with_split_rules(asked)
    assert (rules.source, rules.top_k_items, rules.min_history, rules.max_history) == ("completejourney", None, 2, 20)
    assert rules.folder == Path("data/processed/completejourney-split")
    assert with_split_rules(DataConfig(name="mine")).folder == Path("data/processed/mine")
    assert with_split_rules(rules) == rules


def test_without_the_flag_nothing_is_left_out():
    assert not Config().data.limits_histories


@pytest.mark.parametrize(
    ("words", "next_command"),
    [
        ([], "recsys train --config configs/original_id.yaml"),
        (["--set", "data.name=mine"], "recsys train --config configs/original_id.yaml --set data.name=mine"),
        (["--config", "few.yaml"], "recsys train --config few.yaml"),
        (
            ["--config", "few.yaml", "--set", "data.name=null"],
            "recsys train --config few.yaml --set data.name=hm-split",
        ),
        (["--config", "few.yaml", "--set", "data.name=mine"], "recsys train --config few.yaml --set data.name=mine"),
    ],
)
def test_the_next_command_reads_the_same_data(made_up, workplace, capsys, words, next_command):
    Path("few.yaml").write_text("data: {source: hm, name: few, top_k_items: 50}\n")
    typed("--split", "--raw", str(made_up), *words)
    assert capsys.readouterr().err.splitlines()[-1] == f"next: {next_command}"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--source", "hm"], "--set data.source=hm"),
        (["--source", "hm", "--set", "data.name=mine"], "--set data.source=hm --set data.name=mine"),
    ],
)
def test_the_next_command_names_data_of_another_name_without_a_configuration(
    made_up, workplace, capsys, words, options
):
    typed("--raw", str(made_up), *words)
    assert capsys.readouterr().err.splitlines()[-1] == f"next: recsys train {options}"
