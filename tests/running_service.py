"""A small shop with two trained runs, and the real service of them: a process of its own, spoken to over HTTP."""

import datetime as dt
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import recsys

FIRST = dt.datetime(2024, 1, 1)
N_USERS, N_ITEMS, N_DAYS = 60, 40, 100
COLUMNS = {"user": "customer", "item": "item_id", "time": "time", "price": "price", "quantity": "quantity"}
SETTINGS = {
    "model.width": 16,
    "model.n_layers": 1,
    "model.max_length": 32,
    "training.epochs": 1,
    "training.query_windows": 2,
    "predict.segment": "age",
}
KEYS = {role: f"a key of {role}s that is long" for role in ("reader", "writer", "admin")}
COLOURS = ("red", "blue", "green")


def purchases() -> pl.DataFrame:
    """Purchases of some months: every customer has four favourites, and buys something else now and then."""
    random, n = np.random.default_rng(7), 3000
    user = random.integers(0, N_USERS, n)
    favourites = random.integers(0, N_ITEMS - 5, (N_USERS, 4))  # the last five are sold by live events alone
    item = np.where(
        random.random(n) < 0.7, favourites[user, random.integers(0, 4, n)], random.integers(0, N_ITEMS - 5, n)
    )
    seconds = np.sort(random.integers(0, N_DAYS * 86_400, n))
    return pl.DataFrame(
        {
            "customer": [f"u{number}" for number in user],
            "item_id": [f"i{number}" for number in item],
            "time": [FIRST + dt.timedelta(seconds=int(second)) for second in seconds],
            "price": random.integers(1, 9, n).astype(float),
            "quantity": random.integers(1, 4, n).astype(float),
        }
    )


def write_runs(folder: Path) -> list[Path]:
    """Train two runs of different seeds on the same purchases; return their folders."""
    items = pl.DataFrame(
        {
            "item_id": [f"i{number}" for number in range(N_ITEMS)],
            "name": [f"Scarf number {number}" for number in range(N_ITEMS)],
            "colour": [COLOURS[number % 3] for number in range(N_ITEMS)],
            "size": [None if number % 4 == 0 else number / 4 for number in range(N_ITEMS)],
            "since": [FIRST.date() for _ in range(N_ITEMS)],
        }
    )
    users = pl.DataFrame(
        {
            "customer": [f"u{number}" for number in range(N_USERS)],
            "age": [str(20 + number % 3) for number in range(N_USERS)],
        }
    )
    shop = recsys.Purchases.from_frame(purchases(), **COLUMNS, items=items, users=users)
    runs = [folder / "first", folder / "second"]
    for seed, run in enumerate(runs):
        recsys.fit(shop, seed=seed, until="end", settings=SETTINGS).save(run)
    return runs


@dataclass(frozen=True)
class Reply:
    """What the service answered."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class Running:
    """A service that runs."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    headers: Mapping[str, str] = field(default_factory=dict)  # of every request

    def ask(self, path: str, body: object = None, *, method: str | None = None, **headers: str) -> Reply:
        """Return the answer to a request: POST where there is a body, which is made JSON unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method or ("GET" if body is None else "POST"),
                path,
                raw,
                {"Content-Type": "application/json", **self.headers, **named},
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return Reply(answer.status, strict(content) if is_json else content, dict(answer.headers))

    def get(self, path: str, body: object = None, **headers: str) -> Any:
        """Return the body of an answer that must be 200."""
        reply = self.ask(path, body, **headers)
        assert reply.status == 200, (path, body, reply)
        return reply.body

    def send(self, *events: Mapping[str, Any], **others: Any) -> dict[str, Any]:
        """Send purchases; return what became of them."""
        answer: dict[str, Any] = self.get("/v1/events", {"events": list(events), **others})
        return answer

    def stop(self) -> int:
        """End the service as an operator would, and return its exit code; what it logged holds no traceback."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        assert "Traceback" not in self.log.read_text(), self.log.read_text()
        return code


def strict(content: bytes) -> Any:
    """Return what JSON holds; NaN and Infinity are no JSON."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(content, parse_constant=refuse)


def event(event_id: str, customer: str | None, item: str, time: object = None, **others: Any) -> dict[str, Any]:
    """Return a purchase of the last day of the data, or of another ``time``."""
    at = FIRST + dt.timedelta(days=N_DAYS - 1, hours=23, minutes=59) if time is None else time
    whose = {} if customer is None else {"customer_id": customer}
    return {"event_id": event_id, **whose, "item_id": item, "timestamp": str(at), **others}


def ids_of(answer: Mapping[str, Any]) -> list[str]:
    """Return the item ids of a list."""
    return [item["item_id"] for item in answer["items"]]


@contextmanager
def running(run: Path, database: str, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Yield the service of a run that is ready, as ``recsys serve`` starts it; end it afterwards."""
    port = free_port()
    words = ["--run", str(run), "--port", str(port), "--database", database, *options]
    log = run.parent / f"serve-{port}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "recsys.cli", "serve", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    service = Running(process, port, log)
    try:
        _await(service)
        yield service
        if process.poll() is None:
            service.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _await(service: Running) -> None:
    for _ in range(600):
        assert service.process.poll() is None, service.log.read_text()
        with suppress(OSError):
            if service.ask("/health/ready").status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"the service is not ready: {service.log.read_text()}")
