from dataclasses import replace

import numpy as np
import pytest

from recsys.config import Config, load_config
from recsys.data.purchases import Histories
from recsys.evaluation.splits import make_split
from recsys.modeling import rule_system
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.recommenders.rules import baskets, choice, transitions
from recsys.modeling.recommenders.rules.baskets import baskets_of
from recsys.modeling.recommenders.rules.transitions import count_followers
from recsys.modeling.rule_system import fit_rule
from tests.toy import toy_data, write_prepared

LEAVE_ONE_OUT = load_config(None, ["split.protocol=leave_one_out", "predict.exclude_seen=true"])


def log_of(folder, *histories, n_items, **options):
    """Data of users who bought the given (day, item)."""
    events = [(user, day, item) for user, history in enumerate(histories) for day, item in history]
    return write_prepared(folder / "log", events, n_items=n_items, **options)


def fitted(log, day, config=None, **numbers):
    return replace(BASELINES["transitions"](log.histories(day), config or Config(), None), **numbers)


def lists_of(rule, histories, k, *, exclude_seen=False):
    return rule.recommend(histories, k, Candidates(all_items(histories.log.n_items), exclude_seen))


def test_what_came_after_is_recommended_and_what_came_before_is_not(tmp_path):
    log = log_of(tmp_path, [(1, 1), (5, 2)], [(2, 1), (3, 2)], [(9, 1)], [(9, 2)], [(9, 3)] * 5, n_items=3)
    lists = lists_of(fitted(log, 10), log.histories(10).of([2, 3]), 1)
    assert lists.item.tolist() == [[2], [3]]  # who bought 2 gets what sells
    assert lists.score[0] > 0 > lists.score[1]


def test_a_count_falls_with_every_basket_between_and_ends_after_six(tmp_path):
    log = log_of(tmp_path, [(day, day) for day in range(1, 9)], n_items=8)
    counts = count_followers(*baskets_of(log.histories(10), 9)).toarray()
    expected = np.zeros((9, 9))
    for first in range(1, 9):
        for later in range(first + 1, min(first + 6, 8) + 1):
            expected[first, later] = 0.7 ** (later - first - 1)
    np.testing.assert_allclose(counts, expected, rtol=1e-6)


def test_items_of_one_basket_do_not_follow_each_other(tmp_path):
    log = log_of(tmp_path, [(1, 1), (2, 2), (2, 3), (2, 3)], n_items=3)
    counts = count_followers(*baskets_of(log.histories(10), 4)).toarray()
    assert {(row, column): value for (row, column), value in np.ndenumerate(counts) if value} == {(1, 2): 1, (1, 3): 1}


def test_the_score_is_the_sum_over_the_last_baskets_each_counted_less_than_the_next(tmp_path):
    # once 1 → 3 and twice 2 → 4, next to each other; 5 is held by four baskets
    others = [[(1, 1), (2, 3)], [(1, 2), (2, 4)], [(1, 2), (2, 4)]]
    log = log_of(tmp_path, *others, [(5, 2), (6, 1)], n_items=5)
    rule = fitted(log, 10, recency=0.5, source=0, target=0)
    one = log.histories(10).of([3])
    score = rule.score(one, 5, Candidates(all_items(5)))
    assert dict(zip(score.item.tolist(), score.score.tolist(), strict=True)) == pytest.approx({3: 1, 4: 1, 1: 0.5})
    # items 1, 2, 3, 4 are in 2, 3, 1, 2 baskets
    weighed = replace(rule, source=1.0, target=0.5).score(one, 5, Candidates(all_items(5)))
    expected = {3: 1 / 2, 4: 2 * 0.5 / 3 / 2**0.5, 1: 0.5 / 3 / 2**0.5}
    assert dict(zip(weighed.item.tolist(), weighed.score.tolist(), strict=True)) == pytest.approx(expected)


def test_only_the_last_ten_baskets_are_followed(tmp_path):
    log = log_of(tmp_path, [(1, 1), (2, 2)], [(3, 1), *((day, 3) for day in range(4, 14))], n_items=3)
    rule, one = fitted(log, 20, recency=1.0), log.histories(20).of([1])
    assert 2 not in rule.score(one, 3, Candidates(all_items(3))).item
    assert 2 in rule.score(log.histories(13).of([1]), 3, Candidates(all_items(3))).item


def test_purchases_of_more_than_a_season_ago_count_only_where_there_are_no_dates(tmp_path):
    log = log_of(tmp_path, [(1, 1), (2, 2)], [(99, 1)], n_items=2)
    assert fitted(log, 100).followers.nnz == 0
    assert fitted(log, 100, LEAVE_ONE_OUT).followers.nnz == 1


def test_counts_in_parts_are_the_whole_and_only_the_most_frequent_followers_are_kept(tmp_path, monkeypatch):
    log = toy_data(tmp_path, n_users=30, n_items=12, n_days=60, seed=2)
    held, owner = baskets_of(log.histories(log.last_day + 1), log.n_items + 1)
    whole = count_followers(held, owner).toarray()
    monkeypatch.setattr(transitions, "MAX_PAIRS", 50)
    np.testing.assert_allclose(count_followers(held, owner).toarray(), whole)
    monkeypatch.setattr(transitions, "N_FOLLOWERS", 3)
    few = count_followers(held, owner).toarray()
    assert ((few > 0).sum(axis=1) <= 3).all()
    np.testing.assert_allclose(few.max(axis=1), whole.max(axis=1))
    assert (few[few > 0] == whole[few > 0]).all()


def test_of_a_huge_basket_so_many_items_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(baskets, "MAX_BASKET_ITEMS", 2)
    log = log_of(tmp_path, [(1, 1), (1, 2), (1, 3), (2, 3)], n_items=3)
    held, owner = baskets_of(log.histories(10), 4)
    assert held.toarray().tolist() == [[0, 1, 1, 0], [0, 0, 0, 1]]
    assert owner.tolist() == [0, 0]


def test_no_last_item_changes_the_lists_that_are_asked_for_it(tmp_path):
    log = toy_data(tmp_path, n_users=30, n_items=25, n_days=60, seed=3)
    corrupted = np.array(log.item)
    corrupted[log.offsets[1:] - 1] = 1
    lists = []
    for data in (log, replace(log, item=corrupted)):
        (fold,) = make_split(log, LEAVE_ONE_OUT.split).tests
        rule = fit_rule("transitions", LEAVE_ONE_OUT, fold.everybody(data))
        lists.append(lists_of(rule, fold.histories(data), 5, exclude_seen=True).item)
    assert (lists[0] == lists[1]).all()
    assert lists[0].any()


@pytest.mark.parametrize(
    ("protocol", "is_known"),
    [("weekly", [False, True]), ("leave_one_out", [False, True]), ("customers", [False, False])],
)
def test_numbers_are_chosen_on_validation_only_when_its_targets_are_known(protocol, is_known, tmp_path, monkeypatch):
    log, given = toy_data(tmp_path, n_users=30, n_items=25, n_days=80, seed=3), []
    monkeypatch.setitem(rule_system.BASELINES, "repeat", lambda known, config, validation: given.append(validation))
    config = load_config(None, [f"split.protocol={protocol}"])
    split = make_split(log, config.split)
    for fold in (split.validation, split.tests[-1]):
        fit_rule("repeat", config, fold.everybody(log))
    assert [fold is not None for fold in given] == is_known


def test_the_number_that_is_best_on_validation_is_chosen_once_for_all_test_windows(tmp_path, monkeypatch):
    # 1 is followed by 8, which everybody buys, and then by 9, which those buy who are asked on validation.
    histories = [[(1, 1), (2, 8), (3, 9)]] * 3 + [[(1, 5), (2, 8)]] * 20 + [[(5, 1), (45, 9)]] * 3
    log = log_of(tmp_path, *histories, [(50, 4), (57, 4), (64, 4)], n_items=9)
    monkeypatch.setattr(transitions, "TRIED", {"target": (0.0, 1.0, 0.1)})
    config, fits = load_config(None, ["split.end=1970-03-12"]), []
    counted = transitions._counted
    monkeypatch.setattr(transitions, "_counted", lambda *known: fits.append(1) or counted(*known))
    split = make_split(log, config.split)
    rules = [fit_rule("transitions", config, fold.everybody(log)) for fold in split.tests]
    assert [rule.target for rule in rules] == [1.0] * len(split.tests)
    assert len(fits) == len(split.tests) + 1


def test_a_choice_asks_some_customers_where_there_are_many(tmp_path, monkeypatch):
    log, asked = toy_data(tmp_path, n_users=40, n_items=25, n_days=80, seed=3), []
    recommend = transitions.Transitions.recommend

    def counted(self, histories: Histories, k, candidates):
        asked.append(len(histories))
        return recommend(self, histories, k, candidates)

    monkeypatch.setattr(transitions.Transitions, "recommend", counted)
    monkeypatch.setattr(choice, "MAX_USERS", 9)
    (fold,) = make_split(log, LEAVE_ONE_OUT.split).tests
    fit_rule("transitions", LEAVE_ONE_OUT, fold.everybody(log))
    assert set(asked) == {8}
