"""Time and memory of attention, whole and local, at growing lengths: ``python -m benchmarks.attention``.

One block of the size of ``configs/base.yaml`` reads one sequence, forwards and backwards, in a process of its own for
each row of the table: the highest memory of a process never falls.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.process import run
from benchmarks.results import machine, write_section
from recsys.config import Config, load_config
from recsys.console import talk
from recsys.modeling.decoder.layers import GatedBlock
from recsys.storage import code_version

_CONFIG = Path(__file__).parents[1] / "configs" / "base.yaml"
_THREADS = "1"
_LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
_WINDOW = 64


def measure(length: int, window: int | None, n_steps: int = 3) -> dict[str, float]:
    """Return the median milliseconds of a step, and the MB by which the process grew over it at most."""
    model = load_config(_CONFIG).model
    torch.manual_seed(0)
    layer = GatedBlock(model.width, model.n_heads, 0.0, window)
    _step(layer, torch.randn(1, 16, model.width))  # what loads on first use is not the step's
    x_BTD = torch.randn(1, length, model.width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [_step(layer, x_BTD) for _ in range(n_steps)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"ms": 1000 * median(times), "mb": grown / 1024}


def _step(layer: torch.nn.Module, x_BTD: torch.Tensor) -> float:
    layer.zero_grad()
    began = time.perf_counter()
    torch.autograd.backward(layer(x_BTD).square().mean())
    return time.perf_counter() - began


def _row(length: int, folder: Path) -> str:
    cells = []
    for window in ([], ["--window", str(_WINDOW)]):
        found = json.loads(run(["benchmarks.attention", "--length", str(length), *window], folder, _THREADS))
        cells += [f"{found['ms']:,.1f}", f"{found['mb']:,.0f}"]
    return f"| {length:,} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, help="measure one case and print it as JSON; else all, as a table")
    parser.add_argument("--window", type=int)
    arguments = parser.parse_args()
    if arguments.length is not None:
        print(json.dumps(measure(arguments.length, arguments.window)))
        return
    section = _section(load_config(_CONFIG), [_row(length, Path.cwd()) for length in _LENGTHS])
    write_section("bench-attention", section)
    talk.print(section)


def _section(config: Config, rows: list[str]) -> str:
    heads = " | ".join(f"{reach}, {unit}" for reach in ("all", "local") for unit in ("ms", "MB"))
    return f"""## Attention over long histories

`make bench-attention`: one block of width {config.model.width} with {config.model.n_heads} heads over one sequence,
forwards and backwards, the median of three steps, and by how many MB the process grows over them at most (0: into
memory that it holds already). "local" is `model.attention_window: {_WINDOW}`. {machine()}, {_THREADS} thread; load
average of the last 15 minutes {os.getloadavg()[2]:.1f}; {time.strftime("%Y-%m-%d")}, commit {code_version()}.

| length | {heads} |
|---:|{"---:|" * 4}
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    main()
