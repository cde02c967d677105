"""What the service refuses: strangers, bodies that are none, too much; and what it cannot start with."""

import asyncio
import json
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from recsys.cli import build_app
from recsys.console import run
from recsys.serving import gate
from recsys.serving.figures import Figures
from recsys.serving.gate import Gate, Rate
from recsys.serving.store import Store
from recsys.serving.worker import Worker
from tests.running_service import KEYS, Running, event, free_port, strict

NEEDS = [
    ("/v1/recommend", {"k": 1}, "POST", "reader"),
    ("/v1/recommend/batch", {"requests": [{"k": 1}]}, "POST", "reader"),
    ("/v1/models", None, "GET", "reader"),
    ("/metrics", None, "GET", "reader"),
    ("/openapi.json", None, "GET", "reader"),
    ("/v1/explore/about", None, "GET", "reader"),
    ("/v1/nothing", None, "GET", "reader"),
    ("/v1/events", {"events": []}, "POST", "writer"),
    ("/v1/saved-customers", {"customer_ids": []}, "PUT", "writer"),
    ("/v1/scenarios", {"name": "s", "who": "me", "settings": {}}, "PUT", "writer"),
    ("/v1/scenarios/delete", {"name": "s", "who": "me"}, "POST", "writer"),
    ("/v1/customers/delete", {"customer_id": "nobody"}, "POST", "admin"),
    ("/v1/admin/model", {"run": "first"}, "POST", "admin"),
]


def error_of(reply) -> str:
    """Return the code of an error, which has the one form."""
    assert 400 <= reply.status < 500, reply
    assert set(reply.body) == {"error"}
    assert set(reply.body["error"]) == {"code", "message", "field"}
    assert "Traceback" not in reply.body["error"]["message"]
    return reply.body["error"]["code"]


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[role]}"}


def test_each_role_may_do_what_it_needs_and_no_more(guarded):
    roles = list(KEYS)
    for path, body, method, least in NEEDS:
        for wrong in (
            {"Authorization": ""},
            {"Authorization": "Bearer wrong"},
            {"Authorization": bearer("admin")["Authorization"][7:]},
        ):
            reply = guarded.ask(path, body, method=method, **wrong)
            assert (reply.status, error_of(reply)) == (401, "no_key"), path
            assert reply.headers["www-authenticate"] == "Bearer"
        for role in roles:
            reply = guarded.ask(path, body, method=method, **bearer(role))
            if roles.index(role) < roles.index(least):
                assert (reply.status, error_of(reply)) == (403, "weak_key"), (path, role)
            else:
                assert reply.status == 200 or error_of(reply) in ("http_404", "unknown_scenario"), (path, role, reply)
    for path in ("/health/live", "/health/ready", "/"):
        assert guarded.ask(path, Authorization="").status == 200


def test_a_worker_answers_until_it_ends():
    worker = Worker(lambda asked: asked)
    assert worker.is_answering
    worker.close()
    assert not worker.is_answering


def test_a_worker_that_hangs_does_not_answer_until_it_goes_on(monkeypatch):
    monkeypatch.setattr("recsys.serving.worker.HANGS_AFTER_S", 0.05)
    worker, goes_on = Worker(lambda asked: asked), threading.Event()
    hanging = threading.Thread(target=worker.run, args=(goes_on.wait,))
    hanging.start()
    time.sleep(0.1)
    assert not worker.is_answering
    goes_on.set()
    hanging.join()
    worker.run(lambda: None)  # it has come to the next
    time.sleep(0.1)  # between two there is nothing to hang at
    assert worker.is_answering
    worker.close()


def test_a_slow_rate_lets_one_request_through_at_a_time():
    rate = Rate(0.1)
    assert [rate.take("me"), rate.take("me"), rate.take("you")] == [True, False, True]


def test_without_keys_only_this_machine_is_answered(service):
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        assert error_of(service.ask("/v1/models", Host=host)) == "foreign_host"
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]", "[::1]:8000"):
        assert service.ask("/v1/models", Host=host).status == 200


NASTY = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "deep lists": b'{"history": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"where": ' * 50_000 + b"1" + b"}" * 50_000,
    "a huge number": b'{"k": ' + b"9" * 5_000 + b"}",
    "unknown fields": b'{"surprise": 1}',
    "half a pair": b'{"customer_id": "\\ud800", "item_id": "\\udfff", "name": "\\ud800", "run": "\\ud800"}',
    "a NUL": b'{"customer_id": "\\u0000", "item_id": "\\u0000", "name": "\\u0000", "run": "\\u0000"}',
    "no number": b'{"k": NaN, "limit": Infinity, "item_id": "i1", "customer_id": "u1"}',
    "a float": b'{"k": 1.5, "limit": 1.5, "item_id": 1, "customer_id": true}',
}


@pytest.mark.parametrize("body", NASTY.values(), ids=NASTY)
def test_bodies_that_are_none_are_refused_on_every_route(service, body):
    for path, routes in service.get("/openapi.json")["paths"].items():
        for method in {"post", "put"} & set(routes):
            reply = service.ask(path.replace("{recommendation_id}", "x"), body, method=method.upper())
            assert error_of(reply) in ("invalid", "no_json", "unknown_model"), (path, reply)
            assert reply.status in (400, 404, 422)


def test_values_that_no_field_can_hold_are_refused_and_named(service):
    bought = {"item_id": "i1", "date": "2024-03-01"}
    wrong = {
        "k": [0, -1, 201, "3", True, None, 10**400],
        "date": ["2024-02-30", "tomorrow", 20240101, "2024-01-01T00:00:00", "0001-01-01"],
        "customer_id": ["", "x" * 257, 7, ["u1"]],
        "candidates": ["some", [""], ["moon"], [["i1"]], 3],
        "where": [{"weight": ["1"]}, {"colour": ["mauve"]}, {"colour": "red"}, {"colour": [1]}],
        "history": [[bought | {"quantity": "1e400"}], [bought | {"date": "x" * 10**6}], [{}], [bought] * 2001, "i1"],
        "exclude": [["i1"] * 10_001],
        "repeats": ["never"],
        "system": ["decoders", ""],
        "scenario": ["none", "x" * 65],
    }
    for name, values in wrong.items():
        for value in values:
            reply = service.ask("/v1/recommend", {name: value})
            assert error_of(reply), (name, value)
            assert reply.status == 422, (name, value)
            assert reply.body["error"]["field"].split(".")[0] == name
            assert len(reply.body["error"]["message"]) < 500
    assert len(service.get("/v1/recommend", {"k": 2.0})["items"]) == 2
    answers = service.get("/v1/recommend/batch", {"requests": [{"k": 1}, {"where": {"weight": ["1"]}}]})["answers"]
    assert answers[1]["error"]["field"] == "where.weight"
    assert len(answers[0]["items"]) == 1


def test_methods_addresses_types_and_sizes(service):
    for path, allowed in (("/v1/recommend", "POST"), ("/v1/scenarios", "GET, PUT")):
        reply = service.ask(path, {}, method="DELETE")
        assert (error_of(reply), reply.headers["allow"]) == ("http_405", allowed)
    for path in (
        "/v1/nothing",
        "/v1/recommend/",
        "/static/../serving/gate.py",
        "/static/..%2fgate.py",
        "/docs",
        "/redoc",
    ):
        assert error_of(service.ask(path)) == "http_404", path
    assert error_of(service.ask("/v1/recommend", b"k=1", Content_Type="application/x-www-form-urlencoded")) == "no_json"
    assert error_of(service.ask("/v1/recommend", b"{}", Content_Type="")) == "no_json"
    long = service.ask("/v1/recommend", b'{"k": 1}' + b" " * (5 << 20))
    assert (long.status, error_of(long)) == (413, "too_long")
    assert service.ask("/v1/recommend", b'{"k": 1}' + b" " * (3 << 20)).status == 200
    for name in ("%00", "a" * 65, "a" * 60_000):
        assert service.ask(f"/v1/recommend/{name}/next", {"k": 1}).status in (400, 422)
    answer = service.ask("/v1/models")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_an_id_of_one_kind_is_none_of_another(service):
    begun = service.get("/v1/recommend", {"customer_id": "u1", "k": 1})["recommendation_id"]
    for path, body in (
        (f"/v1/recommend/{'u1'}/next", {"k": 1}),
        ("/v1/customers/history", {"customer_id": "i1"}),
        ("/v1/customers/history", {"session_id": "u1"}),
        ("/v1/similar", {"item_id": "u1"}),
        ("/v1/recommend", {"candidates": ["u1"]}),
        ("/v1/recommend", {"scenario": begun}),
        ("/v1/recommend", {"system": "first"}),
        ("/v1/admin/model", {"run": "decoder"}),
    ):
        assert error_of(service.ask(path, body)).startswith("unknown_"), path
    assert service.send(event(begun, "u59", "i1", recommendation_id=begun))["accepted"] == 1


def said(port: int, *parts: bytes, ends: bool = False) -> bytes:
    """Return what a server says to bytes that are sent part by part."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_what_is_no_request_of_http_ends_the_connection_and_nothing_else(service):
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    closing = chunked.replace(b"Host:", b"Connection: close\r\nHost:")
    whole = said(service.port, closing, b'5\r\n{"k":\r\n', b"3\r\n 1}\r\n", b"0\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 200")
    assert said(service.port, HEAD + b"Content-Length: 100\r\n\r\n", b'{"k"', ends=True) == b""
    for broken in (b"\x16\x03\x01 hello\r\n\r\n", HEAD + b"Content-Length: -1\r\n\r\n", chunked + b"zz\r\n"):
        answer = said(service.port, broken, ends=True)
        assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer
    assert service.ask("/health/ready").status == 200


@contextmanager
def gated(keys: dict | None = None, rate: float = 1e6) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the port of a server whose application is nothing but the gate, and the bodies that came through."""
    bodies: list[bytes] = []

    async def application(scope, receive, send):
        bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"{}"})

    port = free_port()
    app = Gate(application, Figures(), keys or {}, Rate(rate), [], lambda: None)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port, bodies
    finally:
        server.should_exit = True
        thread.join()


def test_who_asks_too_often_waits_and_nobody_else_does():
    keys = {"reader": [KEYS["reader"]], "writer": [KEYS["writer"]]}
    with gated(keys, 10) as (port, _):
        service = Running(None, port, Path())
        replies = [service.ask("/v1/models", {}, **bearer("reader")) for _ in range(60)]
        refused = [reply for reply in replies if reply.status == 429]
        assert 20 <= len(replies) - len(refused) < 60
        assert error_of(refused[0]) == "too_fast"
        assert service.ask("/v1/models", {}, **bearer("writer")).status == 200
        assert {service.ask("/health/ready").status for _ in range(60)} == {200}
        time.sleep(int(refused[-1].headers["retry-after"]))
        assert service.ask("/v1/models", {}, **bearer("reader")).status == 200


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch):
    monkeypatch.setattr(gate, "_BODY_S", 0.1)
    with gated() as (port, bodies):
        slow = said(port, HEAD + b"Content-Length: 4\r\n\r\n", b"{")
        assert said(port, HEAD + b"Content-Length: 4\r\n\r\n", b"{ ", b" }").startswith(b"HTTP/1.1 200")
    head, _, body = slow.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert strict(body)["error"]["code"] == "too_slow"
    assert bodies == [b"{  }"]


# What it cannot start with.


def line_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Return the exit code and the one line of a start that fails."""
    with pytest.raises(SystemExit) as ended:
        run(build_app("serve"), ["serve", *words])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return int(ended.value.code), lines[0]


def test_a_start_that_fails_is_one_line(served_runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for role in KEYS:
        monkeypatch.delenv(f"RECSYS_{role.upper()}_KEYS", raising=False)
    run_, port = str(served_runs[0]), str(free_port())
    words = ["--run", run_, "--port", port]
    assert "no keys are set" in line_of(capsys, *words, "--host", "192.0.2.1")[1]
    monkeypatch.setenv("RECSYS_READER_KEYS", "short")
    assert "a key of 5 characters" in line_of(capsys, *words)[1]
    monkeypatch.delenv("RECSYS_READER_KEYS")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(port)))
        assert "Address already in use" in line_of(capsys, *words)[1]
    assert "is not a run folder" in line_of(capsys, "--run", "nothing", "--port", port)[1]
    assert "is not a run folder" in line_of(capsys, *words, "--also", "nothing")[1]
    (tmp_path / "text.sqlite").write_text("no database " * 1000)
    (tmp_path / "empty.sqlite").write_bytes(b"")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE orders (id)")
    other.close()
    for name, why in (
        ("sqlite:///text.sqlite", "file is not a database"),
        ("sqlite:///other.sqlite", "holds other tables"),
        ("sqlite:////proc/none/x", "cannot be made"),
        ("mysql://a/b", "is no address of a store"),
        ("store.sqlite", "expected an address"),
        ("postgresql://me:secret@127.0.0.1:1/shop", "cannot be used"),
    ):
        line = line_of(capsys, *words, "--database", name)[1]
        assert why in line
        assert "secret" not in line


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("weights.safetensors", "is not a safetensors file"),
        ("run.json", "is not JSON"),
        ("config.yaml", "is not YAML"),
        ("histories/users.parquet", "cannot be read"),
        ("histories/item.npy", "cannot be opened"),
        ("snapshot/items.parquet", "is not a whole snapshot"),
    ],
)
def test_a_run_that_was_cut_short_is_one_line(served_runs, tmp_path, capsys, file, why):
    broken = shutil.copytree(served_runs[0], tmp_path / "broken")
    content = (broken / file).read_bytes()
    (broken / file).write_bytes(content[: len(content) // 2])
    words = ("--port", str(free_port()), "--database", f"sqlite:///{tmp_path}/store.sqlite")
    assert why in line_of(capsys, "--run", str(broken), *words)[1]


def test_runs_that_cannot_stand_in_for_one_another_are_one_line(served_runs, tmp_path, capsys):
    first, words = served_runs[0], ("--port", str(free_port()), "--database", f"sqlite:///{tmp_path}/store.sqlite")
    twin = shutil.copytree(first, tmp_path / first.name)
    assert "two runs called first" in line_of(capsys, "--run", str(first), "--also", str(twin), *words)[1]
    nameless = shutil.copytree(first, tmp_path / "nameless")
    shutil.rmtree(nameless / "histories")
    assert "saved without histories" in line_of(capsys, "--run", str(nameless), *words)[1]
    manifest = json.loads((twin / "histories" / "manifest.json").read_text())
    other = twin.rename(tmp_path / "other")
    (other / "histories" / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "0" * 64}))
    assert "learned from other purchases" in line_of(capsys, "--run", str(first), "--also", str(other), *words)[1]
    rule = shutil.copytree(first, tmp_path / "rule")
    (rule / "run.json").write_text((rule / "run.json").read_text().replace('"decoder"', '"popularity"'))
    assert "holds the rule popularity" in line_of(capsys, "--run", str(rule), *words)[1]
    store = Store.open(words[3])
    store.put_scenario("old", {"no such rule": 1}, "me")
    store.close()
    assert "the scenario 'old' in the database cannot be read" in line_of(capsys, "--run", str(first), *words)[1]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"customer": "u1"}, "customer", ["did you mean customer_id?"]),
        ({"customer_id": 7}, "customer_id", ["found '7'", "string"]),
        ({"k": "3"}, "k", ["found '3'"]),
        (None, None, ["found nothing"]),
    ],
)
def test_a_wrong_field_is_told_what_was_found_and_what_was_meant(guarded, body, field, words):
    reply = guarded.ask("/v1/recommend", body, method="POST")
    assert (reply.status, reply.body["error"]["field"]) == (422, field)
    assert all(word in reply.body["error"]["message"] for word in words)
