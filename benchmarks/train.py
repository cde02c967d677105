"""Events per second of the whole of ``recsys train``: ``python -m benchmarks.train --sequences ml-1m/sequences.txt``.

The command runs as its own process, from reading the prepared data to writing the weights, validation included. The
yardstick is a plain loop (:mod:`benchmarks.plain_loop`) run before and after it, on two threads like it.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.process import run
from benchmarks.results import machine, write_section
from recsys.console import talk
from recsys.storage import code_version

_THREADS = "2"
_EPOCHS = 1
_GOALS = {"full": 10_000, "sampled": 20_000}


def train(folder: Path, loss: str) -> tuple[float, float]:
    """Return events per second of the whole command, and of its training loop with validation alone."""
    settings = {
        "name": loss,
        "data.source": "sequences",
        "split.protocol": "leave_one_out",
        "model.width": 128,
        "model.dropout": 0.1,
        "model.n_layers": 2,
        "model.max_length": 200,
        "training.loss": loss,
        "training.n_negatives": 256,
        "training.epochs": _EPOCHS,
        "training.batch_tokens": 12_800,
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    began = time.perf_counter()
    run(["recsys.modeling.train", *options], folder, _THREADS)
    seconds = time.perf_counter() - began
    info = json.loads((folder / "models" / loss / "run.json").read_text(encoding="utf-8"))
    n_events = info["events_per_second"] * info["seconds"]
    return n_events / seconds, info["events_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("RECSYS_REAL_DATA", "data/raw")) / "ml-1m" / "sequences.txt"
    parser.add_argument("--sequences", type=Path, default=default, help="text, a line a user: user item item …")
    sequences = parser.parse_args().sequences.resolve()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
        folder = Path(temporary)
        run(["recsys.dataset", "main", "--source", "sequences", "--raw", str(sequences)], folder, _THREADS)
        for loss, negatives in (("full", 0), ("sampled", 256)):
            plain = ["benchmarks.plain_loop", str(sequences), "--negatives", str(negatives)]
            before = float(run(plain, folder, _THREADS))
            command, loop = train(folder, loss)
            after = float(run(plain, folder, _THREADS))
            yardstick = (before + after) / 2
            softmax = "full softmax" if loss == "full" else f"{negatives} shared negatives"
            figures = f"{command:,.0f} | {loop:,.0f} | {yardstick:,.0f} | {command / yardstick:.2f} | {_GOALS[loss]:,}"
            rows.append(f"| {softmax} | {figures} |")
    section = f"""## Training speed

`python -m benchmarks.train` on MovieLens-1M (999,611 events, 6,040 users, 3,416 movies): 2 gated blocks of width 128
(of the plain loop: 2 of softmax attention), windows of 200 positions, {_EPOCHS} epoch, {_THREADS} threads. Events are
targets of the loss; "whole command" runs from process start to written weights with a validation of all users at the
end. {machine()}; load average of the last 15 minutes {os.getloadavg()[2]:.1f}; {time.strftime("%Y-%m-%d")}, commit
{code_version()}, seed 42.

| loss | whole command, events/s | training loop, events/s | plain loop, events/s | ratio | goal |
|---|---:|---:|---:|---:|---:|
{chr(10).join(rows)}
"""
    write_section("bench-train", section)
    talk.print(section)


if __name__ == "__main__":
    main()
