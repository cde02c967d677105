"""How soon a purchase comes again: known rates come out, and a day knows no later one."""

import numpy as np
import pytest
from toy import write_prepared

from recsys.signals.past_items import PAST_FEATURES, past_items
from recsys.signals.repurchase import REPURCHASE_FEATURES, Repurchases, expected_purchases, hazards_of
from recsys.signals.snapshot import Snapshots


def drawn(rate_of_item, n_users=400, n_days=200, seed=0):
    """Purchases (user, day, item) of customers who come back for each item with a constant chance a day."""
    random = np.random.default_rng(seed)
    events = []
    for item, rate in enumerate(rate_of_item, start=1):
        for user in range(n_users):
            day = int(random.integers(n_days))
            while day < n_days:
                events.append((user, day, item))
                day += int(random.geometric(rate))
    events = np.array(sorted(events))
    return Repurchases(*events.T[[0, 2, 1]], np.zeros(len(rate_of_item) + 1, dtype=np.int64))


def hazards_at(day, repurchases):
    return hazards_of(repurchases.counts(day), repurchases._group)


def of_past(data, day):
    user = np.arange(data.n_users)
    snapshot = Snapshots(data).at(day)
    past = past_items(
        {day: snapshot.hazards}, snapshot.codes.groups, data, user, data.ends_before(day), np.full(len(user), day), None
    )
    columns = [PAST_FEATURES.index(name) for name in REPURCHASE_FEATURES]
    return {
        (int(query), int(item)): dict(zip(REPURCHASE_FEATURES, row.tolist(), strict=True))
        for query, item, row in zip(past.query, past.item, np.exp(past.features[:, columns]), strict=True)
    }


def test_a_constant_rate_comes_out_though_most_have_not_come_back_yet():
    table = hazards_at(200, drawn([0.02])).everyone
    for begin in (0, 10, 50):
        later, now = expected_purchases(table, np.zeros(2, dtype=int), np.array([begin + 7, begin]))
        assert later - now == pytest.approx(7 * 0.02, rel=0.15)


def test_an_item_that_is_bought_more_often_has_a_factor_above_one():
    slow, fast = hazards_at(200, drawn([0.01, 0.04])).frailty[1:]
    assert slow < 1 < fast
    assert fast / slow == pytest.approx(4, rel=0.2)


def test_a_day_knows_no_purchase_of_its_own_or_later():
    repurchases = drawn([0.02, 0.05])
    kept = repurchases._start < 100
    cut = Repurchases(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), np.zeros(0), repurchases._group)
    cut._item, cut._start = repurchases._item[kept], repurchases._start[kept]
    cut._following = np.where(repurchases._following[kept] < 100, repurchases._following[kept], np.iinfo(np.int32).max)
    for one, other in zip(
        vars(hazards_at(100, repurchases)).values(), vars(hazards_at(100, cut)).values(), strict=True
    ):
        assert np.array_equal(one, other)


def test_who_comes_back_sooner_than_others_is_expected_sooner(tmp_path):
    weekly = [(0, 100 + 7 * week, 1) for week in range(8)]
    others = [(user, 100 + 28 * month, 1) for user in range(1, 9) for month in range(2)]
    known = of_past(write_prepared(tmp_path / "shop", weekly + others), 157)
    eager, usual = known[0, 1], known[1, 1]
    assert eager["user_frailty"] > 1 > usual["user_frailty"]
    assert eager["frailty"] > 1 > usual["frailty"]
    assert eager["expected"] == pytest.approx(
        eager["expected_item"] * eager["user_frailty"] * eager["frailty"], rel=1e-4
    )
    assert eager["expected_28"] > eager["expected"]
    # By everybody the two differ only as their last purchases lie 8 and 29 days back: the end of another month is near.
    assert usual["expected_everyone"] > eager["expected_everyone"]


def test_two_on_one_day_are_one_purchase(tmp_path):
    events = [(0, 100, 1), (0, 110, 1), (1, 103, 1), (1, 104, 2)]
    once = of_past(write_prepared(tmp_path / "once", events), 120)
    twice = of_past(write_prepared(tmp_path / "twice", [events[0], *events]), 120)
    assert once == twice


def test_a_log_of_one_day_expects_something_and_nothing_infinite(tmp_path):
    known = of_past(write_prepared(tmp_path / "day", [(0, 100, 1), (1, 100, 2)]), 101)
    assert all(0 < value < 10 for row in known.values() for value in row.values())


def test_who_was_last_seen_years_ago_is_expected_no_sooner(tmp_path):
    known = of_past(write_prepared(tmp_path / "old", [(0, 100, 1), (1, 4000, 1), (1, 4010, 1)]), 4020)
    assert known[0, 1]["expected_everyone"] < known[1, 1]["expected_everyone"]
    assert all(1e-5 < value < 10 for value in known[0, 1].values())
