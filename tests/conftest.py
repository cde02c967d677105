"""What the tests of several modules share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql_server import running_server, with_database
from tests.running_service import KEYS, Running, running, write_runs


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the project."""
    return Path(__file__).parents[1]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one: relative paths such as models/ point into it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets; the test is skipped where RECSYS_REAL_DATA names none."""
    folder = os.environ.get("RECSYS_REAL_DATA")
    if not folder:
        pytest.skip("RECSYS_REAL_DATA does not name a folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Path]:
    """The folder of the socket of a PostgreSQL server; the test is skipped where none can be started."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with running_server() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database of each kind that the service can keep its data in."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new/store.sqlite"
        return
    with with_database(request.getfixturevalue("postgresql")) as url:
        yield url


@pytest.fixture(scope="session")
def served_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of two small runs that a service can switch between."""
    return write_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def service(served_runs: list[Path]) -> Iterator[Running]:
    """The service of the first run, which may switch to the second; tests share it: each has customers of its own."""
    first, second = served_runs
    with running(first, f"sqlite:///{first.parent}/shared.sqlite", "--also", str(second)) as found:
        yield found


@pytest.fixture(scope="session")
def guarded(served_runs: list[Path]) -> Iterator[Running]:
    """The service of the first run behind keys, asked with a reader's; nobody sends purchases to it."""
    first = served_runs[0]
    environment = {f"RECSYS_{role.upper()}_KEYS": f"an older key of {role}s, {key}" for role, key in KEYS.items()}
    with running(first, f"sqlite:///{first.parent}/guarded.sqlite", environment=environment) as found:
        found.headers = {"Authorization": f"Bearer {KEYS['reader']}"}
        yield found
