"""What is known by now: the state after live events equals the state made of all purchases at once."""

import asyncio
import datetime as dt
from contextlib import closing

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from running_service import COLUMNS as ROLES
from running_service import SETTINGS, purchases

import recsys
from recsys.data.days import day_date
from recsys.data.purchases import Purchases
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.modeling.recommenders.rules.transitions import follower_table
from recsys.runs import find_run
from recsys.schema import EVENT_ARRAYS
from recsys.serving.ids import IdIndex
from recsys.serving.live import Live
from recsys.serving.service import Service
from recsys.serving.store import Store
from recsys.serving.tables import EventRow
from recsys.signals.snapshot import Snapshots

FIRST = dt.datetime(2024, 1, 1)
COLUMNS = {
    "user": "user_id",
    "item": "item_id",
    "time": "time",
    "price": "price",
    "quantity": "quantity",
    "channel": "channel",
}


def drawn(rng, n, first_day, days, users, items):
    """Purchases of some weeks, a few customers buying the same few things again and again."""
    times = [
        FIRST + dt.timedelta(days=int(first_day + day), seconds=int(second))
        for day, second in zip(rng.integers(0, days, n), rng.integers(0, 86400, n), strict=True)
    ]
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in rng.integers(0, users, n)],
            "item_id": [f"i{item}" for item in np.minimum(rng.geometric(0.1, n), items)],
            "time": times,
            "price": rng.integers(1, 9, n).astype(float),
            "quantity": rng.integers(1, 4, n).astype(float),
            "channel": [("shop", "web")[channel] for channel in rng.integers(0, 2, n)],
        }
    )


def tables(n_items=30):
    colours = [("red", "blue", "green")[number % 3] for number in range(n_items)]
    items = pl.DataFrame(
        {
            "item_id": [f"i{number + 1}" for number in range(n_items)],
            "colour": colours,
            "shape": [str(number // 5) for number in range(n_items)],
        }
    )
    users = pl.DataFrame(
        {"user_id": [f"u{number}" for number in range(20)], "age": [str(20 + number % 3) for number in range(20)]}
    )
    return items, users


def as_rows(frame, first=0):
    return [
        EventRow(
            f"e{first + number}",
            row["user_id"],
            None,
            row["item_id"],
            row["time"],
            row["quantity"],
            row["price"],
            row["channel"],
        )
        for number, row in enumerate(frame.iter_rows(named=True))
    ]


@pytest.fixture
def shop():
    items, users = tables()
    frame = drawn(np.random.default_rng(1), 600, 0, 120, 20, 30)
    return Purchases.from_frame(frame, **COLUMNS, items=items, users=users)


def assert_same_tables(live, log, day):
    made, now = Snapshots(log, live.codes).at(day), live.at(day)
    for name in ("item_features", "category_rarity"):
        np.testing.assert_array_equal(getattr(now, name), getattr(made, name), err_msg=name)
    for name in ("everyone", "groups", "frailty"):
        table = getattr(now.hazards, name)
        table = table if name != "frailty" else table[np.arange(log.n_items + 1)]
        np.testing.assert_array_equal(table, getattr(made.hazards, name), err_msg=name)
    for days in (7, 28):
        np.testing.assert_array_equal(now.sold(days), made.sold(days))
    every = np.arange(log.n_items + 1)
    np.testing.assert_array_equal(now.lift[every].toarray(), made.lift.toarray())
    known = Popularity.fit("cold", log.histories(day), days=7, segment="age", pieces=False)
    for user in range(-1, 20):
        cold, segment = live.cold_start(day, user), known.segment[user] if user >= 0 else 0
        np.testing.assert_array_equal(cold.counts, known.counts[[0, segment]])
        np.testing.assert_array_equal(cold.order, known.order[[0, segment]])
    lately = (log.day >= day - 28) & (log.day < day)
    np.testing.assert_array_equal(live.on_sale(day), np.bincount(log.item[lately], minlength=log.n_items + 1) > 0)


@pytest.mark.parametrize("days", [(100, 20), (110, 40), (119, 3)], ids=["old days", "old and new days", "tomorrow"])
def test_what_is_counted_after_live_events_equals_what_is_counted_of_all_purchases(shop, days):
    live = Live(shop, segment="age", on_sale_days=None)
    live.at(live.day).item_features  # noqa: B018 - counted before events come
    (
        live.on_sale(live.day),
        live.cold_start(live.day, 0),
        live.at(live.day).lift[np.arange(3)],
        live.at(live.day).hazards,
    )
    newer = drawn(np.random.default_rng(2), 150, *days, 25, 30)  # five customers are new
    for begin in range(0, 150, 30):
        live.add(as_rows(newer[begin : begin + 30], begin))
        live.catch_up()
        whole = shop.extended(newer[: begin + 30])
        assert live.day == whole.last_day + 1
        assert_same_tables(live, whole, live.day)
    assert_same_tables(live, whole, live.day - 10)


def test_the_log_after_live_events_equals_the_log_extended_by_them(shop):
    live, newer = Live(shop, segment=None, on_sale_days=None), drawn(np.random.default_rng(3), 90, 60, 70, 25, 30)
    for begin in (0, 50):
        live.add(as_rows(newer[begin : begin + (50 if not begin else 40)], begin))
        live.catch_up()
    whole = shop.extended(newer)
    assert live.log.n_users == whole.n_users
    for number, user in enumerate(live.log.user_ids.to_pylist()):
        theirs = whole.user_ids.to_pylist().index(user)
        own, other = slice(*live.log.offsets[number : number + 2]), slice(*whole.offsets[theirs : theirs + 2])
        for name in ("day", "item", "basket", "channel"):
            if name == "item" and user not in shop.user_ids.to_pylist():
                continue  # the order within a day follows the number of the user, which is another one
            np.testing.assert_array_equal(
                getattr(live.log, name)[own], getattr(whole, name)[other], err_msg=f"{user} {name}"
            )


def test_a_history_asked_for_is_the_one_of_the_whole_log(shop):
    live = Live(shop, segment=None, on_sale_days=None)
    live.add(as_rows(drawn(np.random.default_rng(4), 40, 100, 30, 22, 30)))
    live.catch_up()
    users = [3, 20, 0, 21]
    some, everybody = live.histories(users, 125), live.log.histories(125).of(users)
    assert some.known_as.tolist() == users
    for name in EVENT_ARRAYS:
        row, position = some.events()
        other_row, other_position = everybody.events()
        np.testing.assert_array_equal(row, other_row)
        np.testing.assert_array_equal(getattr(some.log, name)[position], getattr(live.log, name)[other_position])


def test_new_items_enter_by_their_attributes_and_sessions_as_users_of_their_own(shop):
    live = Live(shop, segment="age", on_sale_days=None)
    assert not live.knows_item("new")
    live.add([], {"new": {"colour": "red", "unheard": 3}})
    assert live.knows_item("new")
    live.add([EventRow("e", None, "s1", "new", FIRST + dt.timedelta(days=130))])
    assert live.catch_up()
    assert (live.log.n_items, live.user_index(None, "s1"), live.user_index("s1", None)) == (31, 20, None)
    assert day_date(live.day).isoformat() == "2024-05-11"
    assert live.at(live.day).sold(7)[31] == 1
    assert live.codes.attributes[31].tolist()[0] == live.codes.attributes[1].tolist()[0]
    assert_same_tables(live, live.log, live.day)


def test_a_day_that_was_counted_ahead_is_corrected_for_what_came_before_and_after(shop):
    live, newer = Live(shop, segment="age", on_sale_days=None), drawn(np.random.default_rng(5), 120, 100, 20, 25, 30)
    ahead = live.count(live.day + 1), live.count(live.day + 3)
    live.add(as_rows(newer[:60]), {"new": {"colour": "red"}})
    live.catch_up()
    for counts in ahead:
        live.adopt(counts)
    days = live.day + 1, live.day + 3
    tomorrow = FIRST + dt.timedelta(days=120)
    live.add([*as_rows(newer[60:], 60), EventRow("next", "u3", None, "new", tomorrow)])
    live.catch_up()
    assert live.day == days[0]
    for day in (*days, live.day - 1, live.day - 30):
        assert_same_tables(live, live.log, day)


def test_a_customer_who_is_forgotten_is_counted_nowhere(shop):
    live, newer = Live(shop, segment="age", on_sale_days=None), drawn(np.random.default_rng(6), 60, 100, 20, 22, 30)
    live.at(live.day)
    live.add([*as_rows(newer), EventRow("alone", "u4", None, "i30", FIRST + dt.timedelta(days=119))])
    live.catch_up()
    for user in ("u4", "u21"):  # one of the log, one of live events alone
        number = live.user_index(user, None)
        live.forget(user)
        assert live.user_index(user, None) is None
        assert live.whole(number).end == 0
    live.adopt(live.count(live.day + 1))
    again = Live(
        shop, segment="age", on_sale_days=None, forgotten=np.array([user == "u4" for user in shop.user_ids.to_pylist()])
    )
    again.add([row for row in as_rows(newer) if row.user_id not in ("u4", "u21")])
    again.catch_up()
    for one in (live, again):
        for day in (one.day, one.day + 1, one.day - 20):
            assert_same_tables(one, one.log, day)
    assert live.log.n_events == again.log.n_events


def test_ids_get_numbers_that_nobody_had():
    ids = IdIndex(pa.array(["a", "b"]))
    assert [ids.add(text) for text in ("b", "c", "d", "c")] == [1, 2, 3, 2]
    assert [ids.remove(text) for text in ("a", "c", "x")] == [0, 2, None]
    assert [ids.get(text) for text in ("a", "b", "c", None)] == [None, 1, None, None]
    assert [ids.add(text) for text in ("a", "c", "a")] == [4, 5, 4]  # as strangers
    assert [ids.id_of(number) for number in range(6)] == ["a", "b", "c", "d", "a", "c"]
    assert ids.removed().tolist() == [True, False, True, False, False, False]
    assert ids.later_ids() == ["c", "d", "a", "c"]


def test_transitions_of_a_run_without_dates_leave_out_who_is_forgotten(tmp_path):
    shop = recsys.Purchases.from_frame(purchases(), **ROLES)
    recsys.fit(shop, seed=0, settings=SETTINGS | {"split.protocol": "leave_one_out", "predict.segment": None}).save(
        tmp_path / "run"
    )
    others = recsys.Purchases.from_frame(purchases().filter(pl.col("customer") != "u7"), **ROLES)
    follower_VK, strength_VK = follower_table(others.histories(others.last_day + 1), len(others.items) + 1)
    wanted = {
        (others.item_ids[row - 1].as_py(), others.item_ids[item - 1].as_py()): strength
        for row in range(1, others.n_items + 1)
        for item, strength in zip(follower_VK[row], strength_VK[row], strict=True)
        if strength
    }

    def counted(service):
        model, ids = service.answers.served["run"].decoder.model, shop.item_ids
        table = model.components["transitions"]
        return {
            (ids[row - 1].as_py(), ids[item - 1].as_py()): strength
            for row in range(1, shop.n_items + 1)
            for item, strength in zip(table.follower_VK[row].tolist(), table.strength_VK[row].tolist(), strict=True)
            if strength
        }

    with closing(Store.open(f"sqlite:///{tmp_path}/store.sqlite")) as store:
        service = Service([find_run(str(tmp_path / "run"))], store)
        assert counted(service) != pytest.approx(wanted)
        asyncio.run(service.forget("u7"))
        assert counted(service) == pytest.approx(wanted)
        service.close()
        again = Service([find_run(str(tmp_path / "run"))], store)
        assert counted(again) == pytest.approx(wanted)
        again.close()
