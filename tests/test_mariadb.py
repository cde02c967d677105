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
from recsys.data.reading.layout import FileForm
from recsys.errors import DataError
from recsys.inspect import inspect_files

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
pymysql = pytest.importorskip("pymysql", reason="PyMySQL is not installed")

PASSWORD = "s3cret @/:% told"  # noqa: S105 - of a server that lives as long as this file's tests
ADDRESS = "mysql://owner:${SHOP_PASSWORD}@/shop?unix_socket=${SHOP_SOCKET}"
N_ROWS = 300


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The socket of a server with a table of purchases, and nothing but the socket to reach it by."""
    program, installer = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if program is None or installer is None:
        pytest.skip("no MariaDB server is installed here")
    folder = Path(tempfile.mkdtemp(prefix="my-", dir="/tmp"))  # a socket's path must be short
    user = ["--user=root"] if os.getuid() == 0 else []
    begun = [installer, "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db", *user]
    made = subprocess.run([*begun, "--auth-root-authentication-method=normal"], capture_output=True, check=False)
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"mariadb-install-db does not work here: {made.stderr.decode()[-200:]}")
    socket, words = folder / "socket", ["--skip-networking", "--innodb-flush-log-at-trx-commit=0", *user]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [program, "--no-defaults", f"--datadir={folder / 'data'}", f"--socket={socket}", *words],
            stdout=log,
            stderr=log,
        )
    try:
        _fill(socket, running, folder / "log")
        yield socket
    finally:
        running.terminate()
        running.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def asked(socket: Path, *statements: str) -> Any:
    with pymysql.connect(unix_socket=str(socket), user="root", autocommit=True) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


def _fill(socket: Path, running: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(200):
        if socket.exists():
            break
        assert running.poll() is None, log.read_text()
        time.sleep(0.1)
    asked(
        socket,
        "CREATE DATABASE shop CHARACTER SET utf8mb4",
        f"CREATE USER owner@localhost IDENTIFIED BY '{PASSWORD}'",
        "GRANT ALL ON shop.* TO owner@localhost",
        "CREATE TABLE shop.sales (customer_id int, product_id varchar(9), sold_at datetime, price decimal(8, 2))",
        "INSERT INTO shop.sales SELECT seq % 40, concat('Käse', seq % 11), '2023-01-01 12:00' + INTERVAL seq * 9 HOUR, "
        "1.25 + seq % 7 FROM shop.seq_1_to_300",
    )


@pytest.fixture
def shop(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOP_SOCKET", str(server))
    return tmp_path


def prepared(**columns: Any) -> dict[str, Any]:
    roles = {"user_id": "customer_id", "item_id": "product_id", "time": "sold_at", "price": "price"}
    settings = {"database": ADDRESS, **roles} | columns
    manifest: dict[str, Any] = prepare(DataConfig(source="table", name="shop", columns=settings), force=True)
    return manifest


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_table_and_a_query_of_a_server_are_read(shop: Path, scheme: str) -> None:
    manifest = prepared(table="sales", database=ADDRESS.replace("mysql", scheme))
    assert (manifest["n_events"], manifest["n_users"], manifest["n_items"]) == (N_ROWS, 40, 11)
    assert prepared(query="SELECT * FROM sales WHERE customer_id < 10")["n_users"] == 10
    assert all(PASSWORD.encode() not in path.read_bytes() for path in shop.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sales",
        "DELETE FROM sales RETURNING *",
        "INSERT INTO sales SELECT * FROM sales",
        "CREATE TABLE other AS SELECT * FROM sales",
        "DROP TABLE sales",
        "COMMIT; DELETE FROM sales RETURNING *",
    ],
)
def test_no_query_finds_a_way_to_write(shop: Path, server: Path, query: str) -> None:
    with pytest.raises(DataError) as caught:
        prepared(query=query)
    assert "\n" not in str(caught.value)
    assert asked(server, "SELECT count(*) FROM shop.sales") == ((N_ROWS,),)
    assert asked(server, "SHOW TABLES FROM shop") == (("sales",),)


def test_what_fails_is_one_line_without_the_password(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="has no table sale; found sales"):
        prepared(table="sale")
    monkeypatch.setenv("SHOP_PASSWORD", "wr0ng")
    with pytest.raises(DataError, match="Access denied") as caught:
        prepared(table="sales")
    assert "wr0ng" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_that_was_typed_is_not_written(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "another's")  # what is typed counts
    typed = ADDRESS.replace("${SHOP_PASSWORD}", "s3cret%20%40%2F%3A%25%20told")
    assert inspect_files([typed], FileForm(table="sales"), Path("shop.yaml"))
    assert yaml.safe_load(Path("shop.yaml").read_text())["data"]["columns"]["database"] == ADDRESS
    assert "s3cret" not in Path("shop.yaml").read_text()
    assert os.environ["SHOP_PASSWORD"] == PASSWORD
