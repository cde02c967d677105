"""The OpenAPI document and the service hold each other to their word: requests are made out of it, answers checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_service import Running, running

pytest.importorskip("schemathesis", reason="schemathesis is not installed")


def test_every_answer_is_one_that_the_document_promises(served_runs: list[Path], tmp_path: Path) -> None:
    """Some hundreds of requests: examples, corners, drawn ones, and chains of them; none is answered 500."""
    first, second = served_runs
    with running(first, f"sqlite:///{tmp_path}/store.sqlite", "--also", str(second)) as service:
        words = ["run", f"http://127.0.0.1:{service.port}/openapi.json", "--seed", "1", "--max-examples", "5"]
        # What a shop's ids are, and which fields go together, no document says: valid forms may still be refused.
        words += ["--exclude-checks", "positive_data_acceptance", "--phases", "examples,coverage,fuzzing,stateful"]
        command = [sys.executable, "-m", "schemathesis.cli", *words, "--no-color", "--continue-on-failure"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout[-2000:]


def test_the_document_names_every_answer_and_hides_what_is_of_the_page(service: Running) -> None:
    document = service.get("/openapi.json")
    for path, routes in document["paths"].items():
        for method, route in routes.items():
            assert {"200", "400", "401", "403", "404", "413", "415", "422", "429", "503"} <= set(route["responses"])
            assert route["summary"], (path, method)
            for status, answer in route["responses"].items():
                form = json.dumps(answer["content"]["application/json"]["schema"])
                assert ("Failure" in form) == (status != "200"), (path, method, status)
    assert not any(path.startswith("/v1/explore") for path in document["paths"])
