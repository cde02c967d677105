"""What the service needs by the size of the shop: ``python -m benchmarks.serve_sizes``.

For each size a run over made-up purchases of H&M's form is served, client and server on the same two cores: seconds
from the start of the command until the server is ready, memory then and after the load, and the lists a second that
sixteen clients get in a closed loop, out of all items and out of those that sold lately.
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.process import Server
from benchmarks.results import machine, write_section
from benchmarks.serve import draw, load
from benchmarks.serve_events import Row
from benchmarks.serve_run import make_run
from recsys.console import talk
from recsys.data.purchases import open_purchases
from recsys.storage import code_version, write_json

_CLIENTS: Final = 16
_SIZES: Final = ((2_000, 5_000), (20_000, 20_000), (50_000, 105_542), (200_000, 105_542), (1_000_000, 105_542))


def row_of(folder: Path, port: int, seconds: float) -> Row:
    """Return what the server of the run in ``folder`` needs, and gives."""
    log = open_purchases(folder / "data/processed/hm")
    row: Row = {"customers": log.n_users, "articles": log.n_items, "purchases": log.n_events}
    draw(folder)
    database = folder / "sizes.sqlite"
    for old in folder.glob(f"{database.name}*"):
        old.unlink()
    with Server(folder, port, database) as server:
        row |= {"start_s": server.start_s, "ready_mb": server.memory_mb()}
        for pool in ("all", "on_sale"):
            found = load(folder, port, seconds, candidates=pool, connections=_CLIENTS)
            row |= {f"{pool}_{name}": found[name] for name in ("value", "p50_ms", "p99_ms")}
        return row | {"most_mb": server.memory_mb("VmHWM")}


def size(text: str) -> tuple[int, int]:
    """Return the numbers of customers and articles in a word.

    >>> size("2000x5000")
    (2000, 5000)
    """
    n_customers, found, n_articles = text.partition("x")
    if not (found and n_customers.isdecimal() and n_articles.isdecimal() and int(n_customers) and int(n_articles)):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected customers and articles as in 2000x5000")
    return int(n_customers), int(n_articles)


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| customers | articles | purchases | ready after | memory then, at most | lists a second, all, on sale |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("customers", "articles", "purchases"))
        memory = f"{row['ready_mb'] / 1000:.1f}, {row['most_mb'] / 1000:.1f} GB"
        cells = [*counts, f"{row['start_s']:.0f} s", memory, f"{row['all_value']:.0f}, {row['on_sale_value']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder in which runs are made, or found; a temporary one without")
    parser.add_argument("--sizes", nargs="+", type=size, default=_SIZES, metavar="CUSTOMERSxARTICLES")
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    rows = []
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-serve-sizes-")))
        for n_customers, n_articles in arguments.sizes:
            folder = work.resolve() / f"{n_customers}x{n_articles}"
            folder.mkdir(parents=True, exist_ok=True)
            make_run(folder, n_customers, n_articles)
            rows.append(row_of(folder, arguments.port, arguments.seconds))
            talk.print(table(rows[-1:]).rpartition("\n")[2], markup=False)
    found = {"rows": rows, "commit": code_version(), "date": time.strftime("%Y-%m-%d")}
    write_json(Path(__file__).parent / "results/serve-sizes.json", found)
    what = (__doc__ or "").partition("\n")[2].strip()
    sizes = " ".join(f"{n_customers}x{n_articles}" for n_customers, n_articles in arguments.sizes)
    command = f"python -m benchmarks.serve_sizes --sizes {sizes} --seconds {arguments.seconds:g}"
    about = f"{machine()}; {found['date']}, commit {found['commit']}."
    section = f"## The service by size\n\n`{command}`:\n{what}\n\n{about}\n\n{table(rows)}\n"
    write_section("bench-serve-sizes", section)
    talk.print(section)


if __name__ == "__main__":
    main()
