"""The service as its callers see it: a real server of a small run, held against the library over the same purchases."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.runs import find_run
from recsys.serving.jobs import Ask
from recsys.serving.schemas import Recommend
from recsys.serving.service import Service
from recsys.serving.store import Store
from tests.postgresql_server import with_database
from tests.running_service import FIRST, N_DAYS, N_ITEMS, SETTINGS, Running, event, ids_of, running

TOMORROW = (FIRST + dt.timedelta(days=N_DAYS)).date()
USERS = [f"u{number}" for number in range(12)]


@pytest.fixture(scope="module")
def model(served_runs: list[Path]) -> recsys.Model:
    return recsys.load(served_runs[0])


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: of PostgreSQL where it is installed, else a file."""
    try:
        server = request.getfixturevalue("postgresql")
    except pytest.skip.Exception:
        yield f"sqlite:///{tmp_path}/store.sqlite"
        return
    with with_database(server) as url:
        yield url


def assert_same_list(answer: dict, expected: pl.DataFrame) -> None:
    assert ids_of(answer) == expected["item_id"].to_list()
    scores = [item["score"] for item in answer["items"]]
    np.testing.assert_allclose(scores, expected["score"].to_numpy(), atol=1e-4)


def lists_of(service: Running, users: list[str], **request: object) -> list[dict]:
    asked = [{"customer_id": user, **request} for user in users]
    return service.get("/v1/recommend/batch", {"requests": asked})["answers"]


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        ({}, {}),
        ({"date": "2024-03-01"}, {"date": "2024-03-01"}),
        ({"exclude": ["i1", "i2", "i3"]}, {"exclude": ["i1", "i2", "i3"]}),
        ({"candidates": ["i5", "i9", "i7", "i30", "i33"]}, {"candidates": ["i5", "i9", "i7", "i30", "i33"]}),
        ({"repeats": "none"}, {"exclude_seen": True}),
        ({"repeats": "keep", "reasons": True}, {"reasons": True}),
    ],
    ids=["as it is", "a date", "exclude", "candidates", "no repeats", "reasons"],
)
def test_lists_are_those_of_the_library(guarded, model, request_, arguments):
    k = 3 if "candidates" in request_ else 8
    expected = model.recommend(USERS, k=k, **arguments)
    for user, answer in zip(USERS, lists_of(guarded, USERS, k=k, **request_), strict=True):
        assert_same_list(answer, expected.filter(pl.col("user_id") == user))
        assert (answer["model"], answer["system"]) == ("first", "decoder")
        assert answer["snapshot_date"] == request_.get("date", str(TOMORROW))
        assert {item["source"] for item in answer["items"]} == {"decoder"}
        if "reasons" in request_:
            reasons = expected.filter(pl.col("user_id") == user)["reason"].to_list()
            assert [item["reason"] for item in answer["items"]] == reasons
            assert all(sum(one["share"] for one in item["because"]) < 1.001 for item in answer["items"])


def test_lists_of_unlike_length_in_one_batch_have_reasons_of_their_own(served_runs, tmp_path):
    service = Service([find_run(str(served_runs[0]))], Store.open(f"sqlite:///{tmp_path}/store.sqlite"))
    asks = [Ask(Recommend(customer_id=user, k=k, reasons=True), user) for user, k in (("u1", 2), ("u2", 6))]
    together = service.answers.answer(asks)
    alone = [service.answers.answer([ask])[0] for ask in asks]
    service.close()
    assert [len(answer["items"]) for answer in together] == [2, 6]
    assert [[item["reason"] for item in one["items"]] for one in together] == [
        [item["reason"] for item in one["items"]] for one in alone
    ]


def test_lists_of_a_history_that_is_given_are_those_of_the_library(guarded, model):
    history = [("i3", "2024-03-02"), ("i8", "2024-03-02", 2.0), ("i3", "2024-04-01"), ("i20", "2024-04-05")]
    sent = [dict(zip(("item_id", "date", "quantity"), one, strict=False)) for one in history]
    for k, date in ((5, None), (12, "2024-04-07")):
        answer = guarded.get("/v1/recommend", {"history": sent, "k": k, "date": date})
        assert_same_list(answer, model.recommend(history=history, k=k, date=date))
    assert answer["warnings"] == []


def test_a_list_is_the_same_alone_and_among_others(guarded):
    requests = [{"customer_id": user, "k": k} for user, k in zip(USERS, range(1, 13), strict=True)]
    requests += [
        {"customer_id": "u1", "candidates": ["nothing"]},
        {"history": []},
        {"customer_id": "u2", "date": "2024-02-01"},
    ]
    together = guarded.get("/v1/recommend/batch", {"requests": requests})["answers"]
    for request, answer in zip(requests, together, strict=True):
        alone = guarded.ask("/v1/recommend", request).body
        assert ("error" in alone) == ("error" in answer)
        assert alone.get("error") == answer.get("error")
        if "items" in alone:
            assert ids_of(alone) == ids_of(answer)
            scores = [[item["score"] for item in one["items"]] for one in (alone, answer)]
            np.testing.assert_allclose(*scores, atol=1e-4)


def test_what_nobody_knows_gets_best_sellers_and_is_said(guarded):
    answer = guarded.get("/v1/recommend", {"customer_id": "nobody", "k": 5})
    assert [item["source"] for item in answer["items"]] == ["popular"] * 5
    assert "customer_id 'nobody' is unknown" in answer["warnings"][0]
    nameless = guarded.get("/v1/recommend", {"k": 5})
    assert ids_of(nameless) == ids_of(answer)
    assert nameless["warnings"] == []
    session = guarded.get("/v1/recommend", {"session_id": "none", "k": 1})
    assert "session_id 'none' is unknown" in session["warnings"][0]
    history = [{"item_id": name, "date": "2024-04-01"} for name in ("i1", "moon", "sun")]
    known = guarded.get("/v1/recommend", {"history": history, "k": 3})
    assert ids_of(known) == ids_of(guarded.get("/v1/recommend", {"history": history[:1], "k": 3}))
    assert known["warnings"] == ["history: 2 items are unknown and left out, such as 'moon', 'sun'"]


def test_rules_of_a_request_are_kept_and_short_lists_are_said(guarded):
    past = {one["item_id"] for one in guarded.get("/v1/customers/history", {"customer_id": "u3"})["purchases"]}
    only = guarded.get("/v1/recommend", {"customer_id": "u3", "k": 40, "repeats": "only"})
    none = guarded.get("/v1/recommend", {"customer_id": "u3", "k": 40, "repeats": "none"})
    assert set(ids_of(only)) == past
    assert set(ids_of(none)) == {f"i{number}" for number in range(N_ITEMS)} - past
    assert only["warnings"] == [f"only {len(past)} items are left, asked were 40; allow more of them"]
    red = guarded.get(
        "/v1/recommend", {"customer_id": "u3", "k": 5, "where": {"colour": ["red"], "size": ["1.5", "3.75"]}}
    )
    assert set(ids_of(red)) == {"i6", "i15"}
    assert "only 2 items are left" in red["warnings"][0]
    on_sale = guarded.get("/v1/recommend", {"customer_id": "u3", "k": 40, "candidates": "on_sale"})
    assert set(ids_of(on_sale)) == {f"i{number}" for number in range(N_ITEMS - 5)}
    excluded = guarded.get("/v1/recommend", {"customer_id": "u3", "k": 40, "exclude": ["i1", "moon"]})
    assert "i1" not in ids_of(excluded)
    assert excluded["warnings"][0] == "exclude: 1 of 2 items are unknown; they cannot be listed"


def test_a_rule_can_be_asked_beside_the_decoder(guarded):
    rule = guarded.get("/v1/recommend", {"customer_id": "u3", "k": 4, "system": "popularity", "repeats": "none"})
    assert {item["source"] for item in rule["items"]} == {"popularity"}
    past = {one["item_id"] for one in guarded.get("/v1/customers/history", {"customer_id": "u3"})["purchases"]}
    assert not past & set(ids_of(rule))


def test_items_and_customers_are_found(guarded, model):
    found = guarded.get("/v1/items/query", {"search": "SCARF number 3", "where": {"colour": ["blue"]}, "limit": 2})
    assert (found["total"], [item["item_id"] for item in found["items"]].sort()) == (4, None)
    assert {item["attributes"]["colour"] for item in found["items"]} == {"blue"}
    one = guarded.get("/v1/items/query", {"ids": ["i4", "moon"]})["items"]
    assert [item["attributes"] for item in one] == [
        {"name": "Scarf number 4", "colour": "blue", "size": None, "since": "2024-01-01"}
    ]
    customers = guarded.get("/v1/customers/query", {"search": "u5"})
    assert customers["total"] == 11
    assert len(guarded.get("/v1/customers/query", {"random": 7})["customers"]) == 7
    known = guarded.get("/v1/customers/query", {"ids": ["u5", "nobody"]})["customers"]
    history = guarded.get("/v1/customers/history", {"customer_id": "u5", "date": "2024-02-01", "limit": 5000})
    assert [one["n_purchases"] for one in known] == [len(history["purchases"]) + len(history["later"])]
    assert known[0]["attributes"] == {"age": "22"}
    assert (
        max(one["date"] for one in history["purchases"]) < "2024-02-01" <= min(one["date"] for one in history["later"])
    )
    alike = guarded.get("/v1/similar", {"item_id": "i4", "k": 5})["items"]
    expected = model.similar_items("i4", k=5)
    assert [item["item_id"] for item in alike] == expected["item_id"].to_list()
    pairs = guarded.get("/v1/similar", {"item_id": "i4", "by": "co_purchases"})["items"]
    assert pairs == sorted(pairs, key=lambda item: -item["score"])


# What is written.


def test_what_is_sent_is_seen_by_the_next_request_fifty_times_out_of_fifty(service):
    def sold() -> int:
        return service.get("/v1/items/query", {"ids": ["i11"]})["items"][0]["sold_7"]

    before, stale = sold(), []  # a basket counts once: the first reader buys all on one day
    for number in range(50):
        both = [event(f"{customer} {number}", customer, "i11") for customer in ("reader", f"reader-{number}")]
        assert service.send(*both) == {"accepted": 2, "duplicates": 0, "rejected": []}
        history = service.get("/v1/customers/history", {"customer_id": "reader"})["purchases"]
        listed = service.get("/v1/recommend", {"customer_id": "reader", "k": 3})
        seen = len(history) == number + 1 and sold() == before + number + 2 and listed["warnings"] == []
        stale += [] if seen else [number]
    assert stale == []


def test_an_event_counts_once_and_a_bad_one_stops_no_other(service):
    sent = [
        event("once", "twice", "i1"),
        event("once", "twice", "i2"),
        event("bad item", "twice", "moon"),
        event("nobody's", None, "i1"),
        event("both", "twice", "i1", session_id="s"),
        event("future", "twice", "i1", "2999-01-01T00:00:00"),
        event("past", "twice", "i1", "1969-12-31T00:00:00"),
        event("edge", "twice", "i1", "9999-12-31T23:59:59-23:00"),
        event("edge", "twice", "i1", "0001-01-01T00:00:00+23:00"),
        event("good", "twice", "i3", quantity=2, price=3.5, channel="web", recommendation_id="none"),
    ]
    answer = service.send(*sent)
    assert (answer["accepted"], answer["duplicates"]) == (2, 1)
    assert [one["index"] for one in answer["rejected"]] == [2, 3, 4, 5, 6, 7, 8]
    assert "item 'moon' is unknown" in answer["rejected"][0]["why"]
    assert service.send(*sent)["duplicates"] == 3
    history = service.get("/v1/customers/history", {"customer_id": "twice"})["purchases"]
    assert sorted((one["item_id"], one["price"], one["quantity"]) for one in history) == [
        ("i1", None, 1.0),
        ("i3", 3.5, 2.0),
    ]


def test_a_session_is_nobody_else_and_can_go_on_with_a_customer_and_a_history(service):
    service.send(event("tab", None, "i20", session_id="tab-1"))
    assert service.get("/v1/recommend", {"session_id": "tab-1", "k": 2})["warnings"] == []
    for name in ("tab-1", "session/tab-1"):
        assert service.ask("/v1/customers/history", {"customer_id": name}).body["error"]["code"] == "unknown_customer"
    both = {"customer_id": "u40", "session_id": "tab-1", "history": [{"item_id": "i21", "date": "2024-04-09"}]}
    only = service.get("/v1/recommend", both | {"repeats": "only", "k": 40})
    assert {"i20", "i21"} < set(ids_of(only))


def test_a_new_item_enters_with_its_attributes_and_bad_ones_break_nothing(service):
    items = [
        {"item_id": "new-1", "colour": "red"},
        {"item_id": "new-2", "name": "Hat", "size": 2, "since": "2024-04-01"},
    ]
    assert service.send(event("hat", "hatter", "new-2"), items=items)["accepted"] == 1
    found = service.get("/v1/items/query", {"ids": ["new-1", "new-2"]})["items"]
    assert [one["attributes"] for one in found] == [
        {"name": None, "colour": "red", "size": None, "since": None},
        {"name": "Hat", "colour": None, "size": 2.0, "since": "2024-04-01"},
    ]
    assert "new-2" in ids_of(service.get("/v1/recommend", {"customer_id": "hatter", "repeats": "only"}))
    for value in ("x", 10**30, [1], {"a": 1}, float("nan"), float("-inf")):
        reply = service.ask("/v1/events", {"events": [], "items": [{"item_id": "bad", "size": value}]})
        assert (reply.status, reply.body["error"]["code"]) == (422, "invalid"), value
        assert len(reply.body["error"]["message"]) < 200
    reply = service.ask("/v1/events", {"events": [], "items": [{"item_id": "bad", "weight": 1}]})
    assert reply.body["error"]["code"] == "unknown_attribute"
    many = [event(f"channel-{number}", "channels", "i1", channel=f"c{number}") for number in range(140)]
    assert service.send(*many)["accepted"] == 140
    assert service.get("/v1/recommend", {"customer_id": "channels", "k": 1})["warnings"] == []


def test_a_list_goes_on_with_other_items_until_there_are_none(service):
    begun = service.get("/v1/recommend", {"customer_id": "u30", "k": 9, "candidates": "all", "repeats": "none"})
    address, shown = f"/v1/recommend/{begun['recommendation_id']}/next", ids_of(begun)
    while (following := service.get(address, {"k": 7}))["items"]:
        assert following["recommendation_id"] == begun["recommendation_id"]
        shown += ids_of(following)
    assert len(shown) == len(set(shown))
    past = {one["item_id"] for one in service.get("/v1/customers/history", {"customer_id": "u30"})["purchases"]}
    assert not past & set(shown)
    assert service.get("/v1/models")["data"]["n_items"] == len(shown) + len(past)
    assert service.ask("/v1/recommend/never/next", {"k": 1}).status == 404


def test_best_sellers_that_no_boost_moves_are_said(service):
    boosts = [{"add": 100, "item_ids": ["i39"]}]
    service.get("/v1/scenarios", {"name": "pushed", "who": "me", "settings": {"boosts": boosts}}, method="PUT")
    said = "boosts are in units of the decoder's score; what sells best is listed without them"
    known, nobody = lists_of(service, ["u1", "nobody we know"], k=5, scenario="pushed")
    assert said not in known["warnings"]
    assert ids_of(known)[0] == "i39"
    assert said in nobody["warnings"]
    service.get("/v1/scenarios/delete", {"name": "pushed", "who": "me"})


def test_a_scenario_pins_boosts_finds_and_gives_everybody_one_variant(service):
    pins = [{"item_id": "i33", "position": 2}]
    settings = {
        "pins": pins,
        "boosts": [{"where": {"colour": ["green"]}, "add": 50}],
        "discoveries": 0.5,
        "repeats": "keep",
    }
    two = {"variants": {"a": 1, "b": 1}, "overrides": {"b": {"pins": [], "boosts": []}}}
    service.get("/v1/scenarios", {"name": "spring", "who": "me", "settings": settings | two}, method="PUT")
    users = [f"u{number}" for number in range(40, 60)]
    lists = lists_of(service, users, k=8, scenario="spring")
    assert {one["variant"] for one in lists} == {"a", "b"}
    again = lists_of(service, users, k=8, scenario="spring")
    assert [one["variant"] for one in again] == [one["variant"] for one in lists]
    for user, one in zip(users, lists, strict=True):
        past = {
            bought["item_id"] for bought in service.get("/v1/customers/history", {"customer_id": user})["purchases"]
        }
        assert sum(item not in past for item in ids_of(one)) >= 4
        assert len(set(ids_of(one))) == 8
        if one["variant"] == "a":
            assert (one["items"][1]["item_id"], one["items"][1]["source"]) == ("i33", "pinned")
            others = [item for item in ids_of(one) if item != "i33"]
            assert all(int(item[1:]) % 3 == 2 for item in others)
    none = service.get("/v1/recommend", {"scenario": "spring", "k": 2, "candidates": []})
    assert none["items"] == []
    bought = ids_of(lists[0])[0]
    service.send(event("won", users[0], bought, price=4.0, recommendation_id=lists[0]["recommendation_id"]))
    rows = service.get("/v1/metrics/scenarios")["rows"]
    assert sum(row["n_bought"] for row in rows if row["scenario"] == "spring") == 1
    changes = service.get("/v1/scenarios/changes", {"name": "spring"})["changes"]
    assert [(one["who"], one["before"]) for one in changes] == [("me", None)]
    service.get("/v1/scenarios/delete", {"name": "spring", "who": "me"})
    assert service.ask("/v1/recommend", {"scenario": "spring"}).body["error"]["code"] == "unknown_scenario"


def test_customers_are_kept_for_the_page(service):
    service.get("/v1/saved-customers", {"customer_ids": ["u1", "u2"]}, method="PUT")
    assert service.get("/v1/saved-customers") == {"customer_ids": ["u1", "u2"]}


def test_all_that_was_written_is_there_after_a_restart_and_a_removed_customer_is_nobody(served_runs, address):
    """Also: after live events the lists are those of the library that was given the same events."""
    random, times = np.random.default_rng(3), [FIRST + dt.timedelta(days=N_DAYS - 2, minutes=9 * n) for n in range(200)]
    users, items = random.integers(0, 30, 200), random.integers(0, N_ITEMS - 5, 200)
    rows = [(f"u{user}", f"i{item}", time) for user, item, time in zip(users, items, times, strict=True)]
    frame = pl.DataFrame(rows, schema=["customer", "item_id", "time"], orient="row")
    frame = frame.with_columns(pl.lit(2.0).alias("price"), pl.lit(1.0).alias("quantity"))
    updated = recsys.load(served_runs[0]).update(frame)
    expected = updated.recommend(USERS, k=8)
    with running(served_runs[0], address) as service:
        begun = service.get("/v1/recommend", {"customer_id": "u2", "k": 5})
        events = [event(f"e{n}", *row[:2], row[2].isoformat(), price=2.0) for n, row in enumerate(rows)]
        for begin in range(0, 200, 40):
            service.send(*events[begin : begin + 40])
            lists_of(service, USERS[:3], k=2)  # what is counted is corrected, not counted anew
        lists = lists_of(service, USERS, k=8)
        for user, answer in zip(USERS, lists, strict=True):
            assert_same_list(answer, expected.filter(pl.col("user_id") == user))
        gone = [event("gone", "u11", "i1"), event("gone too", "passer-by", "i1")]
        service.send(*gone)
        mine = service.get("/v1/recommend", {"customer_id": "u11", "k": 3})
        service.get("/v1/saved-customers", {"customer_ids": ["u11", "u1"]}, method="PUT")
        removed = service.get("/v1/customers/delete", {"customer_id": "u11"})
        assert removed == {"events_removed": 1 + int((users == 11).sum()), "tombstone": True}
        service.get("/v1/customers/delete", {"customer_id": "passer-by"})
        assert_is_nobody(service, "u11", mine["recommendation_id"])
        assert "s3cret" not in json.dumps(service.get("/v1/models")) + service.log.read_text()
        assert service.stop() == 0
    with running(served_runs[0], address) as service:
        assert service.send(*events[:100])["accepted"] == 0
        assert service.send(*gone)["accepted"] == 0
        assert_is_nobody(service, "u11", mine["recommendation_id"])
        assert_is_nobody(service, "passer-by", mine["recommendation_id"])
        for answer, before in zip(lists_of(service, USERS[:4], k=3), lists, strict=False):
            assert ids_of(answer) == ids_of(before)[:3]
        following = service.get(f"/v1/recommend/{begun['recommendation_id']}/next", {"k": 40})
        assert not set(ids_of(following)) & set(ids_of(begun))
        assert len(ids_of(following)) == N_ITEMS - 5


def assert_is_nobody(service: Running, customer: str, recommendation_id: str) -> None:
    listed = service.get("/v1/recommend", {"customer_id": customer, "k": 2})
    assert [item["source"] for item in listed["items"]] == ["popular", "popular"]
    assert "is unknown" in listed["warnings"][0]
    assert service.ask("/v1/customers/history", {"customer_id": customer}).status == 404
    assert service.ask(f"/v1/recommend/{recommendation_id}/next", {"k": 1}).status == 404
    for query in ({"ids": [customer]}, {"search": customer}, {"random": 100}):
        customers = service.get("/v1/customers/query", query)["customers"]
        assert customer not in [one["customer_id"] for one in customers], query
    assert customer not in service.get("/v1/saved-customers")["customer_ids"]
    assert customer not in json.dumps(service.get("/v1/explore/preview", {"rules": {}, "n_drawn": 64}))


def test_newly_prepared_purchases_are_not_counted_again_by_the_events_that_they_hold(served_runs, tmp_path):
    shop = recsys.load(served_runs[0]).log
    database, sent = f"sqlite:///{tmp_path}/store.sqlite", event("bought", "u3", "i8")
    later = event("later", "u3", "i9", FIRST + dt.timedelta(days=N_DAYS, hours=9))
    with running(served_runs[0], database) as service:
        assert service.send(sent, later)["accepted"] == 2
    frame = pl.DataFrame(
        {"customer": ["u3"], "item_id": ["i8"], "time": [dt.datetime.fromisoformat(sent["timestamp"])]}
    )
    recsys.fit(shop.extended(frame), until="end", settings=SETTINGS).save(tmp_path / "newer")
    with running(tmp_path / "newer", database) as service:
        history = service.get("/v1/customers/history", {"customer_id": "u3", "date": "2025-01-01"})["purchases"]
        assert [one["item_id"] for one in history[-2:]].count("i9") == 1
        newest = [one for one in history if one["item_id"] == "i8" and one["date"] == sent["timestamp"][:10]]
        assert len(newest) == 1
        assert "1 of 2 events in the database are not counted" in service.log.read_text()
        assert service.send(event("same day", "u3", "i8"))["accepted"] == 1  # on top of what the log holds
    with running(tmp_path / "newer", database) as service:
        history = service.get("/v1/customers/history", {"customer_id": "u3", "date": "2025-01-01"})["purchases"]
        again = [one for one in history if one["item_id"] == "i8" and one["date"] == sent["timestamp"][:10]]
        assert len(again) == len(newest) + 1


def test_a_list_that_somebody_only_looks_at_is_not_kept(guarded):
    looked = guarded.get("/v1/recommend", {"customer_id": "u1", "k": 3, "kept": False})
    reply = guarded.ask(f"/v1/recommend/{looked['recommendation_id']}/next", {"k": 3})
    assert (reply.status, reply.body["error"]["code"]) == (404, "unknown_recommendation")


def test_a_given_history_is_asked_the_day_after_its_newest_purchase(guarded, model):
    day = FIRST.date() + dt.timedelta(days=N_DAYS + 4)
    history = [("i1", str(day)), ("i2", "2024-03-01")]
    given = [{"item_id": item, "date": date} for item, date in history]
    answer = guarded.get("/v1/recommend", {"history": given, "k": 5})
    assert answer["snapshot_date"] == str(day + dt.timedelta(days=1))
    assert not answer["warnings"]
    assert_same_list(answer, model.recommend(history=history, k=5))
