"""Whether ``recsys dataset main --split`` keeps what pandas keeps: ``python -m benchmarks.selection``.

Purchases are made up at H&M's full size unless a folder is given. Each side is a process of its own on two threads; the
rules in pandas stand in ``published_rules.py``. Compared are the three counts that the original published of the real
data, and every customer kept, with the number of purchases of each.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.data import THREADS, Cost, measure
from benchmarks.results import RESULTS, machine, write_section
from recsys.console import talk
from recsys.data.purchases import open_purchases
from recsys.storage import code_version

_RULES = Path(__file__).with_name("published_rules.py")
_NAMES = {
    "purchases": "purchases of the 1,000 most sold articles",
    "customers": "customers who made them",
    "histories": "histories of 2 to 10 of them",
}


@dataclass(frozen=True)
class Side:
    """What one program counted, and what it took."""

    counts: dict[str, int]
    cost: Cost


@dataclass(frozen=True)
class Comparison:
    """Both sides on the same purchases."""

    ours: Side
    pandas: Side
    n_rows: int
    equal_histories: bool  # the same customers, each with as many purchases


def compare(raw: Path, folder: Path, n_articles: int = 1_000) -> Comparison:
    """Select from the tables in ``raw`` with recsys and with pandas; both write into ``folder``.

    Raises:
        CalledProcessError: one of them failed.
    """
    prepare = [sys.executable, "-m", "recsys.dataset", "main", "--split", "--raw", str(raw), "--force"]
    ours = measure([*prepare, "--top-k-articles", str(n_articles)], folder)
    kept_path, counts_path = folder / "pandas.parquet", folder / "pandas.json"
    pandas = measure([sys.executable, str(_RULES), str(raw), str(kept_path), str(counts_path), str(n_articles)], folder)
    prepared = folder / "data/processed/hm-split"
    data = open_purchases(prepared)
    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    before = report["before_history_limits"]
    kept = pq.read_table(kept_path)
    equal = kept["user_id"].to_pylist() == data.user_ids.to_pylist()
    equal = equal and np.array_equal(kept["n_events"].to_numpy(), np.diff(data.offsets))
    counts = {"purchases": before["events"], "customers": before["users"], "histories": data.n_users}
    theirs = json.loads(counts_path.read_text(encoding="utf-8"))
    return Comparison(Side(counts, ours), Side(theirs, pandas), report["rows_read"], equal)


def describe(found: Comparison, arguments: argparse.Namespace) -> str:
    """Return the section of the results as Markdown."""
    given = (
        "data given" if arguments.raw else f"{arguments.customers:,} customers made up by `recsys dataset synthesize`"
    )
    names = _NAMES.items()
    rows = "\n".join(f"| {name} | {found.ours.counts[key]:,} | {found.pandas.counts[key]:,} |" for key, name in names)
    ours, pandas = found.ours.cost, found.pandas.cost
    same = "are the same, each with as many purchases" if found.equal_histories else "DIFFER"
    return f"""## The published selection, beside pandas

`make bench-selection`, {given}: {found.n_rows:,} purchases.
The customers kept {same}. Each is a process of its own on {THREADS} threads, on {_n_cores()}
of the cores; pandas reads two columns and stops at the counts, recsys writes data. {datetime.now(UTC):%Y-%m-%d},
commit {code_version()}, seed 42. {machine()}; load average of the last 15 minutes {os.getloadavg()[2]:.1f}.

| | `recsys dataset main --split` | pandas |
|---|---:|---:|
{rows}
| seconds | {ours.seconds:.1f} | {pandas.seconds:.1f} |
| CPU seconds | {ours.cpu_seconds:.1f} | {pandas.cpu_seconds:.1f} |
| peak memory, GB | {ours.peak_gb:.2f} | {pandas.peak_gb:.2f} |
"""


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(words: list[str] | None = None, results: Path = RESULTS) -> int:
    """Compare, write the section into ``results`` and return 0, or 1 where the two do not keep the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_371_980, help="1,371,980 make H&M's 31.8 million purchases")
    parser.add_argument("--raw", type=Path, help="folder of the three CSV files; made up and removed without it")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="bench-selection-") as temporary:
        folder = Path(temporary)
        raw = arguments.raw.resolve() if arguments.raw else folder / "raw"
        if not arguments.raw:
            from recsys.data.synthetic.write import synthesize

            synthesize(raw, n_customers=arguments.customers)
        found = compare(raw, folder)
    section = describe(found, arguments)
    write_section("bench-selection", section, results)
    talk.print(section)
    return 0 if found.equal_histories and found.ours.counts == found.pandas.counts else 1


if __name__ == "__main__":
    sys.exit(main())
