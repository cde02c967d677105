"""A PostgreSQL server for tests, reached by a socket in a folder and by nothing else."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

import pytest

OWNER = "owner"
PASSWORD = "s3cret @/& not told"  # noqa: S105 - of a server that lives as long as the tests


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


@contextmanager
def running_server() -> Iterator[Path]:
    """Yield the folder of the socket of a server, on which OWNER has PASSWORD and the database postgres."""
    with new_server() as folder, started(folder):
        yield folder


@contextmanager
def new_server() -> Iterator[Path]:
    """Yield the folder of a server that can be :func:`started`, and again after its end."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    folder.chmod(0o777)
    made = [*as_nobody_special(), str(programs() / "initdb"), "-D", str(folder / "data"), "-U", OWNER, "-E", "UTF8"]
    (folder / "word").write_text(PASSWORD)
    (folder / "word").chmod(0o644)
    made += ["-A", "scram-sha-256", "--no-sync", "--pwfile", str(folder / "word")]
    begun = subprocess.run(made, cwd=folder, env=environment(folder), capture_output=True, check=False)
    try:
        if begun.returncode:
            pytest.skip(f"initdb does not work here: {begun.stderr.decode()[-200:]}")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a server's programs."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}


@contextmanager
def started(folder: Path, how: int = signal.SIGINT) -> Iterator[None]:
    """Start a server; end it afterwards by a signal: SIGINT at once and orderly, SIGQUIT as a crash would."""
    words = [*as_nobody_special(), str(programs() / "postgres"), "-D", str(folder / "data"), "-k", str(folder)]
    words += ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
    with (folder / "log").open("ab") as log:
        running = subprocess.Popen(words, cwd=folder, env=environment(folder), stdout=log, stderr=log)
    try:
        _await(folder, running)
        yield
    finally:
        # The server's own number: what was started may be the program that changed the user.
        own = folder / "data" / "postmaster.pid"
        os.kill(int(own.read_text().split()[0]) if own.is_file() else running.pid, how)
        running.wait(timeout=30)


def address(folder: Path, name: str = "postgres") -> str:
    """Return the address of a database of the server at ``folder``."""
    return f"postgresql://{OWNER}:{quote(PASSWORD, safe='')}@/{name}?host={folder}"


@contextmanager
def with_database(folder: Path) -> Iterator[str]:
    """Yield the address of a new database of the server at ``folder``."""
    psycopg, name = import_module("psycopg"), f"store_{secrets.token_hex(4)}"
    with psycopg.connect(
        host=str(folder), user=OWNER, password=PASSWORD, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield address(folder, name)
        connection.execute(f"DROP DATABASE {name} (FORCE)")


def _await(folder: Path, running: "subprocess.Popen[bytes]") -> None:
    psycopg = import_module("psycopg")
    for _ in range(100):
        try:
            psycopg.connect(host=str(folder), user=OWNER, password=PASSWORD, dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert running.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    pytest.fail(f"the server does not answer: {(folder / 'log').read_text()}")
