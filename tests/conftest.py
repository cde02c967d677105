"""What the tests of several modules share."""

import os
from pathlib import Path

import pytest


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
