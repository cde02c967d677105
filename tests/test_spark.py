"""Spark for all three steps: what it prepares, trains and lists equals what one process does."""

import csv
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_dataset import ARTICLES, CLEAN, CUSTOMERS, DIRT, write_events
from test_train import config_with
from toy import toy_data

from recsys.config import Config, DataConfig
from recsys.data.engine_spark import SparkEngine
from recsys.data.prepare import prepare
from recsys.data.purchases import open_purchases
from recsys.errors import ConfigError, DataError, UsageError
from recsys.modeling import spark_lists
from recsys.modeling.launch import launch
from recsys.modeling.lists import fit_system, write_lists
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.runs import find_run
from recsys.spark import spark_errors, spark_session

#: PySpark leaves sockets and pipes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def spark():
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if not (shutil.which("java") or "JAVA_HOME" in os.environ):
        pytest.skip("no Java on this machine")
    with spark_session("local[2]") as session:
        session.sparkContext.setLogLevel("OFF")
        yield session


@pytest.fixture
def raw(workplace: Path) -> Path:
    (workplace / "articles.csv").write_text(ARTICLES)
    (workplace / "customers.csv").write_text(CUSTOMERS)
    write_events(workplace, CLEAN + DIRT)
    return workplace


def of_shop(folder: Path) -> DataConfig:
    """Write purchases with receipts, channels, times and what is promoted; return how they are read."""
    n = 60
    columns = {
        "customer": [f"c{number * 7 % 13}" for number in range(n)],
        "product": [f"p{number * 5 % 11}" for number in range(n)],
        "time": [datetime(2024, 1, 1) + timedelta(hours=11 * number, milliseconds=number) for number in range(n)],
        "receipt": [number // 2 for number in range(n)],
        "till": pa.array([number % 12 for number in range(n)], pa.uint64()),
        "city": [f"town {number * 7 % 13 % 3}" for number in range(n)],
        "price": [number / 3 if number % 9 else None for number in range(n)],
    }
    columns["time"] = pa.array(columns["time"], pa.timestamp("ns"))
    pq.write_table(pa.table(columns), folder / "sales.parquet")
    (folder / "plans.csv").write_text("product,from,to,medium\np1,2024-01-05,2024-01-09,leaflet\nnone,x,y,z\n")
    names = {"user_id": "customer", "item_id": "product", "time": "time", "basket_id": "receipt", "channel": "till"}
    users = {"attributes": ["city"]}
    plans = {"file": "plans.csv", "start": "from", "end": "to", "medium": "medium"}
    columns = names | {"price": "price", "users": users, "promotions": plans}
    return DataConfig(source="table", raw=folder / "sales.parquet", columns=columns)


@pytest.mark.parametrize("n_in_shard", [4, 1 << 23], ids=["shards", "one shard"])
@pytest.mark.parametrize("source", ["hm", "shop"])
def test_spark_prepares_what_polars_prepares(raw, spark, monkeypatch, n_in_shard, source):
    monkeypatch.setattr(SparkEngine, "shard_events", n_in_shard)
    config = DataConfig(source="hm", raw=raw) if source == "hm" else of_shop(raw)
    asked = config.model_copy(update={"min_history": 2 if source == "shop" else None})
    engines = ("polars", "spark")
    made = [prepare(asked.model_copy(update={"engine": one, "name": one}), spark=spark) for one in engines]
    assert made[0]["hashes"] == made[1]["hashes"]
    assert {**made[0], "created": 0, "settings": 0} == {**made[1], "created": 0, "settings": 0}
    for table in ("items", "users"):
        texts = [getattr(open_purchases(Path("data/processed") / one), table).to_arrow() for one in engines]
        assert texts[0].equals(texts[1])


PREPARE_BY_CONNECT = """
import sys
from pyspark.sql import SparkSession
from recsys.config import DataConfig
from recsys.data.engine_spark import SparkEngine
from recsys.data.prepare import prepare
session = SparkSession.builder.remote("local[2]").getOrCreate()
print(prepare(DataConfig(source="hm", raw=".", engine="spark"), spark=session)["fingerprint"])
session.stop()
"""


def test_a_connect_server_prepares_the_same(raw, spark):
    pytest.importorskip("grpc", reason="pyspark[connect] is not installed")
    settings = {**os.environ, "TMPDIR": str(raw)}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE_BY_CONNECT], capture_output=True, text=True, check=False, env=settings
    )
    assert not done.returncode, done.stderr[-3000:]
    assert done.stdout.strip() == prepare(DataConfig(source="hm", raw=raw, name="polars"))["fingerprint"]


def test_a_name_with_signs_of_a_pattern_is_one_file(raw, spark, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("a") / "b [1]{2}*"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    config = of_shop(folder)
    made = [prepare(config.model_copy(update={"engine": one, "name": one}), spark=spark) for one in ("polars", "spark")]
    assert made[0]["fingerprint"] == made[1]["fingerprint"]


def test_no_step_of_a_plan_pulls_all_rows_into_one_task_to_number_them(raw, spark, monkeypatch):
    plans, write = [], SparkEngine._write

    def noted(engine, frame):
        plans.append(frame._jdf.queryExecution().toString())
        return write(engine, frame)

    monkeypatch.setattr(SparkEngine, "_write", noted)
    prepare(of_shop(raw).model_copy(update={"engine": "spark"}), spark=spark)
    assert any("RepartitionByExpression" in plan for plan in plans)
    assert not any("Window" in plan for plan in plans)


def test_what_needs_all_customers_at_once_is_refused(raw, spark):
    with pytest.raises(ConfigError, match=r"data\.top_k_items .*data\.engine=polars"):
        prepare(DataConfig(source="hm", raw=raw, engine="spark", top_k_items=2), spark=spark)


def test_a_table_of_users_that_knows_nobody_is_refused_by_spark_too(raw, spark):
    (raw / "customers.csv").write_text("customer_id,age\nnobody,50\n")
    with pytest.raises(DataError, match=r"none of the 3 customers of .*there stand 'nobody'"):
        prepare(DataConfig(source="hm", raw=raw, engine="spark"), spark=spark)


def losses(name: str) -> list[float]:
    with (Path("models") / name / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [float(row["train_loss_epoch"]) for row in rows if row["train_loss_epoch"]]


def test_two_processes_of_spark_train_what_one_trains_and_the_lists_of_its_tasks_are_the_same(workplace, spark):
    toy_data(workplace / "data" / "processed", n_users=30, n_items=20, n_days=60, seed=4)
    config = config_with("model.dropout=0", "training.loss=sampled")
    two = config.model_copy(update={"training": config.training.model_copy(update={"devices": 2})})

    def trained(name: str, how: str, config: Config, **options) -> dict:
        return launch(how, config.model_copy(update={"name": name}), "", **options)

    alone = trained("alone", "local", config)
    for name, in_driver in (("in-driver", True), ("in-executors", False)):
        info = trained(name, "spark", two, spark=spark, in_driver=in_driver)
        assert losses(name) == pytest.approx(losses("alone"), rel=1e-5)
        assert info["best_value"] == pytest.approx(alone["best_value"], rel=1e-5)
        assert find_run(name).info["n_parameters"] == alone["n_parameters"]
    require_equal_lists(Path("models/in-executors"), spark)


def require_equal_lists(folder: Path, spark) -> None:
    run = find_run(folder.name)
    log = run.open_data()
    everybody, candidates = log.histories(log.last_day + 1), Candidates(all_items(log.n_items))
    asked = everybody.of(slice(2, None))
    write_lists(fit_system("decoder", run, run.config, everybody), asked, 12, candidates, Path("local.parquet"))
    spark_lists.write_lists(
        run, run.config, "decoder", everybody, asked, candidates, Path("spark.parquet"), spark, chunk_users=7
    )
    assert len(list(Path("spark.parquet").glob("part-*"))) == 4
    ours, theirs = (pq.read_table(path) for path in ("local.parquet", "spark.parquet"))
    assert theirs.schema.types == [pa.string(), pa.int32(), pa.string(), pa.float32()]
    assert ours.cast(theirs.schema).select(["user_id", "rank", "item_id"]).equals(theirs.drop(["score"]))
    assert theirs["score"].to_pylist() == pytest.approx(ours["score"].to_pylist(), abs=1e-5)
    stale = replace(run, info=run.info | {"created": "never"})
    with pytest.raises(DataError, match="was trained anew while lists were made"):
        spark_lists.write_lists(stale, run.config, "decoder", everybody, asked, candidates, Path("new.parquet"), spark)
    with pytest.raises(DataError, match=r"lists in new.delta: .*Failed to find the data source: delta"):
        spark_lists.write_lists(run, run.config, "decoder", everybody, asked, candidates, Path("new.delta"), spark)
    assert not list(Path().glob("*new*"))


def test_executors_run_this_python_and_what_they_lack_is_one_line(spark):
    def lacking(batches):
        import nowhere_installed

        yield from nowhere_installed.lists(batches)

    def uncast(batches):
        for batch in batches:
            yield pa.RecordBatch.from_arrays([batch.column(0).cast(pa.int32())], ["id"])

    assert os.environ["PYSPARK_PYTHON"] == sys.executable
    expected = r"lacks nowhere_installed; install recsys there .*PYSPARK_PYTHON"
    with pytest.raises(UsageError, match=expected) as said, spark_errors("lists"):
        spark.range(2).mapInArrow(lacking, "id long").collect()
    assert "\n" not in str(said.value)
    with pytest.raises(DataError) as said, spark_errors("lists"):  # Spark casts no types
        spark.range(2).mapInArrow(uncast, "id long").collect()
    assert "\n" not in str(said.value)


def test_a_server_that_does_not_answer_is_one_line_without_its_token():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError, match=f"no Spark server answers at sc://127.0.0.1:{port}/ ") as failed:
        spark_session(f"sc://127.0.0.1:{port}/;token=secret").__enter__()
    assert "secret" not in str(failed.value)


def test_a_missing_java_and_a_missing_extra_are_one_line(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyspark.sql", None)
        with pytest.raises(UsageError, match=r"pip install 'recsys\[spark\]'"), spark_session("local[1]"):
            pass
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UsageError, match="Java 17 or later, and found none"), spark_session("local[1]"):
        pass
