"""The whole of H&M's size on two cores, stage by stage: ``python -m benchmarks.scale``.

Made-up purchases of as many customers are prepared, counted as a snapshot, learned from with ``configs/hm.yaml``, and
every customer gets a list of what is on sale. Each stage is a command of its own, as a person would type it; its peak
is the largest resident set that the system saw, pages of mapped files included.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.data import READ, THREADS, Cost, measure
from benchmarks.process import ROOT
from benchmarks.results import machine, write_section
from benchmarks.speed import limit_gflops
from recsys.console import talk
from recsys.data.synthetic.write import synthesize
from recsys.storage import code_version, write_json


def stages(raw: Path, folder: Path, epochs: int) -> dict[str, Cost]:
    """Return what each stage costs, done one after another in ``folder``."""
    config = ["--config", str(ROOT / "configs/hm.yaml")]
    read = [sys.executable, "-c", READ, str(raw / "transactions_train.csv")]
    commands = {
        "read the file, before": read,
        "prepare": ["recsys.dataset", "main", *config, "--raw", str(raw)],
        "read the file, after": read,
        "snapshot": ["recsys.features", *config],
        "train": ["recsys.modeling.train", *config, "--set", f"training.epochs={epochs}"],
        "lists": ["recsys.modeling.predict", "--run", "hm"],
    }
    costs = {}
    for name, command in commands.items():
        costs[name] = measure(command if command is read else [sys.executable, "-m", *command], folder)
        talk.print(f"{name}: {costs[name].seconds:,.1f} s, {costs[name].peak_gb:.2f} GB")
    return costs


def rows_of(costs: dict[str, Cost], folder: Path) -> list[dict[str, Any]]:
    """Return a row a stage; training by the epoch, as the log of the run tells."""
    info = json.loads((folder / "models/hm/run.json").read_text(encoding="utf-8"))
    n_customers = json.loads((folder / "data/processed/hm/manifest.json").read_text(encoding="utf-8"))["n_users"]
    reads = [cost.seconds for name, cost in costs.items() if name.startswith("read")]
    rows = []
    for name, cost in costs.items():
        row = {"work": f"scale/{name}", "system": "recsys", "value": cost.seconds, "unit": "s"}
        row |= {"cpu_seconds": cost.cpu_seconds, "peak_memory_gb": cost.peak_gb}
        if name == "prepare":
            row["ratio_to"] = {"read": cost.seconds / (sum(reads) / len(reads))}
        if name == "train":
            row |= {"events_per_second": info["events_per_second"], "epochs": info["epochs_run"]}
        if name == "lists":
            row["customers_per_second"] = n_customers / cost.seconds
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_371_980, help="1,371,980 make H&M's 31.8 million events")
    parser.add_argument("--epochs", type=int, default=1, help="of the training; 1 by default")
    arguments = parser.parse_args()
    before = limit_gflops()
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as temporary:
        folder = Path(temporary)
        synthesize(folder / "raw", n_customers=arguments.customers)
        costs = stages(folder / "raw", folder, arguments.epochs)
        rows = rows_of(costs, folder)
    found: dict[str, Any] = {
        "limit_gflops": [before, limit_gflops()],
        "rows": rows,
        "peak_memory_gb": max(cost.peak_gb for cost in costs.values()),
        "commit": code_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(Path(__file__).parent / "results/scale.json", found)
    lines = ["| stage | seconds | CPU seconds | peak memory, GB |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {one.seconds:,.1f} | {one.cpu_seconds:,.1f} | {one.peak_gb:.2f} |" for name, one in costs.items()
    ]
    everything = sum(cost.seconds for name, cost in costs.items() if not name.startswith("read"))
    command = f"python -m benchmarks.scale --customers {arguments.customers} --epochs {arguments.epochs}"
    section = f"""## The whole of H&M's size

`{command}`: made-up purchases, `configs/hm.yaml`, {THREADS} threads, seed 42. {machine()}; load average of the last
15 minutes {os.getloadavg()[2]:.1f}; {found["date"]}, commit {found["commit"]}.

{chr(10).join(lines)}
| everything | {everything:,.1f} | | {found["peak_memory_gb"]:.2f} |
"""
    write_section("bench-scale", section)
    talk.print(section)


if __name__ == "__main__":
    main()
