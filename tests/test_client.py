import datetime as dt
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from recsys.client import Client, ClientError
from recsys.errors import RecsysError, UsageError


class Service(ThreadingHTTPServer):
    """Keeps what it was asked, and gives the answers that a test puts there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        self.peers: set[Any] = set()
        self.breaks_off = False  # close each connection behind its answer without a word
        self.pause = threading.Event()
        self.pause.set()

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client has gone away before its answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def reply(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.peers.add(self.client_address)
        self.server.asked.append((self.command, self.path, json.loads(raw) if raw else None, dict(self.headers)))
        self.server.pause.wait(5)
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.server.breaks_off

    do_GET = do_POST = do_PUT = reply  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, key="k3y", timeout=5) as opened:
        yield opened


CALLS = [
    (
        lambda client: client.recommend(customer_id="7", k=3, date=dt.date(2024, 5, 1), where={"colour": ["red"]}),
        ("POST", "/v1/recommend", {"customer_id": "7", "k": 3, "date": "2024-05-01", "where": {"colour": ["red"]}}),
    ),
    (lambda client: client.next("a/b", k=4), ("POST", "/v1/recommend/a%2Fb/next", {"k": 4})),
    (
        lambda client: client.batch([{"customer_id": "7"}, {"history": [{"item_id": "x", "date": "2024-05-01"}]}]),
        (
            "POST",
            "/v1/recommend/batch",
            {"requests": [{"customer_id": "7"}, {"history": [{"item_id": "x", "date": "2024-05-01"}]}]},
        ),
    ),
    (lambda client: client.similar("x", k=2), ("POST", "/v1/similar", {"item_id": "x", "k": 2, "by": "vector"})),
    (lambda client: client.items(search="hat"), ("POST", "/v1/items/query", {"search": "hat"})),
    (lambda client: client.customers(random=3), ("POST", "/v1/customers/query", {"random": 3})),
    (lambda client: client.history(session_id="s"), ("POST", "/v1/customers/history", {"session_id": "s"})),
    (
        lambda client: client.send_events(
            [{"event_id": "1", "customer_id": "7", "item_id": "x", "timestamp": dt.datetime(2024, 5, 1, 9, 30)}],
            items=({"item_id": "x"},),
        ),
        (
            "POST",
            "/v1/events",
            {
                "events": [{"event_id": "1", "customer_id": "7", "item_id": "x", "timestamp": "2024-05-01T09:30:00"}],
                "items": [{"item_id": "x"}],
            },
        ),
    ),
    (lambda client: client.delete_customer("7"), ("POST", "/v1/customers/delete", {"customer_id": "7"})),
    (lambda client: client.scenarios(), ("GET", "/v1/scenarios", None)),
    (
        lambda client: client.put_scenario("sale", {"repeats": "none"}, who="olga"),
        ("PUT", "/v1/scenarios", {"name": "sale", "settings": {"repeats": "none"}, "who": "olga"}),
    ),
    (
        lambda client: client.remove_scenario("sale", who="olga"),
        ("POST", "/v1/scenarios/delete", {"name": "sale", "who": "olga"}),
    ),
    (lambda client: client.scenario_changes("sale"), ("POST", "/v1/scenarios/changes", {"name": "sale"})),
    (lambda client: client.metrics(), ("GET", "/v1/metrics/scenarios", None)),
    (lambda client: client.models(), ("GET", "/v1/models", None)),
    (lambda client: client.switch_model("demo"), ("POST", "/v1/admin/model", {"run": "demo"})),
]


@pytest.mark.parametrize(("call", "expected"), CALLS, ids=[f"{asked[0]} {asked[1]}" for _, asked in CALLS])
def test_each_method_asks_what_the_service_offers(service: Service, client: Client, call, expected) -> None:
    answer = {name: [1] for name in ("answers", "items", "rows", "scenarios", "changes")}
    service.answer = (200, {}, json.dumps(answer).encode())
    found = call(client)
    assert service.asked[0][:3] == expected
    assert service.asked[0][3]["Authorization"] == "Bearer k3y"
    assert found in (answer, [1])


def test_without_a_key_none_is_sent_and_a_path_before_the_service_is_kept(service: Service) -> None:
    with Client(service.url + "/shop/") as client:
        client.models()
    assert service.asked[0][1] == "/shop/v1/models"
    assert "Authorization" not in service.asked[0][3]


def test_requests_share_a_connection_and_threads_do_not(service: Service, client: Client) -> None:
    for _ in range(5):
        client.models()
    assert len(service.peers) == 1
    service.pause.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.models) for _ in range(4)]
        while len(service.asked) < 9:
            time.sleep(0.005)
        service.pause.set()
        assert [answer.result() for answer in answers] == [{}] * 4
    assert len(service.peers) == 4


def test_a_connection_that_was_closed_meanwhile_is_replaced_once(service: Service, client: Client) -> None:
    service.breaks_off = True
    assert [client.models() for _ in range(4)] == [{}] * 4
    assert len(service.asked) == len(service.peers) == 4  # none was lost, and none asked twice


def test_a_service_that_ends_is_unreachable_and_not_asked_for_ever(service: Service, client: Client) -> None:
    assert client.ready()
    service.shutdown()
    service.server_close()
    service.breaks_off = True
    client.models()  # on the connection that is open
    with pytest.raises(ClientError, match=r"cannot be reached \(.*refused\); check that it runs") as caught:
        client.models()
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
    assert not client.ready()


def test_an_error_says_code_message_field_and_when_to_come_again(service: Service, client: Client) -> None:
    said = {"code": "unknown_item", "message": "found x; expected an item", "field": "history.3.item_id"}
    service.answer = (422, {}, json.dumps({"error": said}).encode())
    with pytest.raises(ClientError, match="found x; expected an item") as caught:
        client.recommend(customer_id="7")
    error = caught.value
    assert isinstance(error, RecsysError)
    assert (error.code, error.field, error.status, error.retry_after) == ("unknown_item", said["field"], 422, None)
    service.answer = (503, {"Retry-After": "2"}, json.dumps({"error": {"code": "busy", "message": "m"}}).encode())
    with pytest.raises(ClientError) as caught:
        client.recommend(customer_id="7")
    assert (caught.value.code, caught.value.retry_after) == ("busy", 2.0)
    assert not client.ready()


@pytest.mark.parametrize(
    ("answer", "code"),
    [((502, {}, b"<html>Bad gateway"), "no_json"), ((404, {}, b'{"detail": "Not Found"}'), "unknown")]
    + [((500, {}, body), "unknown") for body in (b"[]", b"null", b'{"error": "text"}')],
)
def test_what_is_no_answer_of_a_service_is_an_error_of_ours(service: Service, client: Client, answer, code) -> None:
    service.answer = answer
    with pytest.raises(ClientError) as caught:
        client.models()
    assert (caught.value.code, caught.value.status) == (code, answer[0])
    assert service.url in str(caught.value)


def test_a_service_that_does_not_answer_is_left_after_the_timeout(service: Service) -> None:
    service.pause.clear()
    with Client(service.url, timeout=0.2) as client, pytest.raises(ClientError, match=r"within 0\.2 s") as caught:
        client.models()
    service.pause.set()
    assert caught.value.code == "timeout"
    assert len(service.asked) == 1


def test_nobody_at_the_address_is_said_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(ClientError, match=f"{url} cannot be reached"):
        Client(url).models()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"expected one such as http://127\.0\.0\.1:8000"):
        Client(url)


def test_a_key_that_would_end_the_header_is_refused() -> None:
    with pytest.raises(UsageError, match="holds signs that no header may"):
        Client("http://host", key="a\r\nX: y")


def test_what_json_cannot_hold_is_refused_before_it_is_sent(service: Service, client: Client) -> None:
    with pytest.raises(TypeError, match="expected text, a number, a date or a list"):
        client.similar(object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Out of range float"):
        client.put_scenario("a", {"boosts": [{"add": float("nan")}]}, who="olga")
    assert service.asked == []


def test_the_client_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import recsys.client\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['recsys']"
