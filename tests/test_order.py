from dataclasses import replace

import numpy as np
import pytest

from recsys.data.order import (
    Events,
    basket_numbers,
    count_duplicates,
    history_order,
    in_history_order,
    offsets_of,
    tie_of,
)


def random_events(rng: np.random.Generator, n: int, *, widest: bool = False) -> Events:
    """Few distinct values, so that ties are many; or values that need more bits than a key has."""
    top = 2**31 - 1 if widest else 4
    price = rng.choice(np.array([0.5, -0.0, 0.0, 3, np.nan], dtype=np.float32), n)
    return Events(
        user=rng.integers(0, top, n, dtype=np.int32),
        item=rng.integers(1, top, n, dtype=np.int32),
        day=rng.integers(-5, top - 5, n, dtype=np.int32),
        millisecond=rng.integers(0, 86_400_000 if widest else 3, n, dtype=np.int32),
        price=price,
        channel=rng.integers(0, 3, n, dtype=np.int8),
        quantity=rng.integers(1, 3, n).astype(np.float32),
        basket=rng.integers(0, 2**40 if widest else 3, n),
    )


def sort_keys(events: Events) -> list[tuple]:
    tie = tie_of(events.user, events.item, events.day)
    return [
        (
            events.user[row],
            events.day[row],
            events.millisecond[row],
            events.basket[row],
            tie[row],
            events.item[row],
            events.channel[row],
            (np.isnan(events.price[row]), events.price[row]) if not np.isnan(events.price[row]) else (True, 0),
            events.quantity[row],
        )
        for row in range(len(events))
    ]


@pytest.mark.parametrize("widest", [False, True])
def test_order_is_by_user_day_time_basket_tie_item_channel_price_and_quantity(widest):
    events = random_events(np.random.default_rng(0), 2_000, widest=widest)
    keys = sort_keys(events)
    assert [keys[row] for row in history_order(events)] == sorted(keys)


def test_order_does_not_depend_on_the_order_in_which_rows_came():
    rng = np.random.default_rng(1)
    events = random_events(rng, 2_000)
    shuffled = events.take(rng.permutation(len(events)))
    first, second = (each.take(history_order(each)) for each in (events, shuffled))
    for name in ("user", "item", "day", "millisecond", "price", "channel", "quantity", "basket"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_within_a_day_items_do_not_come_in_the_order_of_their_ids():
    n = 1_000
    item = np.arange(1, n + 1, dtype=np.int32)
    zeros = np.zeros(n, dtype=np.int32)
    order = history_order(Events(zeros, item, zeros))
    assert abs(np.corrcoef(item[order], np.arange(n))[0, 1]) < 0.1


def test_events_without_optional_columns_or_without_rows_can_be_sorted():
    none = np.zeros(0, dtype=np.int32)
    assert len(history_order(Events(none, none, none))) == 0


def test_baskets_are_numbered_by_first_appearance_and_missing_ones_by_day():
    user = np.array([0, 0, 0, 0, 0, 2, 2], dtype=np.int32)
    day = np.array([1, 1, 1, 2, 2, 1, 1], dtype=np.int32)
    offsets = offsets_of(user, 3)
    assert offsets.tolist() == [0, 5, 5, 7]
    assert basket_numbers(user, day, None, offsets).tolist() == [0, 0, 0, 1, 1, 0, 0]
    basket = np.array([9, 4, 9, 0, 0, 4, 0])
    assert basket_numbers(user, day, basket, offsets).tolist() == [0, 1, 0, 2, 2, 0, 1]


def test_a_row_is_a_duplicate_only_if_every_column_is_equal():
    events = random_events(np.random.default_rng(2), 5_000)
    events = replace(events, price=events.price + np.float32(0))  # one zero, not two
    events = events.take(history_order(events))
    assert 0 < count_duplicates(events) == len(events) - len(set(sort_keys(events)))


@pytest.mark.parametrize(("part", "block"), [(1, 10**6), (7, 64), (10**6, 499)])
@pytest.mark.parametrize("with_optional", [True, False])
def test_histories_made_some_users_at_a_time_are_those_made_at_once(monkeypatch, part, block, with_optional):
    monkeypatch.setattr("recsys.data.order._PART", part)
    monkeypatch.setattr("recsys.data.order._BLOCK", block)
    events = random_events(np.random.default_rng(3), 500)
    events = replace(events, user=events.user * 2 + 1)  # users without events between, before and after the others
    if not with_optional:
        events = replace(events, millisecond=None, price=None, channel=None, quantity=None, basket=None)
    arrays, n_duplicates = in_history_order(events, n_users=9)
    whole = events.take(history_order(events))
    expected = {name: whole.column(name) for name in ("item", "day", "price", "channel", "quantity")}
    expected["offsets"] = offsets_of(events.user, 9)
    expected["basket"] = basket_numbers(whole.user, whole.day, whole.basket, expected["offsets"])
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
    assert n_duplicates == count_duplicates(whole)


def test_nobody_and_nothing_make_empty_histories():
    none = np.empty(0, dtype=np.int32)
    arrays, n_duplicates = in_history_order(Events(none, none, none), n_users=0)
    assert (arrays["offsets"].tolist(), len(arrays["item"]), n_duplicates) == ([0], 0, 0)
