"""Purchases that the service takes: how fast, whether the next list knows them, and whether a kill loses any."""

import random
import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from benchmarks.process import Server
from recsys.client import Client, ClientError, Event

Row = dict[str, Any]
_BATCH, _KILL_BATCH = 1_000, 20
#: Of the newest day of the made-up purchases, so that the day asked stays.
_TIME: Final = "2020-09-22T18:00:00"


def purchases(name: str, items: Sequence[str], **who: str) -> list[Event]:
    """Return a purchase of each of ``items``, whose quantity is its number from 1 on."""
    made: Any = [
        {"event_id": f"{name}-{number}", "item_id": item, "timestamp": _TIME, "quantity": number, **who}
        for number, item in enumerate(items, start=1)
    ]
    return cast("list[Event]", made)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    return {f"p{cut}_ms": 1000 * float(np.percentile(seconds, cut)) for cut in (50, 99)}


def row_of_events(server: Server, customers: Sequence[str], items: Sequence[str], seconds: float) -> Row:
    """Return the row of purchases that are sent in batches, one after another, and what the next list takes."""
    n_accepted, times, began = 0, list[float](), time.perf_counter()
    while (sent := time.perf_counter()) < began + seconds:
        batch = purchases(f"rate-{len(times)}", items[:_BATCH])
        for place, event in enumerate(batch):
            event["customer_id"] = customers[(len(times) * _BATCH + place) % len(customers)]
        n_accepted += server.client.send_events(batch)["accepted"]
        times.append(time.perf_counter() - sent)
    taken = time.perf_counter()
    server.client.recommend(customer_id=customers[0])
    row = {"work": f"serve/events in batches of {_BATCH:,}", "value": n_accepted / (taken - began), "unit": "events/s"}
    return row | percentiles(times) | {"next_list_ms": 1000 * (time.perf_counter() - taken)}


def row_of_reads(server: Server, customers: Sequence[str], n: int) -> Row:
    """Return the row of ``n`` customers who buy the first of their list, and at once get another without it."""
    n_stale, times, client = 0, list[float](), server.client
    for number, customer in zip(range(n), customers, strict=False):
        first = client.recommend(customer_id=customer, repeats="none")["items"][0]["item_id"]
        began = time.perf_counter()
        client.send_events(purchases(f"read-{number}", [first], customer_id=customer))
        after = client.recommend(customer_id=customer, repeats="none")["items"]
        times.append(time.perf_counter() - began)
        n_stale += first in [item["item_id"] for item in after]
    return {"work": f"serve/event and list, {n:,} times", "value": n_stale, "unit": "stale lists"} | percentiles(times)


def send_until_broken(client: Client, name: str, items: Sequence[str], taken: list[str]) -> str:
    """Send batches, a session each, until the server is gone; return the session that it did not acknowledge."""
    for number in count():
        session = f"{name}-{number}"
        try:
            client.send_events(purchases(session, items[:_KILL_BATCH], session_id=session))
        except ClientError:
            return session
        taken.append(session)
    raise AssertionError


def losses(bought: Sequence[float], n: int) -> tuple[int, int]:
    """Return how many of the purchases with the numbers 1 to ``n`` are missing, and how many are too many.

    >>> losses([1, 3, 3, 7], 3)
    (1, 2)
    """
    there = set(bought) & set(range(1, n + 1))
    return n - len(there), len(bought) - len(there)


def row_of_kills(folder: Path, port: int, database: Path, items: Sequence[str], n_kills: int) -> Row:
    """Return the row of a server that is killed ``n_kills`` times while it takes purchases, and started again.

    What it did not acknowledge is sent once more, as a shop would. In the end each purchase must be there exactly once.
    """
    taken, starts, unsure, rng = list[str](), list[float](), "", random.Random(42)  # noqa: S311 - moments, not secrets
    for number in range(n_kills + 1):
        with Server(folder, port, database) as server:
            starts.append(server.start_s)
            if unsure:
                server.client.send_events(purchases(unsure, items[:_KILL_BATCH], session_id=unsure))
                taken.append(unsure)
            if number < n_kills:
                killer = threading.Timer(rng.uniform(0.05, 1.5), server.process.kill)
                killer.start()
                unsure = send_until_broken(server.client, f"kill-{number}", items, taken)
                killer.join()
            else:
                wrong = [losses(numbers_of(server.client, session), _KILL_BATCH) for session in taken]
    n_lost, n_doubled = (sum(part) for part in zip(*wrong, strict=True))
    row = {"work": f"serve/{n_kills} kills", "value": n_lost, "unit": "events lost", "doubled": n_doubled}
    return row | {"acknowledged": len(taken) * _KILL_BATCH, "start_s": float(np.median(starts))}


def numbers_of(client: Client, session: str) -> list[float]:
    """Return the quantities that a session bought; none where it is unknown."""
    try:
        return [one["quantity"] for one in client.history(session_id=session)["purchases"]]
    except ClientError as error:
        if error.code != "unknown_customer":
            raise
        return []


def growth(held: Sequence[float]) -> dict[str, float]:
    """Return the medians of the second tenth and of the last, and the difference: what is kept on purpose comes first.

    >>> growth([1, 2, 3, 4, 5, 6, 7, 8, 9, 11])
    {'early_mb': 2.0, 'late_mb': 11.0, 'value': 9.0}
    """
    tenth = max(len(held) // 10, 1)
    early, late = float(np.median(held[tenth : 2 * tenth])), float(np.median(held[-tenth:]))
    return {"early_mb": early, "late_mb": late, "value": late - early}
