import numpy as np
import pytest

from recsys.config import Config
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.recommenders.rules import next_basket
from recsys.modeling.recommenders.rules.next_basket import user_vectors
from tests.test_transitions import lists_of, log_of


def test_the_most_frequent_are_by_baskets_then_by_what_sells_then_best_sellers(tmp_path):
    # in two baskets 1, in one 2 and, of many pieces, 3; everybody buys 2, then 4
    others = [[(1, 2), (2, 2)], [(1, 4)], [(3, 2)]]
    log = log_of(tmp_path, [(1, 1), (1, 3), (1, 3), (1, 3), (2, 1), (3, 2)], *others, n_items=5)
    known = log.histories(10)
    lists = lists_of(BASELINES["gp_topfreq"](known, Config(), None), known.of([0]), 5)
    assert lists.item.tolist() == [[1, 2, 3, 4, 5]]
    assert lists.score[0, :3].tolist() == [2, 1, 1]


def test_a_vector_counts_baskets_less_by_group_and_groups_are_equal(tmp_path):
    log = log_of(tmp_path, [(1, 1), (2, 1), (2, 2)], [(day, 1) for day in range(1, 15)], [(1, 3)], n_items=3)
    vectors = user_vectors(log.histories(20), 4).toarray()
    decayed = 0.7 ** np.arange(7)
    expected = [[0, (1 + 0.7) / 2, 1 / 2, 0], [0, decayed.mean(), 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_of_fourteen_baskets_the_last_two_weigh_most(tmp_path):
    log = log_of(tmp_path, [(day, day) for day in range(1, 15)], n_items=14)
    (vector,) = user_vectors(log.histories(20), 15).toarray()
    assert vector[14] == vector[13] == pytest.approx(1 / 2 / 7)
    assert vector[12] == vector[11] == pytest.approx(0.7 / 2 / 7)


def test_neighbours_add_what_they_buy_by_their_share(tmp_path, monkeypatch):
    monkeypatch.setattr(next_basket, "N_NEIGHBOURS", 2)
    alike, others = [(1, 1), (2, 1), (3, 2)], [(1, 4), (2, 4), (3, 5)]
    log = log_of(tmp_path, [(1, 1), (2, 1)], alike, others, others, n_items=5)
    known = log.histories(10)
    rule = BASELINES["tifu_knn"](known, Config(), None)
    pairs = rule.score(known.of([0]), 5, Candidates(all_items(5)))
    found = dict(zip(pairs.item.tolist(), pairs.score.tolist(), strict=True))
    own, theirs = user_vectors(known, 6).toarray()[:2]
    assert found == pytest.approx({1: 0.7 * own[1] + 0.3 * (own[1] + theirs[1]) / 2, 2: 0.3 * theirs[2] / 2})


def test_of_many_customers_some_are_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(next_basket, "MAX_SEARCHED", 3)
    log = log_of(tmp_path, *[[(1, 1 + user % 3)] for user in range(10)], n_items=3)
    known = log.histories(10)
    rule = BASELINES["tifu_knn"](known, Config(), None)
    assert rule.vectors.shape[0] == 3
    assert lists_of(rule, known, 3).item.all()
