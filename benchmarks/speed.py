"""How fast ``recsys train`` is, beside RecTools and beside a bare loop: ``python -m benchmarks.speed``.

MovieLens-1M at two blocks of width 128 and 200 positions, full and sampled softmax, and the demo of Complete Journey.
The whole command is timed, from the start of its process to the written weights, validation included. Beside it stand
RecTools' SASRec of the same size and epochs, its fit alone (``benchmarks/peers/speed.py``), and a loop that runs the
decoder and the item product alone (:mod:`benchmarks.bare_loop`). Everything is float32 on two threads.

A share of the limit (MFU) is the operations of attention, feed-forward and logits, forward and backward, of real events
alone, by the time of the whole command, over what a product of 4096 x 4096 reaches before and after.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.process import ROOT, run
from benchmarks.results import machine, write_section
from recsys.console import talk
from recsys.storage import code_version, write_json

_THREADS: Final = "2"
_WIDTH, _LAYERS, _LENGTH, _NEGATIVES = 128, 2, 200, 256
_ML_1M: Final = {
    "data.source": "sequences",
    "split.protocol": "leave_one_out",
    "model.width": _WIDTH,
    "model.n_layers": _LAYERS,
    "model.max_length": _LENGTH,
    "model.dropout": 0.1,
    "training.n_negatives": _NEGATIVES,
    "training.batch_tokens": 12_800,
    "predict.exclude_seen": True,
}
_LIMIT = """
import time, torch
a, b = torch.randn(2, 4096, 4096)
seconds = []
for _ in range(5):
    began = time.perf_counter(); a @ b; seconds.append(time.perf_counter() - began)
print(2 * 4096**3 / min(seconds) / 1e9)
"""


def limit_gflops() -> float:
    """Return the billion float32 operations a second of a product of two matrices of 4096 x 4096, the best of five."""
    command = [sys.executable, "-c", _LIMIT]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": _THREADS}, check=True, stdout=subprocess.PIPE)
    return float(done.stdout)


def flops(lengths: np.ndarray, loss: str, n_items: int) -> float:
    """Return the operations of an epoch over histories of so many targets (U,), cut to windows of ``_LENGTH``."""
    longest = _LENGTH - 1
    windows = np.concatenate([np.full(int((lengths // longest).sum()), longest), lengths % longest])
    n_events, pairs = windows.sum(), (windows * (windows + 1) / 2).sum()
    blocks = _LAYERS * (28 * _WIDTH**2 * n_events + 4 * _WIDTH * pairs)
    logits = 2 * _WIDTH * (n_items if loss == "full" else _NEGATIVES + 1) * n_events
    return float(3 * (blocks + logits))


def options(settings: dict[str, Any]) -> list[str]:
    """Return ``settings`` as the command line takes them."""
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def train(arguments: list[str], folder: Path) -> float:
    """Return the seconds of the whole of ``recsys train``."""
    began = time.perf_counter()
    run(["recsys.modeling.train", *arguments, "--force"], folder, _THREADS)
    return time.perf_counter() - began


def bare(arguments: list[str], folder: Path) -> dict[str, float]:
    """Return events, seconds and events a second of the bare loop over an epoch."""
    found: dict[str, float] = json.loads(run(["benchmarks.bare_loop", *arguments], folder, _THREADS).splitlines()[-1])
    return found


def rectools(sequences: Path, loss: str, epochs: int) -> dict[str, float]:
    """Return what RecTools' fit took and how often it hits; of a process in ``.venv-peers``."""
    command = [str(ROOT / ".venv-peers/bin/python"), "benchmarks/peers/speed.py", str(sequences)]
    done = subprocess.run(
        [*command, "--loss", loss, "--epochs", str(epochs)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": _THREADS},
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ml_1m(sequences: Path, loss: str, epochs: int, their_epochs: int, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of our training, of the bare loop and of RecTools' training."""
    limit = limit_gflops()
    settings = options(_ML_1M | {"name": loss, "training.loss": loss})
    alone = [bare(settings, folder)["rate"]]
    seconds = train([*settings, "--set", f"training.epochs={epochs}"], folder)
    alone.append(bare(settings, folder)["rate"])
    run(["recsys.modeling.predict", "--folds", "--run", loss, "--force"], folder, _THREADS)
    run(["recsys.cli", "evaluate", "--run", loss, "--force"], folder, _THREADS)
    systems = json.loads((folder / "reports" / loss / "metrics.json").read_text(encoding="utf-8"))["systems"]
    histories = [line.split()[1:] for line in sequences.read_text(encoding="utf-8").splitlines()]
    lengths = np.array([len(history) - 2 for history in histories])
    n_items = len({item for history in histories for item in history})
    theirs = rectools(sequences, loss, their_epochs)
    rates = {"recsys": epochs * lengths.sum() / seconds, "bare": statistics.mean(alone)}
    rates["rectools"] = theirs["n_events"] / theirs["seconds"]
    mfu = epochs * flops(lengths, loss, n_items) / seconds / limit / 1e9
    row: dict[str, Any] = {"work": f"train/ml-1m/{loss}-softmax", "unit": "events/s"}
    ratios = {name: rates["recsys"] / rates[name] for name in ("rectools", "bare")}
    ours: dict[str, Any] = {"mfu": mfu, "ratio_to": ratios, "hr@10": systems["decoder"]["recall@10"]["value"]}
    more = {"recsys": ours | {"epochs": epochs}, "rectools": {"hr@10": theirs["hr@10"], "epochs": their_epochs}}
    return [row | {"system": name, "value": rate} | more.get(name, {}) for name, rate in rates.items()]


def demo(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the whole training of the demo, and of the bare loop over as many epochs."""
    arguments = ["--config", str(ROOT / "configs/demo.yaml")]
    run(["recsys.dataset", "main", *arguments], folder, _THREADS)
    alone = [bare(arguments, folder)]
    seconds = train(arguments, folder)
    alone.append(bare(arguments, folder))
    info = json.loads((folder / "models/demo/run.json").read_text(encoding="utf-8"))
    by_itself = info["epochs_run"] * statistics.mean(one["seconds"] for one in alone)
    row: dict[str, Any] = {"work": "train/completejourney/demo", "unit": "s"}
    return [
        row | {"system": "recsys", "value": seconds, "ratio_to": {"bare": seconds / by_itself}},
        row | {"system": "bare", "value": by_itself},
    ]


def table(found: dict[str, Any]) -> str:
    """Return the rows as Markdown."""
    lines = ["| work | system | value | of the limit | to RecTools | to the bare loop | HR@10 (epochs) |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for row in found["rows"]:
        ratio = row.get("ratio_to", {})
        cells = [f"{row['mfu']:.2f}" if "mfu" in row else ""]
        cells += [f"{ratio[name]:.2f}" if name in ratio else "" for name in ("rectools", "bare")]
        cells.append(f"{row['hr@10']:.4f} ({row['epochs']})" if "hr@10" in row else "")
        lines.append(f"| {row['work']} | {row['system']} | {row['value']:,.0f} {row['unit']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("RECSYS_REAL_DATA", "data/raw")) / "ml-1m" / "sequences.txt"
    parser.add_argument("--sequences", type=Path, default=default, help="text, a line a user: user item item …")
    parser.add_argument("--epochs", type=int, default=3, help="of ours and of RecTools; 3 by default")
    parser.add_argument("--peer-epochs", type=int, help="of RecTools, where its time by the epoch is enough")
    arguments = parser.parse_args()
    sequences = arguments.sequences.resolve()
    rows: list[dict[str, Any]] = []
    before = limit_gflops()
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as temporary:
        folder = Path(temporary)
        rows += demo(folder)
        run(["recsys.dataset", "main", "--source", "sequences", "--raw", str(sequences)], folder, _THREADS)
        for loss in ("full", "sampled"):
            their_epochs = arguments.peer_epochs or arguments.epochs
            rows += ml_1m(sequences, loss, arguments.epochs, their_epochs, folder)
    found: dict[str, Any] = {
        "limit_gflops": [before, limit_gflops()],
        "rows": rows,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9,
        "commit": code_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(Path(__file__).parent / "results/speed.json", found)
    limits = " and ".join(f"{one:,.0f}" for one in found["limit_gflops"])
    what = (__doc__ or "").partition("MovieLens-1M")[2]
    section = f"""## Training speed

`make bench-speed`: MovieLens-1M{what}
Seed 42. The limit is {limits} billion operations a second before and after; the largest
process held {found["peak_memory_gb"]:.1f} GB. {machine()}; {found["date"]}, commit {found["commit"]}.

{table(found)}
"""
    write_section("bench-speed", section)
    talk.print(section)


if __name__ == "__main__":
    main()
