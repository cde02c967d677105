import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.config import DataConfig
from recsys.data.prepare import prepare
from recsys.data.reading.files import FileForm
from recsys.errors import DataError, UsageError
from recsys.inspect import inspect_files
from recsys.storage import read_json

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

PASSWORD = "s3cret @/& not told"  # noqa: S105 - of a server that lives as long as this file's tests
ADDRESS = "postgresql://${SHOP_USER}:${SHOP_PASSWORD}@/postgres?host=${SHOP_SOCKET}"
N_ROWS = 300


def programs() -> Path:
    """Return the folder of a server's programs; the tests are skipped where there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.skip("no PostgreSQL server is installed here")


def as_nobody_special() -> list[str]:
    """Return the words before a command that must not run as root."""
    if os.getuid() != 0:
        return []
    known = subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode == 0
    if not known or shutil.which("runuser") is None:
        pytest.skip("a server does not run as root, and there is no user postgres to run it as")
    return ["runuser", "-u", "postgres", "--"]


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The folder of the socket of a server with a table of purchases, and nothing but the socket to reach it by."""
    binaries, user = programs(), as_nobody_special()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    folder.chmod(0o777)
    kept = [
        *user,
        str(binaries / "initdb"),
        "-D",
        str(folder / "data"),
        "-U",
        "owner",
        "-E",
        "UTF8",
        "-A",
        "scram-sha-256",
    ]
    (folder / "word").write_text(PASSWORD)
    (folder / "word").chmod(0o644)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
    options: dict[str, Any] = {"cwd": folder, "env": environment, "capture_output": True}
    begun = subprocess.run([*kept, "--no-sync", "--pwfile", str(folder / "word")], **options, check=False)
    if begun.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"initdb does not work here: {begun.stderr.decode()[-200:]}")
    started = [*user, str(binaries / "postgres"), "-D", str(folder / "data"), "-k", str(folder)]
    settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([*started, *settings], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _fill(folder, running)
        yield folder
    finally:
        # The server's own number: what was started may be the program that changed the user.
        own = folder / "data" / "postmaster.pid"
        pid = int(own.read_text().split()[0]) if own.is_file() else running.pid
        os.kill(pid, 2)  # ends at once, orderly
        running.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, running: "subprocess.Popen[bytes]") -> None:
    for _ in range(100):
        try:
            connection = psycopg.connect(host=str(folder), user="owner", password=PASSWORD, dbname="postgres")
            break
        except psycopg.OperationalError:
            assert running.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    else:
        pytest.fail(f"the server does not answer: {(folder / 'log').read_text()}")
    with connection:
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
    connection.close()


@pytest.fixture
def shop(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_USER", "owner")
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOP_SOCKET", str(server))
    return tmp_path


def prepared(**columns: Any) -> dict[str, Any]:
    roles = {"user_id": "customer_id", "item_id": "product_id", "time": "sold_at"}
    settings = {"database": ADDRESS, **roles, "price": "price", "quantity": "quantity"} | columns
    manifest: dict[str, Any] = prepare(DataConfig(source="table", name="shop", columns=settings), force=True)
    return manifest


def n_rows(server: Path) -> int:
    with psycopg.connect(host=str(server), user="owner", password=PASSWORD, dbname="postgres") as connection:
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
        owner = {"host": str(server), "user": "owner", "password": PASSWORD, "client_encoding": "utf8"}
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
