"""Customers who ask the service for lists, in a process of their own: ``python -m benchmarks.serve_load``.

Closed loop: each of so many connections asks again as soon as it has its answer. Open loop, with ``--rate``: requests
come at random times, whether or not the server keeps up; what waits for a free connection waits for the server, and its
time counts. Prints JSON.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import uvloop

#: Seconds after the start that are not measured.
_WARM_UP_S: Final = 2.0


class Sample(NamedTuple):
    """A request: when it was due, how long its answer took, and the status, 0 where the connection broke."""

    due: float
    seconds: float
    status: int


class Connection(asyncio.Protocol):
    """A connection that is kept, for one request at a time."""

    def __init__(self) -> None:
        self._received, self._answer = b"", asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self._received = b""
            self._answer.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, _: Exception | None) -> None:
        """Say that no answer comes."""
        if not self._answer.done():
            self._answer.set_result(0)

    async def ask(self, request: bytes) -> int:
        """Return the status of the answer to a request."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            return 0
        self._transport.write(request)
        return await self._answer


def requests(customers: Sequence[str], candidates: str, port: int) -> list[bytes]:
    """Return a request for each of ``customers``, as it goes over the wire."""
    bodies = [json.dumps({"customer_id": one, "candidates": candidates}).encode() for one in customers]
    head = (
        f"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    )
    return [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]


async def closed_loop(connections: list[Connection], sent: Iterator[bytes], until: float) -> list[Sample]:
    """Return the samples of connections that ask without a pause."""
    samples = []

    async def loop(connection: Connection) -> None:
        while (due := time.perf_counter()) < until:
            status = await connection.ask(next(sent))
            samples.append(Sample(due, time.perf_counter() - due, status))
            if not status:
                return

    await asyncio.gather(*map(loop, connections))
    return samples


async def open_loop(connections: list[Connection], sent: Iterator[bytes], until: float, rate: float) -> list[Sample]:
    """Return the samples of requests that come ``rate`` a second, after gaps drawn from an exponential distribution."""
    samples, waiting, rng = [], set(), np.random.default_rng(42)
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for connection in connections:
        idle.put_nowait(connection)

    async def one(due: float) -> None:
        connection = await idle.get()
        status = await connection.ask(next(sent))
        samples.append(Sample(due, time.perf_counter() - due, status))
        if status:
            idle.put_nowait(connection)

    due = time.perf_counter()
    while (due := due + rng.exponential(1 / rate)) < until:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        waiting.add(task := asyncio.create_task(one(due)))
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return samples


def figures(samples: Sequence[Sample], begin: float, end: float) -> dict[str, Any]:
    """Return what became of the requests due from ``begin`` to ``end``: lists a second, their percentiles, statuses.

    A list counts when it is there, within the same time; the percentiles are those of lists alone.
    """
    measured = [one for one in samples if begin <= one.due < end]
    n_lists = sum(one.status == 200 and begin <= one.due + one.seconds < end for one in samples)
    found: dict[str, Any] = {"value": n_lists / (end - begin), "unit": "requests/s"}
    for name, status in (("", 200), ("refused_", 429)):
        times = [1000 * one.seconds for one in measured if one.status == status]
        if times:
            found |= {f"{name}p{cut}_ms": float(np.percentile(times, cut)) for cut in (50, 99)}
    return found | {"statuses": dict(sorted(Counter(str(one.status) for one in measured).items()))}


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a load."""
    loop, customers = asyncio.get_running_loop(), arguments.customers.read_text(encoding="utf-8").split()
    sent = cycle(requests(customers, arguments.candidates, arguments.port))
    connections = [
        (await loop.create_connection(Connection, "127.0.0.1", arguments.port))[1] for _ in range(arguments.connections)
    ]
    begin = time.perf_counter() + _WARM_UP_S
    end = begin + arguments.seconds
    if arguments.rate is None:
        samples = await closed_loop(connections, sent, end)
    else:
        samples = await open_loop(connections, sent, end, arguments.rate)
    return figures(samples, begin, end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--customers", type=Path, required=True, help="text, an id a line, in the order of asking")
    parser.add_argument("--candidates", choices=("all", "on_sale"), default="all")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, help="requests a second; as fast as answers come without it")
    parser.add_argument("--seconds", type=float, default=10)
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
