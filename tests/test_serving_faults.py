"""The service under load, killed, overloaded and stopped: nothing acknowledged is lost or doubled."""

import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.serving.store import Store
from tests.postgresql_server import address, new_server, started
from tests.running_service import Reply, Running, event, ids_of, running


@contextmanager
def at_once(*jobs: Callable[[], Any]) -> Iterator[threading.Event]:
    """Run each job again and again on a thread of its own until the block ends; what a job raises fails the test."""
    ended, failures = threading.Event(), list[BaseException]()

    def repeat(job: Callable[[], Any]) -> None:
        try:
            while not ended.is_set():
                job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=repeat, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield ended
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]


def rows_of(file: Path) -> Counter[str]:
    """Return how often each event stands in the database."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return Counter(name for (name,) in connection.execute("SELECT event_id FROM events"))
    finally:
        connection.close()


class Sender:
    """Sends events one by one, by an id of its own; remembers which were acknowledged."""

    def __init__(self, service: Running, name: str) -> None:
        self.service, self.name, self.n_tried, self.known = service, name, 0, list[str]()

    def __call__(self) -> None:
        self.n_tried += 1
        sent = [event(f"{self.name}-{self.n_tried}-{n}", self.name, f"i{n}") for n in range(3)]
        try:
            self.service.send(*sent)
        except (OSError, HTTPException):
            return
        self.known += [one["event_id"] for one in sent]


def test_what_was_acknowledged_is_there_once_after_three_kills_under_load(served_runs, tmp_path):
    file, known, n_sent = tmp_path / "store.sqlite", list[str](), 0
    for number in range(3):
        with running(served_runs[0], f"sqlite:///{file}") as service:
            earlier = [f"kill{before}-{n}" for before in range(number) for n in range(2)]
            counts = service.get("/v1/customers/query", {"ids": earlier})["customers"]
            assert sum(one["n_purchases"] for one in counts) == (len(rows_of(file)) if number else 0)
            senders = [Sender(service, f"kill{number}-{n}") for n in range(2)]

            def read(service: Running = service, number: int = number) -> None:
                try:
                    service.ask("/v1/recommend", {"customer_id": f"kill{number}-0", "k": 3})
                except (OSError, HTTPException):
                    time.sleep(0.01)

            with at_once(*senders, read):
                time.sleep(0.7)
                service.process.send_signal(signal.SIGKILL)
                service.process.wait()
        known += [one for sender in senders for one in sender.known]
        n_sent += sum(3 * sender.n_tried for sender in senders)
        rows = rows_of(file)
        assert set(rows.values()) == {1}
        assert set(known) <= set(rows)
        assert 50 < len(rows) <= n_sent


def test_postgresql_that_stops_loses_nothing_acknowledged_and_is_found_again_when_it_is_back(served_runs):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    known, answers = Counter[str](), Counter[int]()

    def is_said(reply: Reply) -> bool:
        answers[reply.status] += 1
        if reply.status != 200:
            assert (reply.status, reply.body["error"]["code"]) == (503, "no_store"), reply
            assert "check the address, and that the server runs" in reply.body["error"]["message"]
            assert int(reply.headers["retry-after"]) >= 1
        return reply.status == 200

    def sender(name: str) -> Callable[[], None]:
        def send() -> None:
            sent = [event(f"{name}-{known[name]}-{n}", name, f"i{n}") for n in range(3)]
            if is_said(service.ask("/v1/events", {"events": sent})):
                known[name] += 1  # else it sends the same again

        return send

    def is_shown() -> bool:
        return is_said(service.ask("/v1/recommend", {"customer_id": "u1", "k": 3}))

    names = [f"sender {number}" for number in range(3)]
    with new_server() as folder, ExitStack() as server:
        server.enter_context(started(folder))
        with running(served_runs[0], address(folder)) as service:
            with at_once(*map(sender, names), is_shown):
                for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT):
                    time.sleep(0.4)
                    server.close()
                    assert not is_shown()
                    batch = service.get("/v1/recommend/batch", {"requests": [{"k": 1}]})["answers"]
                    assert batch[0]["error"]["code"] == "no_store"
                    assert service.ask("/health/ready").status == 200
                    time.sleep(0.2)
                    server.enter_context(started(folder, how))
                    assert is_shown()
                time.sleep(0.4)
            for name in names:
                is_said(service.ask("/v1/events", {"events": [event(f"{name}-end", name, "i5")]}))
            counts = service.get("/v1/customers/query", {"ids": names})["customers"]
        store = Store.open(address(folder))
        rows = Counter(row.event_id for _, row in store.events())
        store.close()
    assert set(rows.values()) == {1}
    assert {f"{name}-{place}-{n}" for name in names for place in range(known[name]) for n in range(3)} <= set(rows)
    assert sum(one["n_purchases"] for one in counts) == len(rows)  # what came again is counted, though it was there
    assert answers[200] > 50
    assert answers[503] > 10


def test_many_read_while_events_arrive_and_each_reads_its_own(service):
    n_before = service.get("/v1/items/query", {"ids": ["i12"]})["items"][0]["sold_28"]
    n_read = Counter[str]()

    def shopper(name: str) -> Callable[[], None]:
        def shop() -> None:
            n_read[name] += 1
            service.send(event(f"{name} {n_read[name]}", name, f"i{n_read[name] % 35}"))
            bought = service.get("/v1/customers/history", {"customer_id": name, "limit": 5000})["purchases"]
            assert len(bought) == n_read[name]
            assert len(service.get("/v1/recommend", {"customer_id": name, "k": 5})["items"]) == 5

        return shop

    names = [f"shopper {number}" for number in range(6)]
    with at_once(*map(shopper, names)):
        time.sleep(2)
    assert min(n_read.values()) > 5
    sold = service.get("/v1/items/query", {"ids": ["i12"]})["items"][0]["sold_28"]
    assert sold == n_before + sum(n_read[name] >= 12 for name in names)


def test_two_that_continue_one_list_at_once_are_shown_different_items(service):
    begun = service.get("/v1/recommend", {"customer_id": "u50", "k": 2})
    pages, address = list[str](), f"/v1/recommend/{begun['recommendation_id']}/next"
    threads = [threading.Thread(target=lambda: pages.extend(ids_of(service.get(address, {"k": 4})))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = ids_of(begun) + pages
    assert (len(shown), len(set(shown))) == (26, 26)


def test_every_answer_is_that_of_the_model_it_names_while_models_are_switched(service):
    requests = [{"customer_id": f"u{number}", "k": 6} for number in range(8)]
    own, seen = {}, Counter[str]()
    for name in ("second", "first"):
        service.get("/v1/admin/model", {"run": name})
        own[name] = service.get("/v1/recommend/batch", {"requests": requests})["answers"]
    assert [ids_of(one) for one in own["first"]] != [ids_of(one) for one in own["second"]]

    def ask() -> None:
        for number, answer in enumerate(service.get("/v1/recommend/batch", {"requests": requests})["answers"]):
            expected = own[answer["model"]][number]
            seen[answer["model"]] += 1
            assert ids_of(answer) == ids_of(expected)
            scores = [[item["score"] for item in one["items"]] for one in (answer, expected)]
            np.testing.assert_allclose(*scores, atol=1e-4)

    with at_once(*[ask] * 3):
        for name in ("second", "first") * 4:
            assert service.get("/v1/admin/model", {"run": name})["model"] == name
            assert service.get("/v1/recommend", {"k": 1})["model"] == name
            time.sleep(0.15)
    assert min(seen["first"], seen["second"]) > 30


def test_an_overloaded_service_refuses_at_once_serves_the_rest_fast_and_ends_with_answers(served_runs, tmp_path):
    served, refused, ended = list[float](), list[float](), threading.Event()
    days = [f"2024-03-{number:02}" for number in range(1, 9)]

    def ask() -> None:
        began = time.perf_counter()
        try:
            day = days[(len(served) + len(refused)) % 8]
            reply = service.ask("/v1/recommend", {"customer_id": "u1", "k": 20, "reasons": True, "date": day})
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):  # connected, and not accepted yet
            ended.set()
            time.sleep(0.05)
            return
        took = time.perf_counter() - began
        if reply.status == 200:
            served.append(took)
        else:
            assert (reply.status, reply.body["error"]["code"]) in ((429, "busy"), (503, "late")), reply
            assert int(reply.headers["retry-after"]) >= 1
            refused.append(took)

    options = ("--queue", "4", "--deadline", "1")
    with running(served_runs[0], f"sqlite:///{tmp_path}/store.sqlite", *options) as service, at_once(*[ask] * 24):
        for _ in range(40):  # overload is no reason to send it nobody
            assert service.ask("/health/ready").status == 200
            time.sleep(0.05)
        assert not ended.is_set()
        n_served = len(served)
        assert service.stop() == 0  # what was in flight was answered: a request cut off would have raised
        assert ended.wait(5)
    assert len(served) > n_served > 0
    assert np.median(served) < 2.5  # of which 1 at most in the queue
    assert np.median(refused) < 1
