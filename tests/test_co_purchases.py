"""Co-purchases: worked by hand, each query alone equals all together, nothing of the day asked or later is read."""

import numpy as np
import pyarrow as pa
import pytest
from toy import toy_data

from recsys.data.purchases import Purchases
from recsys.signals.co_purchases import (
    CO_PURCHASE_FEATURES,
    MAX_CO_PURCHASES,
    MAX_STEP_DAYS,
    basket_counts,
    co_purchases,
    days_counted_for_training,
    lift_of,
    no_co_purchases,
)
from recsys.signals.past_items import past_items
from recsys.signals.snapshot import Snapshots

#: Ten customers buy 1 and 2 in one week, five others buy 3 alone, and one buys 1 and, a week later, 3.
TOGETHER = [(user, 100 + one, item) for user in range(10) for one, item in enumerate((1, 2))]
EVENTS = [*TOGETHER, *((user, 100, 3) for user in range(10, 15)), (15, 92, 1), (15, 101, 3)]


def lift_of_events(events, day, n_items=3):
    user, event_day, item = np.array(sorted(events)).T
    offsets = np.searchsorted(user, np.arange(user.max() + 2))
    nothing = np.zeros(len(user))
    items = pa.table({"item_id": [str(n) for n in range(n_items)]})
    log = Purchases(item, event_day, *[nothing] * 4, offsets, manifest={}, tables={"items": items})
    return lift_of(basket_counts(log, day))


def past_and_lifts(data, users, end, day):
    """Return the past items of ``users`` and, of each day, what is bought together."""
    snapshots = Snapshots(data)
    by_day = {int(one): snapshots.at(int(one)) for one in day}
    past = past_items(
        {one: snapshot.hazards for one, snapshot in by_day.items()}, snapshots.codes.groups, data, users, end, day, None
    )
    return past, {one: snapshot.lift for one, snapshot in by_day.items()}


def test_lift_is_how_much_likelier_an_item_is_than_it_usually_is():
    lift = lift_of_events(EVENTS, 104).toarray()
    # 17 baskets: ten of 1 and 2, five of 3, two of the last customer. Item 1 is in 11, item 2 in 10; 10 are added.
    assert lift[1, 2] == pytest.approx(10 / (11 + 10) / (10 / 17))
    assert lift[2, 1] == pytest.approx(10 / (10 + 10) / (11 / 17))
    assert np.count_nonzero(lift) == 2


def test_what_is_bought_on_the_date_or_later_is_not_counted():
    later = [*EVENTS, *((user, 104, 3) for user in range(10))]
    assert np.array_equal(lift_of_events(EVENTS, 104).toarray(), lift_of_events(later, 104).toarray())
    assert lift_of_events(later, 105).toarray()[1, 3] > 0


def test_items_that_meet_once_are_not_bought_together():
    assert lift_of_events([(0, 100, 1), (0, 100, 2), *((user, 100, 3) for user in range(9))], 101).nnz == 0


def test_only_the_items_whose_chance_is_raised_most_are_kept():
    # Item 1 meets forty others, five times each, and twenty of them ten times more often; most baskets do without it.
    events = [(user, 100, item) for user in range(200) for item in (1, 2 + user % 40)]
    events += [(200 + user, 100, item) for user in range(900) for item in (1, 2 + user % 20)]
    events += [(1100 + user, 100, 42) for user in range(9000)]
    kept = lift_of_events(events, 101, n_items=42)[[1]].indices.tolist()
    assert len(kept) == MAX_CO_PURCHASES
    assert set(range(2, 22)) <= set(kept)


def test_training_counts_at_few_days_none_of_them_after_the_query():
    first_day = 18_000
    days = np.arange(first_day + 1, first_day + 401)
    counted = days_counted_for_training(days, first_day)
    assert (counted <= days).all()
    assert (days - counted <= np.minimum((days - first_day) / 8, MAX_STEP_DAYS)).all()
    assert len(np.unique(counted)) < 60
    assert len(np.unique(counted[230:])) <= 8


def test_the_summary_of_an_item_is_that_of_the_past_items_that_it_is_bought_with(tmp_path):
    data = toy_data(tmp_path, n_users=60, n_items=12, n_days=60, seed=1)
    day = 18_050
    users = np.arange(60)
    past, lifts = past_and_lifts(data, users, data.ends_before(day), np.full(60, day))
    together, lift = co_purchases(past, lifts, np.full(60, day)), lifts[day].toarray()
    assert len(together.code) > 60
    assert np.array_equal(np.lexsort((together.code, together.query)), np.arange(len(together.code)))
    column = {name: together.features[:, place] for place, name in enumerate(CO_PURCHASE_FEATURES)}
    for user in (0, 7, 31):
        own = past.item[past.query == user]
        mine = together.query == user
        raises = lift[own] > 0
        assert together.code[mine].tolist() == np.flatnonzero(raises.any(0)).tolist()
        items = together.code[mine]
        np.testing.assert_allclose(column["past_items"][mine], np.log1p(raises.sum(0)[items]), rtol=1e-5)
        np.testing.assert_allclose(column["highest_lift"][mine], np.log1p(lift[own].max(0)[items]), rtol=1e-5)
        decayed = np.array([sum(2 ** (-(day - data.day[e]) / 60) for e in bought(data, user, i, day)) for i in own])
        expected = (decayed / decayed.sum()) @ lift[own]
        np.testing.assert_allclose(column["lift"][mine], np.log1p(expected[items]), rtol=1e-4)


def bought(data, user, item, day):
    """Return the flat positions of a user's purchases of an item before ``day``."""
    own = np.arange(data.offsets[user], data.offsets[user + 1])
    return own[(data.item[own] == item) & (data.day[own] < day)]


def test_a_user_alone_has_the_co_purchases_that_it_has_among_others(tmp_path):
    data = toy_data(tmp_path, n_users=30, n_items=10, n_days=60, seed=2)
    day = np.where(np.arange(30) % 2, 18_040, 18_055)
    end = np.array([data.ends_before(int(one))[user] for user, one in enumerate(day)])
    past, lifts = past_and_lifts(data, np.arange(30), end, day)
    together = co_purchases(past, lifts, day)
    for user in range(30):
        past, lifts = past_and_lifts(data, np.array([user]), end[[user]], day[[user]])
        alone = co_purchases(past, lifts, day[[user]])
        mine = together.query == user
        assert np.array_equal(together.code[mine], alone.code)
        np.testing.assert_allclose(together.features[mine], alone.features, rtol=1e-5)


def test_without_a_past_nothing_is_bought_together_with_it(tmp_path):
    data = toy_data(tmp_path, n_users=5, n_items=5, n_days=30, seed=0)
    nobody, day = np.zeros(0, dtype=np.int64), np.array([data.first_day])
    past, lifts = past_and_lifts(data, nobody, nobody, nobody)
    assert co_purchases(past, lifts, nobody).features.shape == no_co_purchases().features.shape
    new = np.array([0])
    past, lifts = past_and_lifts(data, new, data.offsets[new], day)
    assert len(co_purchases(past, lifts, day).code) == 0
