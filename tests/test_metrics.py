import numpy as np
import pytest
from implicit.evaluation import ranking_metrics_at_k
from scipy.sparse import csr_matrix

from recsys.evaluation.metrics import all_metrics, average_precisions, user_values
from recsys.evaluation.metrics.average_precision import average_precision_at_k
from recsys.evaluation.metrics.base import hits_of
from recsys.evaluation.metrics.coverage import catalogue_coverage_at_k
from recsys.evaluation.metrics.ndcg import ndcg_at_k
from recsys.evaluation.metrics.novelty import novelty_at_k
from recsys.evaluation.metrics.recall import recall_at_k
from recsys.evaluation.splits import Fold

USER_METRICS = {name: metric.compute for name, metric in all_metrics().items() if metric.compute is not None}


class FixedLists:
    """Answers `implicit`'s evaluation with lists made beforehand."""

    def __init__(self, lists):
        self.lists = lists

    def recommend(self, users, user_items, N=10, **_):
        return self.lists[users, :N], np.zeros((len(users), N))


def test_the_folder_of_metrics_is_listed_in_the_order_of_the_files():
    assert list(all_metrics()) == ["map", "ndcg", "hit_rate", "recall", "mrr", "coverage", "novelty"]
    assert list(USER_METRICS) == ["map", "ndcg", "hit_rate", "recall", "mrr"]
    assert all(metric.meaning.endswith(".") for metric in all_metrics().values())


def random_lists(seed, n_users=60, n_items=40, length=12):
    random = np.random.default_rng(seed)
    lists = np.stack([random.permutation(np.arange(1, n_items + 1))[:length] for _ in range(n_users)]).astype(np.int32)
    targets = [
        np.sort(random.choice(np.arange(1, n_items + 1), random.integers(1, 20), replace=False)) for _ in range(n_users)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in targets])])
    return lists, offsets, np.concatenate(targets).astype(np.int32)


@pytest.mark.parametrize("k", [1, 5, 12])
def test_map_and_ndcg_agree_with_implicit(k):
    lists, offsets, items = random_lists(seed=k)
    bought = csr_matrix((np.ones(len(items)), items, offsets), shape=(len(lists), 41))
    theirs = ranking_metrics_at_k(FixedLists(lists), bought, bought, K=k, show_progress=False)
    hits = hits_of(lists, offsets, items)
    assert average_precision_at_k(hits, np.diff(offsets), k).mean() == pytest.approx(theirs["map"])
    assert ndcg_at_k(hits, np.diff(offsets), k).mean() == pytest.approx(theirs["ndcg"])


def test_hits_are_those_of_a_plain_loop():
    lists, offsets, items = random_lists(seed=3)
    expected = [[item in items[offsets[u] : offsets[u + 1]] for item in row] for u, row in enumerate(lists)]
    assert (hits_of(lists, offsets, items) == np.array(expected)).all()


def test_hits_do_not_depend_on_the_order_of_targets():
    assert hits_of(np.array([[2, 9]]), np.array([0, 3]), np.array([9, 1, 2])).all()


def test_an_item_repeated_in_a_list_counts_once():
    hits = hits_of(np.array([[4, 4, 4]]), np.array([0, 1]), np.array([4]))
    assert hits.tolist() == [[True, False, False]]
    assert average_precision_at_k(hits, np.array([1]), 3) == [1.0]


def test_padding_is_never_a_hit():
    assert not hits_of(np.array([[0, 0]]), np.array([0, 1]), np.array([0])).any()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 3)])
def test_nothing_recommended_is_no_hit(shape):
    offsets = np.arange(shape[0] + 1)
    assert not hits_of(np.zeros(shape, dtype=int), offsets, np.ones(shape[0], dtype=int)).any()


@pytest.mark.parametrize("name", USER_METRICS)
def test_a_user_without_targets_has_no_value_and_one_without_hits_scores_zero(name):
    values = USER_METRICS[name](np.zeros((2, 3), dtype=bool), np.array([0, 2]), 3)
    assert np.isnan(values[0])
    assert values[1] == 0


@pytest.mark.parametrize("name", ["map", "ndcg", "hit_rate", "mrr"])
def test_twelve_right_answers_of_twenty_relevant_are_perfect(name):
    assert USER_METRICS[name](np.ones((1, 12), dtype=bool), np.array([20]), 12) == pytest.approx(1.0)


def test_recall_divides_by_all_relevant_items():
    assert recall_at_k(np.ones((1, 12), dtype=bool), np.array([20]), 12) == [12 / 20]


@pytest.mark.parametrize("name", USER_METRICS)
def test_moving_a_hit_up_never_lowers_a_metric(name):
    hits = np.eye(5, dtype=bool)
    values = USER_METRICS[name](hits, np.full(5, 3), 5)
    assert (np.diff(values) <= 0).all()


def test_a_list_shorter_than_k_has_misses_at_its_end():
    short, padded = np.array([[True, False]]), np.array([[True, False, False, False]])
    for values in zip(
        user_values(short, np.array([3]), (4,)).values(), user_values(padded, np.array([3]), (4,)).values(), strict=True
    ):
        assert values[0] == values[1]


def test_a_mean_over_a_fold_gives_users_without_a_list_zero():
    fold = Fold("f", 0, 7, np.zeros(9), np.array([2, 5]), np.array([0, 1, 2]), np.array([7, 8]))
    assert average_precisions(np.array([[8, 1], [7, 1]]), fold, 2).tolist() == [0, 0]
    assert average_precisions(np.array([[7, 1], [1, 8]]), fold, 2).tolist() == [1, 0.5]
    assert average_precisions(np.array([[7, 1], [0, 0]]), fold, 2).mean() == 0.5


def test_coverage_looks_only_at_the_first_k_and_not_at_padding():
    lists = np.array([[1, 2], [1, 0]])
    assert catalogue_coverage_at_k(lists, 4, 1) == 1 / 4
    assert catalogue_coverage_at_k(lists, 4, 2) == 2 / 4


def test_novelty_of_an_empty_list_is_unknown_and_of_an_unsold_item_that_of_one_buyer():
    values = novelty_at_k(np.array([[0, 0], [3, 0]]), np.array([0, 4, 4, 0]), 4, 2)
    assert np.isnan(values[0])
    assert values[1] == 2
