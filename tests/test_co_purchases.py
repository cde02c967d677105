"""CoPurchases: worked by hand, each query alone equals all together, nothing of the date asked or later is read."""

import numpy as np
import pytest
from toy import toy_data

from recsys.signals.co_purchases import CO_PURCHASE_FEATURES, MAX_CO_PURCHASES, MAX_STEP_DAYS, Baskets, no_co_purchases
from recsys.signals.history import co_purchases_of, past_items

#: Ten customers buy 1 and 2 in one week, five others buy 3 alone, and one buys 1 and, a week later, 3.
TOGETHER = [(user, 100 + one, item) for user in range(10) for one, item in enumerate((1, 2))]
EVENTS = [*TOGETHER, *((user, 100, 3) for user in range(10, 15)), (15, 92, 1), (15, 101, 3)]


def baskets_of(events, n_items=3):
    user, day, item = np.array(sorted(events)).T
    return Baskets(user, item, day, n_items + 1)


def test_lift_is_how_much_likelier_a_companion_is_than_it_usually_is():
    lift = baskets_of(EVENTS).at(104).toarray()
    # 17 baskets: ten of 1 and 2, five of 3, two of the last customer. Item 1 is in 11, item 2 in 10; 10 are added.
    assert lift[1, 2] == pytest.approx(10 / (11 + 10) / (10 / 17))
    assert lift[2, 1] == pytest.approx(10 / (10 + 10) / (11 / 17))
    assert np.count_nonzero(lift) == 2


def test_what_is_bought_on_the_date_or_later_is_not_counted():
    before, after = baskets_of(EVENTS), baskets_of([*EVENTS, *((user, 104, 3) for user in range(10))])
    assert np.array_equal(before.at(104).toarray(), after.at(104).toarray())
    assert after.at(105).toarray()[1, 3] > 0


def test_an_item_that_meets_another_once_has_no_companion():
    assert baskets_of([(0, 100, 1), (0, 100, 2), *((user, 100, 3) for user in range(9))]).at(101).nnz == 0


def test_only_the_companions_whose_chance_is_raised_most_are_kept():
    # Item 1 meets forty others, five times each, and twenty of them ten times more often; most baskets do without it.
    events = [(user, 100, item) for user in range(200) for item in (1, 2 + user % 40)]
    events += [(200 + user, 100, item) for user in range(900) for item in (1, 2 + user % 20)]
    events += [(1100 + user, 100, 42) for user in range(9000)]
    kept = baskets_of(events, n_items=42).at(101)[[1]].indices.tolist()
    assert len(kept) == MAX_CO_PURCHASES
    assert set(range(2, 22)) <= set(kept)


def test_training_counts_at_few_dates_none_of_them_after_the_question(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=9, n_days=400, seed=3)
    days = np.arange(data.first_day + 1, data.last_day + 2)
    dates = data.baskets.dates_for_training(days)
    assert (dates <= days).all()
    assert (days - dates <= np.minimum((days - data.first_day) / 8, MAX_STEP_DAYS)).all()
    assert len(np.unique(dates)) < 60
    assert len(np.unique(dates[230:])) <= 8


def test_the_summary_of_a_companion_is_that_of_the_past_items_that_it_goes_with(tmp_path):
    data = toy_data(tmp_path, n_users=60, n_items=12, n_days=60, seed=1)
    day = 18_050
    users = np.arange(60)
    past = past_items(data, users, data.ends_before(day), np.full(60, day))
    together = co_purchases_of(past, data.baskets, np.full(60, day))
    lift = data.baskets.at(day).toarray()
    assert len(together.item) > 60
    assert np.array_equal(np.lexsort((together.item, together.query)), np.arange(len(together.item)))
    column = {name: together.features[:, place] for place, name in enumerate(CO_PURCHASE_FEATURES)}
    for user in (0, 7, 31):
        own = past.item[past.query == user]
        mine = together.query == user
        goes_with = lift[own] > 0
        assert together.item[mine].tolist() == np.flatnonzero(goes_with.any(0)).tolist()
        found = together.item[mine]
        np.testing.assert_allclose(column["past_items"][mine], np.log1p(goes_with.sum(0)[found]), rtol=1e-5)
        np.testing.assert_allclose(column["highest_lift"][mine], np.log1p(lift[own].max(0)[found]), rtol=1e-5)
        decayed = np.array([sum(2 ** (-(day - data.day[e]) / 60) for e in events_of(data, user, i, day)) for i in own])
        expected = (decayed / decayed.sum()) @ lift[own]
        np.testing.assert_allclose(column["lift"][mine], np.log1p(expected[found]), rtol=1e-4)


def events_of(data, user, item, day):
    own = np.arange(data.offsets[user], data.offsets[user + 1])
    return own[(data.item[own] == item) & (data.day[own] < day)]


def test_a_customer_alone_has_the_companions_that_it_has_among_others(tmp_path):
    data = toy_data(tmp_path, n_users=30, n_items=10, n_days=60, seed=2)
    day = np.where(np.arange(30) % 2, 18_040, 18_055)
    end = np.array([data.ends_before(int(one))[user] for user, one in enumerate(day)])
    together = co_purchases_of(past_items(data, np.arange(30), end, day), data.baskets, day)
    for user in range(30):
        past = past_items(data, np.array([user]), end[[user]], day[[user]])
        alone = co_purchases_of(past, data.baskets, day[[user]])
        mine = together.query == user
        assert np.array_equal(together.item[mine], alone.item)
        np.testing.assert_allclose(together.features[mine], alone.features, rtol=1e-5)


def test_without_a_past_nothing_goes_with_it(tmp_path):
    data = toy_data(tmp_path, n_users=5, n_items=5, n_days=30, seed=0)
    nobody = past_items(data, np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    assert co_purchases_of(nobody, data.baskets, np.zeros(0, int)).features.shape == no_co_purchases().features.shape
    new = np.array([0])
    past = past_items(data, new, data.offsets[new], np.array([data.first_day]))
    assert len(co_purchases_of(past, data.baskets, np.array([data.first_day])).item) == 0
