"""What is known at a date: worked examples by hand, and nothing of the future."""

import numpy as np
import pyarrow as pa
import pytest
from toy import toy_data, write_prepared

from recsys.signals.categories import CategorySales, sold_by_category
from recsys.signals.history import CATEGORY_FEATURES, PAST_FEATURES, category_history, past_items
from recsys.signals.sales import ITEM_FEATURES, ItemSales, against_average


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
    # Two items: one more than what they sold, against the mean of that.
    assert sales["sold_7"] == pytest.approx([0, np.log(1 / 1.5), np.log(2 / 1.5)])
    # Two of item 2 on one day are one sale.
    assert sales["sold_28"] == pytest.approx([0, np.log(3 / 3), np.log(3 / 3)])
    assert sales["never_sold"] == [0, 0, 0]
    # One of item 1's two sales so far repeats an earlier one of the same customer, none of item 2's does.
    average = 1 / 4
    assert sales["repeat_share"] == pytest.approx([0, 2 * (1 + 2 * average) / 4, 2 * 2 * average / 4])


def test_an_item_is_never_sold_until_the_day_after_its_first_sale(example):
    sales = ItemSales(example)
    column = ITEM_FEATURES.index("never_sold")
    assert sales.at(110)[2, column] == 1
    assert sales.at(111)[2, column] == 0


def test_an_item_that_never_sold_is_told_what_its_kinds_sold_last_week(tmp_path):
    # 30 items of 10 categories of three; of the first kind, item 1 sold three times, of the second item 4, but long ago.
    items = pa.table({"item_id": [f"{n:02d}" for n in range(1, 31)], "kind": [f"k{n // 3}" for n in range(30)]})
    events = [(0, 100, 1), (1, 101, 1), (2, 102, 1), (3, 60, 4)]
    data = write_prepared(tmp_path / "categories", events, n_items=30, items=items)
    told = ItemSales(data).at(103)[:, ITEM_FEATURES.index("category_sold_7")]
    mean = 3 / 30
    of_kinds = (3 + 2 * mean) / (3 + 2), (0 + 2 * mean) / (3 + 2)
    expected = [np.log1p(one) - np.log1p((of_kinds[0] * 3 + of_kinds[1] * 27) / 30) for one in of_kinds]
    assert told[[2, 3, 5, 30]] == pytest.approx([expected[0], expected[0], expected[1], expected[1]])
    assert not told[[0, 1, 4]].any()  # what sold speaks for itself, however long ago


def test_kinds_are_drawn_towards_coarser_ones_and_a_code_of_nothing_says_nothing():
    # Items 1 and 2 of a fine kind, 3 of none; 1 to 3 of a coarse one, 4 of nothing.
    categories = np.array([[0, 0], [1, 2], [1, 2], [0, 2], [0, 0]])
    everything = 8 / 4
    coarse = (8 + 2 * everything) / (3 + 2)
    fine = (8 + 2 * coarse) / (2 + 2)
    found = sold_by_category(np.array([0, 8, 0, 0, 0]), categories)
    assert found[1:] == pytest.approx([fine, fine, coarse, everything])


def test_where_nothing_describes_items_none_is_told_of_its_kinds(example):
    assert ItemSales(example).at(105)[:, ITEM_FEATURES.index("category_sold_7")] == pytest.approx([0, 0, 0], abs=1e-12)


def test_no_feature_reads_the_date_asked_or_later(tmp_path):
    toy = toy_data(tmp_path, n_users=20, n_items=15, n_days=60, seed=2)
    day = 18_040
    events = np.stack([toy.user_of_event(), toy.day, toy.item], axis=1).astype(np.int64)
    # Of 30 items of ten categories, the first 15 are sold, of each kind one or two.
    items = pa.table({"item_id": [f"{n:02d}" for n in range(1, 31)], "kind": [f"k{n % 10}" for n in range(30)]})
    later, users = events[:, 1] >= day, [f"u{n}" for n in range(20)]
    data = write_prepared(tmp_path / "categories", events, n_items=30, users=users, items=items)
    events[later, 2] = 1 + (events[later, 2] * 7) % 30
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=30, users=users, items=items)
    assert ItemSales(data).at(day)[16:, ITEM_FEATURES.index("category_sold_7")].any()
    assert np.array_equal(ItemSales(data).at(day), ItemSales(corrupted).at(day))
    users = np.arange(20)
    pasts = [past_items(d, users, d.ends_before(day), np.full(20, day)) for d in (data, corrupted)]
    assert np.array_equal(pasts[0].features, pasts[1].features)


def kinds_of(data, user, day, categories):
    past = past_items(data, np.array([user]), data.ends_before(day)[[user]], np.array([day]))
    found = category_history(
        past, np.array(categories), CategorySales(data.item, data.day, np.array(categories)), np.array([day])
    )
    return {
        int(code): dict(zip(CATEGORY_FEATURES, row.tolist(), strict=True))
        for code, row in zip(found.code, found.features, strict=True)
    }


#: Items 0 (padding) … 2 of one kind, 4, that item 2 shares with nobody else's kind 7 beside it.
KINDS = [[0, 0], [4, 0], [4, 7]]


def test_the_purchases_of_a_kind_are_summarised_as_by_hand(example):
    both = kinds_of(example, 0, 123, KINDS)[4]
    ages, half = np.array([3, 13, 13, 13, 23]), lambda days, life: (2 ** (-np.array(days) / life)).sum()
    assert both["items"] == pytest.approx(np.log1p(2))
    assert both["count"] == pytest.approx(np.log1p(5))
    for life in (7, 20, 60, 150):
        assert both[f"decayed_{life}"] == pytest.approx(np.log1p(half(ages, life)), rel=1e-5)
    for life in (20, 60):  # item 1 was first bought 23 days before, item 2 13
        assert both[f"discoveries_{life}"] == pytest.approx(np.log1p(half([13, 23], life)), rel=1e-5)
    assert both["age_last"] == pytest.approx(np.log1p(3) / 4)
    assert both["age_first"] == pytest.approx(np.log1p(23) / 4)
    assert both["age_discovery"] == pytest.approx(np.log1p(13) / 4)
    assert both["items_a_purchase"] == pytest.approx(2 / 5)
    assert (both["share"], both["share_60"]) == (pytest.approx(1), pytest.approx(1))
    assert both["user_events"] == pytest.approx(np.log1p(5) / 8)
    assert both["user_trips"] == pytest.approx(np.log1p(3) / 6)
    assert both["user_days_since_trip"] == pytest.approx(np.log1p(3) / 4)
    assert both["user_mean_trip_gap"] == pytest.approx(np.log1p(10) / 4)


def test_an_item_counts_for_each_of_its_kinds_and_a_share_is_of_all_that_was_bought(example):
    found = kinds_of(example, 0, 123, KINDS)
    assert found.keys() == {4, 7}
    assert found[7]["items"] == pytest.approx(np.log1p(1))
    assert found[7]["count"] == pytest.approx(np.log1p(2))
    assert found[7]["share"] == pytest.approx(2 / 5)
    assert found[7]["share_60"] == pytest.approx(
        2 * 2 ** (-13 / 60) / (2 ** (-np.array([3, 13, 13, 13, 23]) / 60)).sum()
    )
    assert found[7]["items_a_purchase"] == pytest.approx(1 / 2)
    # In the week before, item 1 was sold on day 120 and item 2 on day 119; one is added to each.
    assert found[7]["lift"] == pytest.approx(np.log1p(2 / 5 * (2 + 2) / 2))
    assert found[4]["lift"] == pytest.approx(np.log1p(1 * (2 + 2) / (2 + 2)))


def test_what_nothing_is_known_of_is_no_kind(example):
    assert kinds_of(example, 0, 123, [[0], [0], [3]]).keys() == {3}
    assert kinds_of(example, 0, 123, [[0], [0], [0]]) == {}
    assert kinds_of(example, 0, 123, np.zeros((3, 0), dtype=np.int64)) == {}


def test_customers_without_history_have_no_kinds(example):
    assert kinds_of(example, 1, 119, KINDS) == {}
    nobody = past_items(example, np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    sales = CategorySales(example.item, example.day, np.array(KINDS))
    assert category_history(nobody, np.array(KINDS), sales, np.zeros(0, int)).features.shape == (
        0,
        len(CATEGORY_FEATURES),
    )


def test_kinds_of_several_customers_at_once_equal_each_alone_and_sum_their_past_items(tmp_path):
    data = toy_data(tmp_path, n_users=12, n_items=9, n_days=50, seed=1)
    categories = np.stack([np.arange(10) % 3, np.where(np.arange(10) % 2, 3 + np.arange(10) // 4, 0)], axis=1)
    day = np.full(12, 18_040)
    past = past_items(data, np.arange(12), data.ends_before(18_040), day)
    together = category_history(past, categories, CategorySales(data.item, data.day, categories), day)
    assert np.array_equal(np.lexsort((together.code, together.query)), np.arange(len(together.query)))
    for user in range(12):
        alone = kinds_of(data, user, 18_040, categories)
        assert together.code[together.query == user].tolist() == list(alone)
        for code, row in zip(alone, together.features[together.query == user], strict=True):
            np.testing.assert_allclose(row, list(alone[code].values()), rtol=1e-5)
            rows = past.features[(past.query == user) & (categories[past.item] == code).any(1)]
            for name in ("count", "decayed_7", "decayed_20", "decayed_60", "decayed_150"):
                whole = np.expm1(rows[:, PAST_FEATURES.index(name)]).sum()
                assert np.expm1(alone[code][name]) == pytest.approx(whole, rel=1e-4)


def test_a_busier_week_for_every_item_alike_changes_nothing_that_is_said_of_its_sales():
    """By the sum of exp, the catalogue is as heavy on a busy day as on a quiet one, and on the log's first as later."""
    sold = np.array([0, 0, 4, 9, 1])
    busy = np.concatenate([[0], 10 * (sold[1:] + 1) - 1])
    np.testing.assert_allclose(against_average(sold)[1:], against_average(busy)[1:])
    assert np.exp(against_average(busy)[1:]).sum() == pytest.approx(len(sold) - 1)
