"""What is known at a day: worked examples by hand, nothing of the future, and snapshots that come back as they went."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from toy import events_of, toy_data, write_prepared

from recsys.data.days import day_date
from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.signals.categories import CATEGORY_FEATURES, category_history, sold_by_category
from recsys.signals.item_codes import ItemCodes
from recsys.signals.past_items import PAST_FEATURES, past_items
from recsys.signals.sales import ITEM_FEATURES, against_average
from recsys.signals.snapshot import MAX_KEPT, Snapshot, Snapshots

NOBODY = np.zeros(0, dtype=np.int64)


def past_at(data, users, end, day, snapshots=None):
    """Return the past items of ``users``, each asked about at its own ``day``."""
    snapshots = Snapshots(data) if snapshots is None else snapshots
    hazards = {int(one): snapshots.at(int(one)).hazards for one in day}
    return past_items(hazards, snapshots.codes.groups, data, users, end, day, None)


def item_features(data, day):
    return Snapshots(data).at(day).item_features


def past_of(data, user, day):
    end = data.ends_before(day)[[user]]
    past = past_at(data, np.array([user]), end, np.array([day]))
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
    assert past_at(example, NOBODY, NOBODY, NOBODY).features.shape == (0, len(PAST_FEATURES))


def test_several_queries_at_once_equal_each_alone(tmp_path):
    data = toy_data(tmp_path, n_users=12, n_items=9, n_days=50, seed=1)
    day = np.arange(12) * 3 + 18_005
    end = np.array([data.ends_before(int(d))[user] for user, d in enumerate(day)])
    together = past_at(data, np.arange(12), end, day)
    for user in range(12):
        alone = past_at(data, np.array([user]), end[[user]], day[[user]])
        mine = together.query == user
        assert np.array_equal(together.item[mine], alone.item)
        np.testing.assert_allclose(together.features[mine], alone.features, rtol=1e-5)


def test_sales_count_the_days_before_the_date_only(example):
    sales = dict(zip(ITEM_FEATURES, item_features(example, 120).T.tolist(), strict=True))
    # Two items: one more than what they sold, against the mean of that.
    assert sales["sold_7"] == pytest.approx([0, np.log(1 / 1.5), np.log(2 / 1.5)])
    # Two of item 2 on one day are one sale.
    assert sales["sold_28"] == pytest.approx([0, np.log(3 / 3), np.log(3 / 3)])
    assert sales["never_sold"] == [0, 0, 0]
    # One of item 1's two sales so far repeats an earlier one of the same customer, none of item 2's does.
    average = 1 / 4
    assert sales["repeat_share"] == pytest.approx([0, 2 * (1 + 2 * average) / 4, 2 * 2 * average / 4])


def test_an_item_is_never_sold_until_the_day_after_its_first_sale(example):
    column = ITEM_FEATURES.index("never_sold")
    assert item_features(example, 110)[2, column] == 1
    assert item_features(example, 111)[2, column] == 0


def test_of_an_item_that_never_sold_it_is_known_what_its_categories_sold_last_week(tmp_path):
    # 30 items of 10 categories of three; of the first, item 1 sold three times, of the second item 4, but long ago.
    items = pa.table({"item_id": [f"{n:02d}" for n in range(1, 31)], "brand": [f"b{n // 3}" for n in range(30)]})
    events = [(0, 100, 1), (1, 101, 1), (2, 102, 1), (3, 60, 4)]
    data = write_prepared(tmp_path / "categories", events, n_items=30, items=items)
    read = item_features(data, 103)[:, ITEM_FEATURES.index("category_sold_7")]
    mean = 3 / 30
    of_categories = (3 + 2 * mean) / (3 + 2), (0 + 2 * mean) / (3 + 2)
    expected = [np.log1p(one) - np.log1p((of_categories[0] * 3 + of_categories[1] * 27) / 30) for one in of_categories]
    assert read[[2, 3, 5, 30]] == pytest.approx([expected[0], expected[0], expected[1], expected[1]])
    assert not read[[0, 1, 4]].any()  # what sold speaks for itself, however long ago


def test_categories_are_drawn_towards_coarser_ones_and_a_code_of_nothing_says_nothing():
    # Items 1 and 2 of a fine category, 3 of none; 1 to 3 of a coarse one, 4 of nothing.
    categories = np.array([[0, 0], [1, 2], [1, 2], [0, 2], [0, 0]])
    everything = 8 / 4
    coarse = (8 + 2 * everything) / (3 + 2)
    fine = (8 + 2 * coarse) / (2 + 2)
    assert sold_by_category(np.array([0, 8, 0, 0, 0]), categories)[1:] == pytest.approx(
        [fine, fine, coarse, everything]
    )


def test_where_nothing_describes_items_nothing_is_known_of_their_categories(example):
    of_categories = item_features(example, 105)[:, ITEM_FEATURES.index("category_sold_7")]
    assert of_categories == pytest.approx([0, 0, 0], abs=1e-12)


def test_no_feature_reads_the_date_asked_or_later(tmp_path):
    toy = toy_data(tmp_path, n_users=20, n_items=15, n_days=60, seed=2)
    day = 18_040
    events = events_of(toy)
    # Of 30 items of ten categories, the first 15 are sold, of each one or two.
    items = pa.table({"item_id": [f"{n:02d}" for n in range(1, 31)], "brand": [f"b{n % 10}" for n in range(30)]})
    later, users = events[:, 1] >= day, [f"u{n}" for n in range(20)]
    data = write_prepared(tmp_path / "categories", events, n_items=30, users=users, items=items)
    events[later, 2] = 1 + (events[later, 2] * 7) % 30
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=30, users=users, items=items)
    assert item_features(data, day)[16:, ITEM_FEATURES.index("category_sold_7")].any()
    assert np.array_equal(item_features(data, day), item_features(corrupted, day))
    users = np.arange(20)
    pasts = [past_at(d, users, d.ends_before(day), np.full(20, day)) for d in (data, corrupted)]
    assert np.array_equal(pasts[0].features, pasts[1].features)


def with_categories(data, categories):
    """Return snapshots of ``data`` whose items have the ``categories`` (V, C)."""
    codes = np.array(categories, dtype=np.int64).reshape(data.n_items + 1, -1)
    return Snapshots(data, ItemCodes(codes, np.arange(data.n_items + 1), codes, {}, None, ()))


def categories_of(data, user, day, categories):
    snapshots, days = with_categories(data, categories), np.array([day])
    past = past_at(data, np.array([user]), data.ends_before(day)[[user]], days, snapshots)
    history = category_history(past, snapshots.codes.categories, {day: snapshots.at(day).category_rarity}, days)
    return {
        int(code): dict(zip(CATEGORY_FEATURES, row.tolist(), strict=True))
        for code, row in zip(history.code, history.features, strict=True)
    }


#: Items 0 (padding) … 2 of one category, 4; item 2 is of 7 too, of which no other item is.
CATEGORIES = [[0, 0], [4, 0], [4, 7]]


def test_the_purchases_of_a_category_are_summarised_as_by_hand(example):
    both = categories_of(example, 0, 123, CATEGORIES)[4]
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


def test_an_item_counts_for_each_of_its_categories_and_a_share_is_of_all_that_was_bought(example):
    mine = categories_of(example, 0, 123, CATEGORIES)
    assert mine.keys() == {4, 7}
    assert mine[7]["items"] == pytest.approx(np.log1p(1))
    assert mine[7]["count"] == pytest.approx(np.log1p(2))
    assert mine[7]["share"] == pytest.approx(2 / 5)
    assert mine[7]["share_60"] == pytest.approx(
        2 * 2 ** (-13 / 60) / (2 ** (-np.array([3, 13, 13, 13, 23]) / 60)).sum()
    )
    assert mine[7]["items_a_purchase"] == pytest.approx(1 / 2)
    # In the week before, item 1 was sold on day 120 and item 2 on day 119; one is added to each.
    assert mine[7]["lift"] == pytest.approx(np.log1p(2 / 5 * (2 + 2) / 2))
    assert mine[4]["lift"] == pytest.approx(np.log1p(1 * (2 + 2) / (2 + 2)))


def test_what_nothing_is_known_of_is_no_category(example):
    assert categories_of(example, 0, 123, [[0], [0], [3]]).keys() == {3}
    assert categories_of(example, 0, 123, [[0], [0], [0]]) == {}
    assert categories_of(example, 0, 123, np.zeros((3, 0), dtype=np.int64)) == {}


def test_customers_without_history_have_no_categories(example):
    assert categories_of(example, 1, 119, CATEGORIES) == {}
    nobody = category_history(past_at(example, NOBODY, NOBODY, NOBODY), np.array(CATEGORIES), {}, NOBODY)
    assert nobody.features.shape == (0, len(CATEGORY_FEATURES))


def test_categories_of_several_customers_at_once_equal_each_alone_and_sum_their_past_items(tmp_path):
    data = toy_data(tmp_path, n_users=12, n_items=9, n_days=50, seed=1)
    categories = np.stack([np.arange(10) % 3, np.where(np.arange(10) % 2, 3 + np.arange(10) // 4, 0)], axis=1)
    day = np.full(12, 18_040)
    snapshots = with_categories(data, categories)
    past = past_at(data, np.arange(12), data.ends_before(18_040), day, snapshots)
    together = category_history(past, categories, {18_040: snapshots.at(18_040).category_rarity}, day)
    assert np.array_equal(np.lexsort((together.code, together.query)), np.arange(len(together.query)))
    for user in range(12):
        alone = categories_of(data, user, 18_040, categories)
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


TABLES = ("item_features", "category_rarity")


def assert_alike(one, other):
    """Two snapshots hold the same, table by table."""
    assert one.day == other.day
    assert one.feature_names == other.feature_names
    assert one.items.to_arrow().equals(other.items.to_arrow())
    for name in TABLES:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("everyone", "groups", "frailty"):
        assert np.array_equal(getattr(one.hazards, name), getattr(other.hazards, name)), name
    assert (one.lift != other.lift).nnz == 0
    assert one.lift.shape == other.lift.shape
    for days in (7, 28):
        assert np.array_equal(one.sold(days), other.sold(days)), days
    for name in ("attributes", "groups", "categories"):
        assert np.array_equal(getattr(one.codes, name), getattr(other.codes, name)), name
    assert (one.promotions is None) == (other.promotions is None)
    if one.promotions is not None:
        assert np.array_equal(one.promotions.at(one.day), other.promotions.at(other.day))


DAY = 18_050


@pytest.fixture(params=[False, True], ids=["no promotions", "promotions"])
def described(tmp_path, request):
    """Data of 40 items in categories, some of them planned to be promoted."""
    toy = toy_data(tmp_path, n_users=40, n_items=40, n_days=60, seed=2)
    items = pa.table(
        {"item_id": [f"{n:02d}" for n in range(1, 41)], "brand": [f"b{n // 4}" for n in range(40)]}
        | {"made_of": [f"m{n % 2}" for n in range(40)]}
    )
    planned = [(item, DAY - 10 + item, DAY + item, "front", 0.5) for item in range(1, 9)] if request.param else None
    users = [f"u{n}" for n in range(40)]
    return write_prepared(tmp_path / "shop", events_of(toy), n_items=40, users=users, items=items, promotions=planned)


def test_a_snapshot_comes_back_from_its_folder_as_it_went_and_memory_mapped(described, tmp_path):
    snapshot = Snapshots(described).at(DAY)
    assert snapshot.lift.nnz
    assert snapshot.category_rarity.any()
    snapshot.save(tmp_path / "snapshot")
    opened = Snapshot.open(tmp_path / "snapshot")
    assert_alike(opened, snapshot)
    assert isinstance(opened.item_features, np.memmap)
    assert opened.codes.codebook == snapshot.codes.codebook
    opened.save(tmp_path / "again")
    assert_alike(Snapshot.open(tmp_path / "again"), snapshot)


def test_a_snapshot_of_one_day_is_asked_for_no_other(described, tmp_path):
    Snapshots(described).at(DAY).save(tmp_path / "snapshot")
    opened = Snapshot.open(tmp_path / "snapshot")
    assert opened.at(DAY) is opened
    with pytest.raises(DataError, match="the snapshot is of 2019-06-03, asked was 2019-06-04"):
        opened.at(DAY + 1)


def test_a_folder_that_holds_no_whole_snapshot_is_refused(described, tmp_path):
    with pytest.raises(DataError, match="holds no snapshot"):
        Snapshot.open(tmp_path)
    folder = tmp_path / "snapshot"
    Snapshots(described).at(DAY).save(folder)
    names = sorted(path.name for path in folder.iterdir() if path.name != "snapshot.json")
    assert len(names) > 10
    for name in names:
        Snapshots(described).at(DAY).save(folder)
        (folder / name).unlink()
        with pytest.raises(DataError, match="not a whole snapshot"):
            Snapshot.open(folder)
    Snapshots(described).at(DAY).save(folder)
    np.save(folder / "item_features.npy", Snapshots(described).at(DAY).item_features[:3])
    with pytest.raises(DataError, match="rows"):
        Snapshot.open(folder)


def cut(log, day):
    """Return the log of the events before ``day``, with the tables that it has."""
    end = log.ends_before(day)
    _, position = log.histories(day).events()
    names = ("item", "day", "price", "channel", "quantity", "basket")
    arrays = {name: np.asarray(getattr(log, name))[position] for name in names}
    offsets = np.concatenate([[0], np.cumsum(end - log.offsets[:-1])])
    return replace(log, offsets=offsets, **arrays)


@pytest.mark.parametrize("asked", [(), (DAY - 7,), (DAY - 7, DAY)])
def test_snapshots_of_a_longer_log_are_those_of_the_whole_one(described, asked):
    shorter = Snapshots(cut(described, DAY - 7))
    for day in asked:  # what was counted then is carried on
        assert_alike(shorter.at(day), shorter.at(day))
    longer, whole = shorter.extended(described), Snapshots(described)
    for day in (DAY - 7, DAY):
        assert_alike(longer.at(day), whole.at(day))
    assert_alike(shorter.at(DAY - 7), whole.at(DAY - 7))


def test_snapshots_of_an_extended_log_with_new_items_are_those_of_the_log_extended(described):
    """Known items keep their codes; new ones get theirs by the same codebook, and are counted like others."""
    shorter = cut(described, DAY - 7)
    newer = pa.table(
        {
            "user_id": ["u3", "u3", "u5", "somebody new"],
            "item_id": ["07", "new", "new", "other"],
            "time": [day_date(DAY - day).isoformat() for day in (3, 3, 2, 1)],
        }
    )
    items = pa.table({"item_id": ["new", "other"], "brand": ["b1", "never seen"], "made_of": ["m0", None]})
    log = shorter.extended(newer, items=items)
    assert log.n_items == described.n_items + 2
    before = Snapshots(shorter)
    assert_alike(before.at(DAY), before.at(DAY))
    after = before.extended(log)
    new, other = log.item_index_of(pa.array(["new", "other"]))
    assert after.codes.attributes[new].tolist() == [
        before.codes.codebook["brand"]["b1"],
        before.codes.codebook["made_of"]["m0"],
    ]
    assert after.codes.attributes[other].tolist() == [0, 0]
    again = Snapshots(log, after.codes, promotions=after.promotions is not None)
    assert_alike(after.at(DAY), again.at(DAY))
    assert after.at(DAY).sold(7)[[7, new, other]].tolist() == [1, 2, 1]
    assert np.array_equal(after.codes.attributes[: described.n_items + 1], before.codes.attributes)
    # What was known before the new events is known as it was, of the items that were there.
    old, now = before.at(DAY - 7), after.at(DAY - 7)
    assert np.array_equal(now.sold(28)[: described.n_items + 1], old.sold(28))
    assert np.array_equal(now.lift.toarray()[: described.n_items + 1, : described.n_items + 1], old.lift.toarray())
    assert np.array_equal(now.hazards.everyone, old.hazards.everyone)


def test_snapshots_extended_again_and_again_by_new_and_by_late_events_equal_those_counted_anew(described):
    random = np.random.default_rng(3)
    log, snapshots = described, Snapshots(described)
    for step in range(4):
        assert_alike(snapshots.at(DAY), snapshots.at(DAY))
        days = random.integers(DAY - 60, DAY, 5)
        rows = {
            "user_id": [f"u{n}" for n in random.integers(0, 40, 4)] + [f"new{step}"],
            "item_id": [f"{n:02d}" for n in random.integers(1, 41, 4)] + [f"thing{step % 2}"],
            "time": [day_date(int(day)).isoformat() for day in days],
        }
        log = log.extended(pa.table(rows))
        snapshots = snapshots.extended(log)
        again = Snapshots(log, snapshots.codes, promotions=snapshots.promotions is not None)
        for day in (DAY, DAY - 20, DAY + 1, DAY):
            assert_alike(snapshots.at(day), again.at(day))


def test_a_snapshot_extended_at_its_day_counts_the_users_of_new_events_alone(described, monkeypatch):
    snapshots = Snapshots(described)
    assert_alike(snapshots.at(DAY), snapshots.at(DAY))
    bought = {"user_id": ["u3"], "item_id": ["07"], "time": [day_date(DAY - 1).isoformat()]}
    longer, read = described.extended(pa.table(bought)), []
    counted = Purchases.of_users
    monkeypatch.setattr(Purchases, "of_users", lambda log, users: read.append(users.tolist()) or counted(log, users))
    after = snapshots.extended(longer)
    monkeypatch.setattr(Snapshots, "_sales", None)
    monkeypatch.setattr(Snapshots, "_repurchases", None)
    assert read == [[3], [3]]
    assert after.at(DAY).sold(7)[7] == snapshots.at(DAY).sold(7)[7] + 1
    assert after.at(DAY).hazards.frailty.shape == (41,)


def test_only_the_snapshots_used_last_are_kept(described):
    snapshots = Snapshots(described)
    first = snapshots.at(DAY - MAX_KEPT)
    assert snapshots.at(DAY - MAX_KEPT) is first
    for day in range(DAY - MAX_KEPT + 1, DAY + 1):
        snapshots.at(day)
    assert snapshots.at(DAY - MAX_KEPT) is not first


def test_a_snapshot_knows_nothing_of_promotions_that_are_not_to_be_read(described):
    snapshots = Snapshots(described, promotions=False)
    assert snapshots.n_promoted == 0
    assert snapshots.at(DAY).feature_names == ITEM_FEATURES
    assert snapshots.at(DAY).item_features.shape == (41, len(ITEM_FEATURES))
