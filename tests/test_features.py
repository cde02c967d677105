"""What is known at a date: worked examples by hand, and nothing of the future."""

import numpy as np
import pytest
from toy import toy_data, write_prepared

from recsys.features import ITEM_FEATURES, PAST_FEATURES, ItemSales, past_items


def past_of(data, user, day):
    end = data.ends_before(day)[[user]]
    past = past_items(data, np.array([user]), end, np.array([day]))
    return {
        int(item): dict(zip(PAST_FEATURES, row.tolist(), strict=True))
        for item, row in zip(past.item, past.features, strict=True)
    }


@pytest.fixture
def example(tmp_path):
    # One customer: item 1 on days 100, 110, 120; item 2 on day 110 twice; another customer afterwards.
    events = [(0, 100, 1), (0, 110, 1), (0, 110, 2), (0, 110, 2), (0, 120, 1), (1, 119, 2), (1, 125, 1)]
    return write_prepared(tmp_path / "example", events)


def test_a_past_item_is_summarised_as_by_hand(example):
    first = past_of(example, 0, 123)[1]
    assert first["count"] == pytest.approx(np.log1p(3))
    assert first["decayed_7"] == pytest.approx(np.log1p(2 ** (-3 / 7) + 2 ** (-13 / 7) + 2 ** (-23 / 7)))
    assert first["age_last"] == pytest.approx(np.log1p(3) / 4)
    assert first["age_first"] == pytest.approx(np.log1p(23) / 4)
    assert first["mean_gap"] == pytest.approx(np.log1p(10) / 4)
    assert first["overdue"] == pytest.approx(0.3 / 2)
    assert first["trips_since_last"] == 0
    assert first["share_of_trips"] == pytest.approx(1)
    assert first["user_days_since_trip"] == pytest.approx(np.log1p(3) / 4)
    assert first["user_mean_trip_gap"] == pytest.approx(np.log1p(10) / 4)


def test_two_of_an_item_in_one_basket_are_one_trip(example):
    second = past_of(example, 0, 123)[2]
    assert second["count"] == pytest.approx(np.log1p(2))
    assert second["share_of_trips"] == pytest.approx(1 / 3)
    assert second["share_of_trips_since_first"] == pytest.approx(1 / 3)  # bought on one of two trips since, +1
    assert second["has_gap"] == 0
    assert second["trips_since_last"] == pytest.approx(np.log1p(1) / 4)


def test_customers_without_history_have_no_past_items(example):
    assert past_of(example, 1, 119) == {}
    assert past_items(example, np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)).features.shape == (
        0,
        len(PAST_FEATURES),
    )


def test_several_queries_at_once_equal_each_alone(tmp_path):
    data = toy_data(tmp_path, n_users=12, n_items=9, n_days=50, seed=1)
    day = np.arange(12) * 3 + 18_005
    end = np.array([data.ends_before(int(d))[user] for user, d in enumerate(day)])
    together = past_items(data, np.arange(12), end, day)
    for user in range(12):
        alone = past_items(data, np.array([user]), end[[user]], day[[user]])
        mine = together.query == user
        assert np.array_equal(together.item[mine], alone.item)
        np.testing.assert_allclose(together.features[mine], alone.features, rtol=1e-5)


def test_sales_count_the_days_before_the_date_only(example):
    sales = dict(zip(ITEM_FEATURES, ItemSales(example).at(120).T.tolist(), strict=True))
    assert sales["sold_7"] == pytest.approx([0, 0, np.log1p(1)])
    assert sales["sold_28"] == pytest.approx([0, np.log1p(2), np.log1p(3)])
    assert sales["never_sold"] == [0, 0, 0]
    # One of item 1's two sales so far, and one of item 2's three, repeats an earlier one of the same customer.
    average = 2 / 5
    assert sales["repeat_share"] == pytest.approx([0, 2 * (1 + 2 * average) / 4, 2 * (1 + 2 * average) / 5])


def test_an_item_is_never_sold_until_the_day_after_its_first_sale(example):
    sales = ItemSales(example)
    column = ITEM_FEATURES.index("never_sold")
    assert sales.at(110)[2, column] == 1
    assert sales.at(111)[2, column] == 0


def test_no_feature_reads_the_date_asked_or_later(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=15, n_days=60, seed=2)
    day = 18_040
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1).astype(np.int64)
    later = events[:, 1] >= day
    events[later, 2] = 1 + (events[later, 2] * 7) % 15
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=15, users=[f"u{n}" for n in range(20)])
    assert np.array_equal(ItemSales(data).at(day), ItemSales(corrupted).at(day))
    users = np.arange(20)
    pasts = [past_items(d, users, d.ends_before(day), np.full(20, day)) for d in (data, corrupted)]
    assert np.array_equal(pasts[0].features, pasts[1].features)
