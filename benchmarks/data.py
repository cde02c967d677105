"""Time and peak memory of ``recsys dataset main`` on made-up data of H&M's size: ``python -m benchmarks.data``.

The yardstick is measured in the same run: the time that Polars alone needs to read all columns of the same CSV file,
once before and once after. Every measured step is a process of its own on two threads; its peak is the largest
resident set that the system saw, pages of mapped files included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import machine, write_section
from recsys.console import talk
from recsys.storage import code_version

THREADS = "2"
READ = "import sys, polars as pl; pl.scan_csv(sys.argv[1], infer_schema=False).collect(engine='streaming')"


@dataclass(frozen=True)
class Cost:
    """What a finished process took."""

    seconds: float
    cpu_seconds: float
    peak_gb: float  # 10**9 bytes


def measure(command: list[str], folder: Path) -> Cost:
    """Return the cost of ``command``, run in ``folder`` on two threads.

    Raises:
        CalledProcessError: it failed.
    """
    environment = os.environ | {"POLARS_MAX_THREADS": THREADS, "OMP_NUM_THREADS": THREADS}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9)


def compare(raw: Path, folder: Path, engine: str) -> tuple[list[Cost], Cost, int]:
    """Return the costs of reading the CSV (twice) and of preparing it, and the number of events."""
    read = [sys.executable, "-c", READ, str(raw / "transactions_train.csv")]
    prepare = [sys.executable, "-m", "recsys.dataset", "main", "--source", "hm", "--raw", str(raw)]
    prepare += ["--engine", engine, "--set", "data.name=bench", "--force"]
    before = measure(read, folder)
    cost = measure(prepare, folder)
    after = measure(read, folder)
    manifest = json.loads((folder / "data/processed/bench/manifest.json").read_text(encoding="utf-8"))
    return [before, after], cost, manifest["n_events"]


def describe(reads: list[Cost], cost: Cost, n_events: int, arguments: argparse.Namespace) -> str:
    """Return the section of the results as Markdown."""
    read = sum(each.seconds for each in reads) / len(reads)
    read_cpu = sum(each.cpu_seconds for each in reads) / len(reads)
    made = "data given" if arguments.raw else "data made up by `recsys dataset synthesize`"
    return f"""## Preparing data of H&M's size

`python -m benchmarks.data --customers {arguments.customers} --engine {arguments.engine}`, {made}: {n_events:,} events,
CSV in, training arrays out, {THREADS} threads. {datetime.now(UTC):%Y-%m-%d}, commit {code_version()}. {machine()};
load average of the last 15 minutes {os.getloadavg()[2]:.1f}.

| step | seconds | CPU seconds | peak memory, GB |
|---|---:|---:|---:|
| Polars reads the CSV's columns | {read:.1f} | {read_cpu:.1f} | {max(each.peak_gb for each in reads):.2f} |
| `recsys dataset main` | {cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.peak_gb:.2f} |
| ratio (limit 1.8, and 3 GB) | {cost.seconds / read:.2f} | {cost.cpu_seconds / read_cpu:.2f} | |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_371_980, help="1,371,980 make H&M's 31.8 million events")
    parser.add_argument("--raw", type=Path, help="folder of the three CSV files; made up and removed without it")
    parser.add_argument("--engine", choices=("polars", "duckdb"), default="polars")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-data-") as temporary:
        folder = Path(temporary)
        raw = arguments.raw.resolve() if arguments.raw else folder / "raw"
        if not arguments.raw:
            from recsys.data.synthetic.write import synthesize

            synthesize(raw, n_customers=arguments.customers)
        section = describe(*compare(raw, folder, arguments.engine), arguments)
    write_section("bench-data" if arguments.engine == "polars" else f"bench-data-{arguments.engine}", section)
    talk.print(section)


if __name__ == "__main__":
    main()
