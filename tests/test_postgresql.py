from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.config import DataConfig
from recsys.data.prepare import prepare
from recsys.data.reading.layout import FileForm
from recsys.errors import DataError, UsageError
from recsys.inspect import inspect_files
from recsys.storage import read_json
from tests.postgresql_server import OWNER, PASSWORD

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

ADDRESS = "postgresql://${SHOP_USER}:${SHOP_PASSWORD}@/postgres?host=${SHOP_SOCKET}"
N_ROWS = 300


@pytest.fixture(scope="module")
def server(postgresql: Path) -> Path:
    """The folder of the socket of a server with a table of purchases."""
    with psycopg.connect(host=str(postgresql), user=OWNER, password=PASSWORD, dbname="postgres") as connection:
        connection.execute(
            "CREATE TABLE sales (customer_id integer, product_id text, sold_at timestamptz, price numeric(8, 2), "
            "quantity smallint, note text)"
        )
        connection.execute(
            "INSERT INTO sales SELECT n % 40, 'p' || n % 11, timestamptz '2023-01-01 12:00+00' + n * interval '9 hours'"
            ", 1.25 + n % 7, 1 + n % 3, NULL FROM generate_series(1, 300) AS n"
        )
        connection.execute(
            "CREATE FUNCTION forget() RETURNS SETOF sales LANGUAGE sql AS 'DELETE FROM sales RETURNING *'"
        )
    return postgresql


@pytest.fixture
def shop(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_USER", OWNER)
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOP_SOCKET", str(server))
    return tmp_path


def prepared(**columns: Any) -> dict[str, Any]:
    roles = {"user_id": "customer_id", "item_id": "product_id", "time": "sold_at"}
    settings = {"database": ADDRESS, **roles, "price": "price", "quantity": "quantity"} | columns
    manifest: dict[str, Any] = prepare(DataConfig(source="table", name="shop", columns=settings), force=True)
    return manifest


def n_rows(server: Path) -> int:
    with psycopg.connect(host=str(server), user=OWNER, password=PASSWORD, dbname="postgres") as connection:
        return int(connection.execute("SELECT count(*) FROM sales").fetchone()[0])


def test_a_table_and_a_query_of_a_server_are_read(shop: Path) -> None:
    manifest = prepared(table="sales")
    assert (manifest["n_events"], manifest["n_users"], manifest["n_items"]) == (N_ROWS, 40, 11)
    assert manifest["first_day"] == "2023-01-01"
    asked = prepared(query="SELECT * FROM sales WHERE customer_id < 10")
    assert asked["n_users"] == 10


def test_the_password_stands_in_the_environment_alone(shop: Path) -> None:
    prepared(table="sales")
    assert all(PASSWORD.encode() not in path.read_bytes() for path in shop.rglob("*") if path.is_file())


def test_a_query_that_writes_is_refused_and_changes_nothing(shop: Path, server: Path) -> None:
    with pytest.raises(DataError, match="cannot execute DELETE in a read-only transaction") as caught:
        prepared(query="SELECT * FROM forget()")
    assert "\n" not in str(caught.value)
    assert n_rows(server) == N_ROWS


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sales RETURNING *",
        "WITH gone AS (DELETE FROM sales RETURNING *) SELECT * FROM gone",
        "SELECT * INTO other FROM sales",
        "DROP TABLE sales",
        "COMMIT; DELETE FROM sales RETURNING *",
        "ROLLBACK; DELETE FROM sales RETURNING *",
        "SET TRANSACTION READ WRITE; DELETE FROM sales RETURNING *",
    ],
)
def test_no_query_finds_a_way_to_write(shop: Path, server: Path, query: str) -> None:
    with pytest.raises(DataError) as caught:
        prepared(query=query)
    assert "\n" not in str(caught.value)
    assert n_rows(server) == N_ROWS


def test_what_fails_is_one_line_without_the_password(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="has no table sale; found sales"):
        prepared(table="sale")
    monkeypatch.setenv("SHOP_PASSWORD", "wr0ng")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        prepared(table="sales")
    assert "wr0ng" not in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(UsageError, match="the environment has no variable 'SHOP_PASSWORD'"):
        prepared(table="sales")


def test_a_server_is_inspected_and_what_is_written_reads_it(shop: Path) -> None:
    assert inspect_files([ADDRESS], FileForm(table="sales"), Path("shop.yaml"))
    written = yaml.safe_load(Path("shop.yaml").read_text())
    columns = written["data"]["columns"]
    assert [columns[role] for role in ("user_id", "item_id", "time")] == ["customer_id", "product_id", "sold_at"]
    assert columns["database"] == ADDRESS
    prepare(DataConfig.model_validate(written["data"]))
    assert read_json(Path("data/processed/shop/manifest.json"))["n_events"] == N_ROWS


def test_a_database_without_an_encoding_is_read_as_utf8_or_as_is_said(shop: Path, server: Path) -> None:
    def run(database: str, *statements: str) -> None:
        owner = {"host": str(server), "user": OWNER, "password": PASSWORD, "client_encoding": "utf8"}
        with psycopg.connect(dbname=database, autocommit=True, **owner) as connection:
            for statement in statements:
                connection.execute(statement)

    run("postgres", "CREATE DATABASE plain ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    run("plain", "CREATE TABLE sales AS SELECT 1 AS customer_id, 'Käse' AS product_id, now() AS sold_at")
    address, columns = ADDRESS.replace("/postgres", "/plain"), {"price": None, "quantity": None}
    assert prepared(database=address, table="sales", **columns)["n_items"] == 1
    run("plain", r"UPDATE sales SET product_id = E'K\xe4se'")
    with pytest.raises(DataError, match=r"say how its text is encoded with \?client_encoding=latin1"):
        prepared(database=address, table="sales", **columns)
    assert prepared(database=address + "&client_encoding=latin1", table="sales", **columns)["n_items"] == 1
