"""The calls of docs/serving.md are made as they stand, at a real server of a small run."""

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.serving import gate, schemas
from tests.running_service import FIRST, N_DAYS, Running, running

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
#: Ids and days of the demo on the page → those of the small run.
OF_THE_RUN = {
    '"1"': '"u1"',
    '"2"': '"u2"',
    "1029743": "i3",
    "2018-01-01": f"{FIRST.year}-04-09",
    "2017-12-30": "2024-04-08",
}


@pytest.fixture(scope="module")
def service(served_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(served_runs[0], f"sqlite:///{tmp_path_factory.mktemp('docs')}/store.sqlite") as found:
        yield found


def blocks(language: str, service: Running) -> list[str]:
    """The blocks of the page in a language, about the small run."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    for demo, small in (OF_THE_RUN | {"127.0.0.1:8000": f"127.0.0.1:{service.port}"}).items():
        found = [block.replace(demo, small) for block in found]
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_every_call_by_curl_is_answered_as_the_page_says(service):
    answers = []
    for block in blocks("bash", service):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (block, done.stderr)
        decoder, rest = json.JSONDecoder(), done.stdout.strip()
        while rest:  # a block may hold several calls
            answer, end = decoder.raw_decode(rest)
            answers.append(answer)
            rest = rest[end:].strip()
    assert not [answer for answer in answers if "error" in answer]
    asked, following, told, removed, scenario, figures = answers
    assert [len(asked["items"]), len(following["items"])] == [3, 3]
    assert all(item["reason"] for item in asked["items"])
    assert told == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert removed["tombstone"]
    assert scenario["settings"]["variants"] == {"as it is": 1, "pinned": 1}
    assert figures["rows"]


def test_the_python_of_the_page_asks_the_same(service, tmp_path):
    (block,) = blocks("python", service)
    (tmp_path / "page.py").write_text(block)
    assert len(runpy.run_path(str(tmp_path / "page.py"))["answer"]["items"]) == 3


def test_the_figures_of_the_page_are_those_that_were_measured():
    found = json.loads((ROOT / "benchmarks/results/serve.json").read_text(encoding="utf-8"))
    rows = {row["work"]: row for row in found["rows"] if row["system"] == "recsys"}
    for pool in ("all", "on_sale"):
        closed = [row for work, row in rows.items() if work.startswith(f"serve/{pool}/") and work.endswith("clients")]
        best = max(closed, key=lambda row: row["value"])
        one, half, thrice = (rows[f"serve/{pool}/{name}"] for name in ("1 clients", "0.5 x sustained", "3 x sustained"))
        cells = [f"{best['value']:.0f} a second", f"{best['ratio_to']['bare value']:.2f}", f"{one['p50_ms']:.1f} ms"]
        cells += [f"{half['p99_ms']:.0f} ms", f"{thrice['value']:.0f} a second answered"]
        assert " | ".join(cells) in PAGE
    assert f"held {found['peak_memory_gb']:.1f} GB at most" in PAGE


def test_the_sizes_of_the_page_are_those_that_were_measured():
    for row in json.loads((ROOT / "benchmarks/results/serve-sizes.json").read_text(encoding="utf-8"))["rows"]:
        cells = [f"{row[name]:,}" for name in ("customers", "articles", "purchases")]
        cells += [f"{row['start_s']:.0f} s", f"{row['most_mb'] / 1000:.1f} GB"]
        cells += [f"{row['all_value']:.0f}, {row['on_sale_value']:.0f}"]
        assert " | ".join(cells) in PAGE


def test_the_limits_of_the_page_are_the_codes():

    assert f"{gate.MAX_BODY >> 20} MiB" in PAGE
    counts = (schemas.MAX_K, schemas.MAX_HISTORY, schemas.MAX_IDS, schemas.MAX_BATCH, schemas.MAX_EVENTS)
    assert ", ".join(f"{count:,}" for count in counts) in PAGE
    assert N_DAYS > 98  # the day that stands for the demo's last is one of the run
