import json
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.errors import RunError, UsageError
from recsys.serving import database, store
from recsys.serving.store import Store
from recsys.serving.tables import EventRow, Outcome, RecommendationRow
from tests.postgresql_server import PASSWORD

NOON = datetime(2024, 5, 1, 12, 0, 0, 250_000)


@pytest.fixture
def opened(store_url: str) -> Iterator[Store]:
    found = Store.open(store_url)
    yield found
    found.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def event(number: int, user: str | None = "anna", **columns) -> EventRow:
    return EventRow(f"e{number}", user, None, f"i{number % 5}", NOON + timedelta(minutes=number))._replace(**columns)


def listed(name: str, made_at: str = "2024-05-01T12:00:00", **columns) -> RecommendationRow:
    row = RecommendationRow(name, made_at, "anna", None, "shop", "a", "run", '{"k": 2}', '["i1", "i2"]')
    return row._replace(**columns)


def test_events_come_back_as_they_came_in_their_order(opened: Store) -> None:
    rows = [
        event(3, price=2.5, quantity=1.5, channel="web", recommendation_id="r"),
        event(1, user=None, session_id="tab-1"),
        event(2, user="Анна 'quoted'\n", time=NOON.replace(tzinfo=UTC)),
    ]
    assert opened.add_events(rows[:2]) == [True, True]
    assert opened.add_events(rows[2:]) == [True]
    numbers, found = zip(*opened.events(), strict=True)
    assert list(found) == rows
    assert list(opened.events(after=numbers[1])) == [(numbers[2], rows[2])]
    assert list(opened.events(after=numbers[2])) == []


def test_an_event_counts_once_however_often_it_is_sent(opened: Store) -> None:
    assert opened.add_events([event(1), event(2), event(1, user="bert")]) == [True, True, False]
    assert opened.add_events([event(2), event(3)]) == [False, True]
    assert opened.add_events([]) == []
    assert [row.event_id for _, row in opened.events()] == ["e1", "e2", "e3"]
    assert [row.user_id for _, row in opened.events()] == ["anna"] * 3


def test_events_that_were_written_without_a_word_are_new_when_they_are_sent_again(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = database.Database.writing

    @contextmanager
    def silent(held: database.Database) -> Iterator[sa.Connection]:
        with writing(held) as connection:
            yield connection
        raise RunError("the server has gone")

    opened.add_events([event(1)])
    monkeypatch.setattr(database.Database, "writing", silent)
    with pytest.raises(RunError):
        opened.add_events([event(1), event(2), event(3)])
    with pytest.raises(RunError):
        opened.add_events([event(3), event(4)])
    monkeypatch.undo()
    assert opened.add_events([event(1), event(2), event(2), event(4), event(5)]) == [False, True, False, True, True]
    assert opened.add_events([event(number) for number in range(1, 6)]) == [False, False, True, False, False]
    opened.delete_user("anna")
    assert opened.add_events([event(3)]) == [False]
    assert list(opened.events()) == []


def test_events_are_read_page_by_page(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PAGE", 4)
    for n_events in (8, 9):
        opened.add_events([event(number) for number in range(n_events)])
        assert [row.event_id for _, row in opened.events()] == [f"e{number}" for number in range(n_events)]


def test_threads_that_send_the_same_events_add_each_once_and_a_reader_misses_none(opened: Store) -> None:
    seen: list[str] = []
    done = threading.Event()

    def follow() -> None:
        after, last_round = 0, False
        while not last_round:
            last_round = done.wait(0.002)
            for number, row in opened.events(after):
                seen.append(row.event_id)
                after = number

    def send(thread: int) -> int:
        numbers = random.Random(thread).sample(range(40), 25)  # noqa: S311 - no secret
        return sum(sum(opened.add_events([event(number)])) for number in numbers)

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(follow)
        n_new = sum(pool.map(send, range(4)))
        done.set()
        reader.result()
    assert n_new == len(seen) == len(set(seen))


def test_two_servers_may_share_a_database(store_url: str) -> None:
    first, second = Store.open(store_url), Store.open(store_url)
    first.add_events([event(1)])
    assert second.add_events([event(1), event(2)]) == [False, True]
    second.delete_user("anna")
    assert first.add_events([event(3)]) == [False]
    assert first.forgotten(pa.array(["anna"])).tolist() == [True]
    first.close()
    second.close()


def test_what_was_confirmed_outlives_a_kill(file: Path) -> None:
    program = (
        "import sys; from datetime import datetime; from recsys.serving.store import Store\n"
        "from recsys.serving.tables import EventRow\n"
        "store = Store.open(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    names = [f'{number}.{place}' for place in (0, 1)]\n"
        "    store.add_events([EventRow(name, 'u', None, 'i', datetime(2024, 5, 1)) for name in names])\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, f"sqlite:///{file}"], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        confirmed = [int(running.stdout.readline()) for _ in range(50)]
        running.kill()
        confirmed += [int(line) for line in running.stdout.read().split()]
    kept = [row.event_id for _, row in Store.open(f"sqlite:///{file}").events()]
    assert kept[: 2 * len(confirmed)] == [f"{number}.{place}" for number in confirmed for place in (0, 1)]
    assert len(kept) % 2 == 0  # a call is added whole or not at all


def test_the_first_attributes_of_an_item_stay(opened: Store) -> None:
    opened.add_items({"b": {"colour": "red", "size": 4, "new": True}, "a": {}})
    opened.add_items({"a": {"colour": "blue"}, "c": {"price": 1.5, "colour": None}})
    items = opened.items()
    assert list(items) == ["b", "a", "c"]
    assert items == {"b": {"colour": "red", "size": 4, "new": True}, "a": {}, "c": {"price": 1.5, "colour": None}}


def test_lists_are_kept_extended_and_pruned(opened: Store) -> None:
    opened.lists.save([listed("r1"), listed("r2", "2024-05-02T00:00:00", user_id=None, scenario=None)])
    assert opened.lists.find("r2") == listed("r2", "2024-05-02T00:00:00", user_id=None, scenario=None)
    longer = listed("r1", shown='["i1", "i2", "i3"]')
    opened.lists.save([listed("r1", shown="[]"), longer])
    assert opened.lists.find("r1") == longer
    assert opened.lists.find("r3") is None
    assert opened.lists.prune("2024-05-02T00:00:00")
    assert opened.lists.find("r1") is None
    assert opened.lists.find("r2") is not None


def test_old_lists_are_pruned_a_few_at_a_time(opened: Store) -> None:
    opened.lists.save([listed(f"r{number}", f"2024-05-{number % 3 + 1:02}") for number in range(900)])
    rounds = [opened.lists.prune("2024-05-03") for _ in range(4)]
    assert rounds == [False, False, True, True]
    assert opened.lists.outcomes()[0] == {("shop", "a"): 300}


def test_outcomes_join_purchases_to_the_lists_they_name(opened: Store) -> None:
    opened.lists.save([listed("r1"), listed("r2", variant="b"), listed("r3", scenario=None, variant=None)])
    opened.add_events([event(1, recommendation_id="r2", price=2.0), event(2), event(3, recommendation_id="gone")])
    sizes, outcomes = opened.lists.outcomes()
    assert sizes == {("shop", "a"): 1, ("shop", "b"): 1, (None, None): 1}
    assert outcomes == [Outcome("r2", "shop", "b", '["i1", "i2"]', "i1", 1.0, 2.0)]


def test_of_a_removed_user_nothing_stays_and_nothing_comes_again(opened: Store) -> None:
    opened.add_events([event(1), event(2, user="bert"), event(3)])
    opened.lists.save([listed("r1"), listed("r2", user_id="bert")])
    opened.save_users(["bert", "anna"])
    assert opened.delete_user("anna") == 2
    assert opened.delete_user("anna") == opened.delete_user("nobody") == 0
    assert opened.add_events([event(4), event(5, user="bert")]) == [False, True]
    opened.lists.save([listed("r1"), listed("r3")])
    opened.save_users(["anna", "bert"])
    assert [row.event_id for _, row in opened.events()] == ["e2", "e5"]
    assert opened.lists.find("r1") is opened.lists.find("r3") is None
    assert opened.lists.find("r2") is not None
    assert opened.saved_users() == ["bert"]
    assert opened.forgotten(pa.array(["bert", "anna", "nobody", "ann"])).tolist() == [False, True, True, False]
    assert len(opened.tombstones()) == 2
    assert not {"anna", "nobody"} & opened.tombstones()


def test_nobody_is_forgotten_before_somebody_is_removed(opened: Store) -> None:
    assert opened.forgotten(pa.array(["anna", "bert"])).tolist() == [False, False]


def test_the_hash_of_a_removed_user_differs_between_databases(tmp_path: Path) -> None:
    hashes = set()
    for name in ("a", "b"):
        opened = Store.open(f"sqlite:///{tmp_path / name}")
        opened.delete_user("anna")
        hashes |= opened.tombstones()
        opened.close()
    assert len(hashes) == 2


def test_no_byte_of_a_removed_user_stays_in_the_files(file: Path) -> None:
    opened, generator = Store.open(f"sqlite:///{file}"), random.Random(0)  # noqa: S311
    users = [f"customer-{generator.getrandbits(64):x}" for _ in range(40)]
    for _ in range(1500):
        user = generator.choice(users)
        opened.lists.save([listed(f"{generator.random()}", user_id=user, request=json.dumps({"who": user}))])
    opened.add_events([event(number, user=generator.choice(users)) for number in range(2000)])
    opened.save_users(users)

    def found(user: str) -> bool:
        return any(user.encode() in path.read_bytes() for path in file.parent.iterdir())

    assert all(found(user) for user in users)
    for user in users[:3]:
        opened.delete_user(user)
    assert [found(user) for user in users] == [False] * 3 + [True] * 37
    opened.close()
    assert [found(user) for user in users] == [False] * 3 + [True] * 37


def test_no_byte_stays_of_lists_that_grew_so_that_others_moved(file: Path) -> None:
    opened, generator = Store.open(f"sqlite:///{file}"), random.Random(5)  # noqa: S311
    users = [f"customer-{generator.getrandbits(64):x}" for _ in range(200)]
    shown = [listed(f"{n}", f"2024-05-{1 + n // 100:02}", user_id=generator.choice(users)) for n in range(2000)]
    opened.lists.save(shown)
    for row in generator.sample(shown, 600):
        opened.lists.save([row._replace(shown="1" * generator.randrange(2000))])
    for user in users[:40]:
        opened.delete_user(user)
        opened.lists.prune("2024-05-10")
    kept = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert not [user for user in users[:40] if user.encode() in kept]
    opened.close()


def test_lists_are_saved_and_read_while_a_deletion_holds_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, begun, goes_on = Store.open(f"sqlite:///{file}"), threading.Event(), threading.Event()

    def hold(held: database.Database) -> None:
        with held.writing():  # nobody else writes
            begun.set()
            assert goes_on.wait(30)

    monkeypatch.setattr(database.Database, "scrub", hold)
    opened.lists.save([listed("old"), listed("own", user_id="bert")])
    with ThreadPoolExecutor(2) as pool:
        deletion = pool.submit(opened.delete_user, "anna")
        assert begun.wait(30)
        rows = [listed(f"r{number}", user_id="bert") for number in range(600)]
        saved = pool.submit(opened.lists.save, [*rows, listed("r5", user_id="bert", shown="[]"), listed("x")])
        saved.result(timeout=30)
        assert not deletion.done()
        assert opened.lists.find("own") == listed("own", user_id="bert")
        assert opened.lists.find("r5") == listed("r5", user_id="bert", shown="[]")
        assert opened.lists.prune("2000-01-01") is False  # later
        goes_on.set()
        assert deletion.result() == 0
    assert opened.lists.find("old") is opened.lists.find("x") is None  # hers
    assert opened.lists.outcomes()[0] == {("shop", "a"): 601}
    assert opened.lists.find("r5") == listed("r5", user_id="bert", shown="[]")
    opened.close()


def test_a_reader_that_keeps_bytes_in_the_log_is_told_and_doing_it_again_helps(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.1)
    opened = Store.open(f"sqlite:///{file}")
    opened.add_events([event(1)])
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    with pytest.raises(RunError, match="is read by another program, so removed bytes stay in its log; do it again"):
        opened.delete_user("anna")
    reader.close()
    opened.delete_user("anna")
    assert all(b"anna" not in path.read_bytes() for path in file.parent.iterdir())
    opened.close()


def test_scenarios_keep_who_changed_what(opened: Store) -> None:
    before = datetime.now(UTC).isoformat(timespec="seconds")
    opened.put_scenario("sale", {"repeats": "none"}, "olga")
    opened.put_scenario("home", {}, "olga")
    opened.put_scenario("sale", {"repeats": "keep"}, "ivan")
    assert opened.scenarios() == {"home": {}, "sale": {"repeats": "keep"}}
    assert opened.remove_scenario("sale", "olga")
    assert not opened.remove_scenario("sale", "olga")
    assert opened.scenarios() == {"home": {}}
    changes = opened.scenario_changes("sale")
    assert [(change.who, change.before, change.after) for change in changes] == [
        ("olga", None, {"repeats": "none"}),
        ("ivan", {"repeats": "none"}, {"repeats": "keep"}),
        ("olga", {"repeats": "keep"}, None),
    ]
    times = [change.made_at for change in changes]
    assert sorted([before, *times]) == [before, *times]
    assert opened.scenario_changes("unknown") == []


def test_saved_users_keep_their_order_and_are_replaced(opened: Store) -> None:
    assert opened.saved_users() == []
    opened.save_users(["b", "a"])
    assert opened.saved_users() == ["b", "a"]
    opened.save_users([])
    assert opened.saved_users() == []


def test_everything_is_there_when_it_is_opened_again(store_url: str) -> None:
    opened = Store.open(store_url)
    opened.add_events([event(1)])
    opened.delete_user("bert")
    opened.close()
    opened = Store.open(store_url)
    assert [row for _, row in opened.events()] == [event(1)]
    assert opened.forgotten(pa.array(["bert"])).tolist() == [True]
    opened.close()


def refused(url: str, error: type[Exception] = RunError) -> str:
    with pytest.raises(error) as caught:
        Store.open(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_database_is_named_and_stays(file: Path) -> None:
    file.write_text("user_id,item_id\n" * 100)
    assert re.search(r"not a database.*expected a SQLite database: name another", refused(f"sqlite:///{file}"))
    assert file.read_text() == "user_id,item_id\n" * 100


def test_another_programs_database_stays_as_it_is(file: Path) -> None:
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE sales (customer text)")
    other.close()
    before = file.read_bytes()
    assert "holds other tables (sales) and no store of recsys; name another" in refused(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_newer_store_is_not_touched(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "VERSION", 7)
    Store.open(store_url).close()
    monkeypatch.undo()
    message = refused(store_url)
    assert "newer recsys (tables of version 7, expected 1 or less); update recsys" in message
    assert PASSWORD not in message


def test_a_locked_file_is_said_after_some_patience(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.1)
    opened = Store.open(f"sqlite:///{file}")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RunError, match=r"database is locked.*another program writes into it"):
        opened.add_events([event(1)])
    other.execute("ROLLBACK")
    assert opened.add_events([event(1)]) == [True]
    other.close()
    opened.close()


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made (Not a directory)" in refused(f"sqlite:///{tmp_path}/file/below/store.sqlite")
    assert "unable to open database file" in refused(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("url", ["store.sqlite", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://host/shop"])
def test_what_is_no_address_of_a_store_is_refused(url: str) -> None:
    assert "expected sqlite:///FILE or postgresql://HOST/NAME" in refused(url, UsageError)


def test_a_server_that_does_not_answer_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    message = refused("postgresql://owner:s3cret@127.0.0.1:8119/shop")
    assert "check the address, and that the server runs" in message
    assert "s3cret" not in message
    assert "the environment has no variable 'NOT_SET'" in refused("postgresql://o:${NOT_SET}@localhost/x", UsageError)


def test_a_wrong_password_is_not_repeated(postgresql: Path) -> None:
    message = refused(f"postgresql://owner:wr0ng@/postgres?host={postgresql}")
    assert "password authentication failed" in message
    assert "wr0ng" not in message
