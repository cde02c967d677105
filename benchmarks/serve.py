"""How fast the service is beside its bare model part, and what it survives: ``python -m benchmarks.serve``.

Client and server share two cores. A run over a catalogue of H&M's size answers customers drawn at random, each of them
one list of 12, out of all items or out of the fifth that sold lately. Closed loops ask again with each answer. The best
of them is the sustained rate; at half of it and at three times of it requests come at random times, whether or not the
server keeps up. Then it takes purchases into SQLite and is asked at once for lists that must know them; it is asked for
minutes on end; and it is killed while it takes purchases, which must all be there afterwards, once.

The bare part is the model alone on one thread, over tensors made beforehand (:mod:`benchmarks.serve_run`).
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.process import Server, run
from benchmarks.results import machine, write_section
from benchmarks.serve_events import Row, growth, purchases, row_of_events, row_of_kills, row_of_reads
from benchmarks.serve_run import BATCH, make_run
from benchmarks.speed import limit_gflops
from recsys.console import talk
from recsys.data.purchases import open_purchases
from recsys.storage import code_version, write_json, write_text

_CLIENTS: Final = (1, 16, BATCH, 2 * BATCH)
_CONNECTIONS: Final = 1024
_DRAWN: Final = 5_000


def draw(folder: Path, seed: int = 42) -> tuple[list[str], list[str]]:
    """Return ids of customers with a history, drawn at random, and of items; the former also in ``customers.txt``."""
    log, rng = open_purchases(folder / "data/processed/hm"), np.random.default_rng(seed)
    active = rng.permutation(np.flatnonzero(np.diff(log.offsets)))[:_DRAWN]
    customers = log.user_ids.take(active).to_pylist()
    write_text(folder / "customers.txt", "\n".join(customers))
    return customers, log.item_ids.take(rng.permutation(log.n_items)[:_DRAWN]).to_pylist()


def load(folder: Path, port: int, seconds: float, **options: object) -> Row:
    """Return the figures of :mod:`benchmarks.serve_load`."""
    given = {"port": port, "customers": folder / "customers.txt", "seconds": seconds} | options
    arguments = [f"--{name}={value}" for name, value in given.items()]
    return json.loads(run(["benchmarks.serve_load", *arguments], folder, "1"))


def rows_of_lists(server: Server, folder: Path, seconds: float, bare: Sequence[Row], pool: str) -> list[Row]:
    """Return the rows of closed loops out of the candidates ``pool``, and of half and three times the best of these."""
    rows, of_bare = [], {row["work"]: row for row in bare if row["system"] == "bare"}
    for clients in _CLIENTS:
        found = load(folder, server.port, seconds, candidates=pool, connections=clients)
        batches = of_bare[f"serve/{pool}/batches of {1 if clients == 1 else BATCH}"]
        name = "p50_ms" if clients == 1 else "value"
        ratio = {f"bare {name}": found[name] / batches[name]}
        rows.append({"work": f"serve/{pool}/{clients} clients", **found, "ratio_to": ratio})
    best = max(rows, key=lambda row: row["value"])
    for times in (0.5, 3):
        asked = times * best["value"]
        found = load(folder, server.port, seconds, candidates=pool, connections=_CONNECTIONS, rate=asked)
        ratio = {f"sustained {name}": found[name] / best[name] for name in ("value", "p50_ms", "p99_ms")}
        rows.append({"work": f"serve/{pool}/{times:g} x sustained", **found, "asked": asked, "ratio_to": ratio})
    return rows


def row_of_memory(server: Server, folder: Path, minutes: float, rate: float, items: Sequence[str]) -> Row:
    """Return the row of a long run at ``rate`` with a purchase a second: by how much the memory grows in it."""
    found, held, seconds = Row(), list[float](), 60 * minutes
    asking = threading.Thread(
        target=lambda: found.update(load(folder, server.port, seconds, connections=_CONNECTIONS, rate=rate))
    )
    asking.start()
    while asking.is_alive():
        session = f"memory-{len(held) // 10}"
        server.client.send_events(purchases(f"{session}-{len(held)}", items[:1], session_id=session))
        held.append(server.memory_mb())
        asking.join(1)
    row = {"work": f"serve/memory over {minutes:g} min", **found, "lists_per_second": found["value"], "asked": rate}
    return row | growth(held) | {"unit": "MB"}


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all rows, and the most memory that the server held."""
    customers, items = draw(folder)
    for old in folder.glob("*.sqlite*"):
        old.unlink()
    bare = json.loads(run(["benchmarks.serve_run", "--seconds", str(arguments.seconds)], folder, "1"))
    rows: list[Row] = []

    def add(*found: Row) -> None:
        rows.extend(found)
        talk.print(table([{"system": "recsys"} | row for row in found]).split("\n", 2)[2], markup=False)

    with Server(folder, arguments.port, folder / "speed.sqlite") as server:
        for pool in ("all", "on_sale"):
            add(*rows_of_lists(server, folder, arguments.seconds, bare, pool))
        half = next(row["asked"] for row in rows if "asked" in row)
        add(row_of_reads(server, customers, arguments.reads))
        add(row_of_events(server, customers, items, arguments.seconds))
        if arguments.minutes:
            add(row_of_memory(server, folder, arguments.minutes, half, items))
        peak_gb = server.memory_mb("VmHWM") / 1000
    if arguments.kills:
        add(row_of_kills(folder, arguments.port, folder / "kills.sqlite", items, arguments.kills))
    return {"rows": [*bare, *({"system": "recsys"} | row for row in rows)], "peak_memory_gb": peak_gb}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| work | system | value | p50, ms | p99, ms | refused | ratios |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        statuses = row.get("statuses", {})
        refused = statuses.get("429", 0) / sum(statuses.values()) if statuses else 0
        cells = [row["work"], row["system"], f"{row['value']:,.0f} {row['unit']}"]
        cells += [f"{row[name]:,.1f}" if name in row else "" for name in ("p50_ms", "p99_ms")]
        cells += [f"{refused:.0%}" if refused else ""]
        cells += ["; ".join(f"{value:.2f} of {name}" for name, value in row.get("ratio_to", {}).items())]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder in which the run is made, or found; a temporary one without")
    parser.add_argument("--customers", type=int, default=50_000)
    parser.add_argument("--articles", type=int, default=105_542, help="105,542 are H&M's")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--reads", type=int, default=1_000, help="events after each of which a list is asked for")
    parser.add_argument("--minutes", type=float, default=30, help="of the long run; 0 leaves it out")
    parser.add_argument("--kills", type=int, default=50, help="of the server; 0 leaves them out")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    before = limit_gflops()
    with ExitStack() as stack:
        folder = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-serve-")))
        make_run(folder.resolve(), arguments.customers, arguments.articles)
        found = {"limit_gflops": [before], **measure(folder.resolve(), arguments)}
    found["limit_gflops"].append(limit_gflops())
    found |= {"commit": code_version(), "date": time.strftime("%Y-%m-%d")}
    write_json(Path(__file__).parent / "results/serve.json", found)
    what = (__doc__ or "").partition("\n")[2]
    limits = " and ".join(f"{one:,.0f}" for one in found["limit_gflops"])
    sizes = f"--customers {arguments.customers} --seconds {arguments.seconds:g}"
    options = f"{sizes} --minutes {arguments.minutes:g} --kills {arguments.kills}"
    section = f"""## The service

`python -m benchmarks.serve {options}`:
{what.strip()}

The limit is {limits} billion operations a second before and after; the server held {found["peak_memory_gb"]:.1f} GB at
most. {machine()}; {found["date"]}, commit {found["commit"]}.

{table(found["rows"])}
"""
    write_section("bench-serve", section)
    talk.print(section)


if __name__ == "__main__":
    main()
