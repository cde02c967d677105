import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data.synthetic.catalogue import invent_catalogue
from recsys.data.synthetic.write import FILES, default_articles, synthesize
from recsys.errors import OutputExistsError, UsageError

ARTICLE_COLUMNS = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,graphical_appearance_no,"
    "graphical_appearance_name,colour_group_code,colour_group_name,perceived_colour_value_id,"
    "perceived_colour_value_name,perceived_colour_master_id,perceived_colour_master_name,department_no,"
    "department_name,index_code,index_name,index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc"
)
HEX_64, TEN_DIGITS = "^[0-9a-f]{64}$", "^0[0-9]{9}$"


def read(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / name, infer_schema=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, n_customers=4_000, seed=1)
    return folder


@pytest.fixture(scope="module")
def transactions(folder: Path) -> pl.DataFrame:
    return read(folder, "transactions_train.csv")


def test_equal_arguments_give_equal_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        synthesize(tmp_path / name, n_customers=300, seed=seed)
    for file in FILES:
        bytes_of = {name: (tmp_path / name / file).read_bytes() for name in "abc"}
        assert bytes_of["a"] == bytes_of["b"]
        assert bytes_of["a"] != bytes_of["c"]


def test_headers_are_kaggles(folder: Path) -> None:
    headers = {name: (folder / name).read_text().split("\n", 1)[0] for name in FILES}
    assert headers["transactions_train.csv"] == "t_dat,customer_id,article_id,price,sales_channel_id"
    assert headers["articles.csv"] == ARTICLE_COLUMNS
    assert headers["customers.csv"] == (
        "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code"
    )


def test_ids_have_kaggles_form_and_are_unique(folder: Path) -> None:
    customers, articles = read(folder, "customers.csv"), read(folder, "articles.csv")
    assert customers["customer_id"].str.contains(HEX_64).all()
    assert customers["customer_id"].n_unique() == customers.height == 4_000
    assert articles["article_id"].str.contains(TEN_DIGITS).all()
    assert articles["article_id"].n_unique() == articles.height == default_articles(4_000)
    assert (articles["article_id"].str.slice(1, 6) == articles["product_code"]).all()
    assert articles["article_id"].is_sorted()


def test_every_transaction_names_a_known_article_and_customer(folder: Path, transactions: pl.DataFrame) -> None:
    for name, column in (("customers.csv", "customer_id"), ("articles.csv", "article_id")):
        known = read(folder, name).select(column)
        assert transactions.join(known, on=column, how="anti").is_empty()


def test_dates_ascend_within_the_window(tmp_path: Path) -> None:
    synthesize(tmp_path, n_customers=500, end=date(2021, 3, 1), n_days=30)
    days = read(tmp_path, "transactions_train.csv")["t_dat"]
    assert days.is_sorted()
    assert days[0] == "2021-01-31"
    assert days[-1] == "2021-03-01"


def test_histories_are_as_long_as_real_ones(transactions: pl.DataFrame) -> None:
    lengths = transactions.group_by("customer_id").len()["len"]
    assert 20 < lengths.mean() < 27  # 23 in the real data
    assert 7 <= lengths.median() <= 11  # 9
    assert 300 < lengths.max() < 3_000
    assert 0.98 < len(lengths) / 4_000 < 1  # a few never buy


def test_baskets_channels_and_prices_are_as_in_real_ones(transactions: pl.DataFrame) -> None:
    baskets = transactions.group_by("customer_id", "t_dat").len()["len"]
    assert 3 < baskets.mean() < 4.2
    assert baskets.median() == 2
    online = (transactions["sales_channel_id"] == "2").mean()
    assert 0.6 < online < 0.8
    prices = transactions["price"].cast(pl.Float64)
    assert 0.022 < prices.mean() < 0.034
    assert prices.min() > 0
    cents = prices.to_numpy() * 59_000
    np.testing.assert_allclose(cents, np.rint(cents), atol=1e-6)
    assert "0.0338813559322034" in transactions["price"]  # 19.99, printed as Kaggle prints it


def test_customers_buy_again_the_same_and_other_colours(transactions: pl.DataFrame) -> None:
    bought = transactions.unique(["customer_id", "article_id", "t_dat"])
    articles = bought.unique(["customer_id", "article_id"])
    products = bought.with_columns(pl.col("article_id").str.head(7)).unique(["customer_id", "article_id"])
    again, again_product = 1 - articles.height / bought.height, 1 - products.height / bought.height
    assert 0.03 < again < 0.25
    assert again + 0.05 < again_product < 0.4


def test_customers_keep_to_their_sections(folder: Path, transactions: pl.DataFrame) -> None:
    sections = read(folder, "articles.csv").select("article_id", "section_no")
    counts = transactions.join(sections, on="article_id").group_by("customer_id", "section_no").len()
    many = counts.with_columns(total=pl.col("len").sum().over("customer_id")).filter(pl.col("total") >= 30)
    own = many.group_by("customer_id").agg(share=pl.col("len").max() / pl.col("total").first())["share"].mean()
    overall = counts.group_by("section_no").agg(pl.col("len").sum())["len"]
    assert own > 1.5 * overall.max() / overall.sum()


def test_few_articles_make_most_of_the_sales(transactions: pl.DataFrame) -> None:
    sales = np.sort(transactions.group_by("article_id").len()["len"].to_numpy())[::-1]
    assert 0.4 < sales[: len(sales) // 10].sum() / sales.sum() < 0.8


def test_articles_sell_only_while_they_are_on_sale(transactions: pl.DataFrame) -> None:
    # The catalogue is the first of the four streams that the seed is split into.
    rng = np.random.default_rng(1).spawn(4)[0]
    catalogue = invent_catalogue(rng, default_articles(4_000), n_weeks=105)
    position = {article: row for row, article in enumerate(catalogue.article_id.to_pylist())}
    article = np.array([position[name] for name in transactions["article_id"]])
    days = transactions["t_dat"].str.to_date().to_numpy().astype("datetime64[D]")
    week = ((days - np.datetime64("2018-09-20")).astype(int) + 1) // 7  # the last week ends with the window
    assert catalogue.on_sale(article, week).all()
    launched = catalogue.launch_week[article] > 0
    assert 0.3 < launched.mean() < 0.95  # most of what is sold was launched within the window


def test_only_some_articles_are_on_sale_at_a_time(transactions: pl.DataFrame) -> None:
    sold = transactions.filter(pl.col("t_dat") >= "2020-09-16")["article_id"].n_unique()
    assert sold < 0.35 * transactions["article_id"].n_unique()


def test_summer_sells_more_than_winter(transactions: pl.DataFrame) -> None:
    months = transactions.group_by(pl.col("t_dat").str.head(7)).len()
    count = dict(zip(months["t_dat"], months["len"], strict=True))
    assert count["2019-07"] > 1.2 * count["2019-01"]


def test_few_descriptions_are_missing_and_none_is_shared_by_departments(folder: Path) -> None:
    articles = read(folder, "articles.csv")
    missing = articles["detail_desc"].null_count() / articles.height
    assert 0 < missing < 0.02
    described = articles.drop_nulls("detail_desc").group_by("detail_desc").agg(pl.col("department_no").n_unique())
    assert described["department_no"].max() == 1


def test_a_few_articles_are_enough_where_weeks_have_none(tmp_path: Path) -> None:
    synthesize(tmp_path, n_customers=50, n_articles=10)
    assert read(tmp_path, "transactions_train.csv")["article_id"].n_unique() <= 10


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"):
        synthesize(tmp_path, n_customers=10)
    assert [path.name for path in tmp_path.iterdir()] == ["articles.csv"]
    synthesize(tmp_path, n_customers=10, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_a_full_disk_leaves_what_stood_there(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text("mine")
    # Files may not grow beyond 200,000 bytes: the articles fit, the transactions do not.
    code = (
        "import resource, sys; from pathlib import Path; from recsys.data.synthetic.write import synthesize\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "synthesize(Path(sys.argv[1]), n_customers=500, n_articles=300, force=True)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "RecsysError: could not write" in result.stderr
    assert "transactions_train.csv" in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["articles.csv"]
    assert (tmp_path / "articles.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_customers": 0}, "found 0 customers"),
        ({"n_customers": 5, "n_days": 3}, "over 3 days"),
        ({"n_customers": 5, "n_articles": 0}, "0 articles"),
        ({"n_customers": 5, "n_articles": 2_000_000}, "between 10 and 1,000,000"),
    ],
)
def test_impossible_sizes_are_refused_and_nothing_is_written(
    tmp_path: Path, sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        synthesize(tmp_path / "out", **sizes)  # type: ignore[arg-type]  # sizes only
    assert not (tmp_path / "out").exists()
