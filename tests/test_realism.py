"""Counts that say whether generated histories look real, checked against cases known by hand."""

import numpy as np
import pytest

from recsys.modeling.generation.realism import Known, distance, draw_best_sellers, realism, sales_rank

RANK = np.array([0, 1, 2, 11, 200])
KNOWN = Known(
    past=[np.array([1]), np.array([], dtype=np.int64)],
    newest=np.array([1, 0]),
    rank=RANK,
    category=np.array([0, 0, 1, 1, 1]),
    n_categories=2,
)


def test_counts_of_two_short_continuations():
    found = realism(np.array([[1, 2, 1], [4, 0, 0]]), KNOWN)
    assert found.length.tolist() == [0, 0.5, 0, 0.5]
    assert found.mean_length == 2
    assert found.bought_before == pytest.approx(2 / 4)  # item 1, twice
    assert found.repeated == pytest.approx(1 / 4)
    assert found.rank_band.tolist() == [0.75, 0, 0.25, 0, 0]
    assert (found.n_distinct, found.n_items) == (3, 4)
    # 1→1 from the newest known purchase, 1→2, 2→1; the second customer has nothing before the one item.
    np.testing.assert_allclose(found.transition, np.array([[1, 1], [1, 0]]) / 3)
    assert found.same_category == pytest.approx(1 / 3)


def test_equal_sets_are_at_distance_zero_and_disjoint_ones_at_one():
    one, other = (realism(np.array(rows), KNOWN) for rows in ([[1, 2, 0], [1, 0, 0]], [[4, 4, 4], [3, 3, 3]]))
    assert distance(one.rank_band, one.rank_band) == 0
    assert distance(one.rank_band, other.rank_band) == pytest.approx(1)


def test_continuations_without_any_item_are_counted_too():
    found = realism(np.zeros((2, 3), dtype=np.int32), KNOWN)
    assert found.length[0] == 1
    assert found.n_items == found.n_distinct == 0
    assert found.transition.sum() == 0


def test_best_sellers_are_drawn_by_sales_and_as_long_as_asked():
    sold = np.array([0, 6, 3, 1, 0])
    item = np.where(np.arange(4) < 3, 1, 0) * np.ones((5_000, 1), dtype=np.int32)
    drawn = draw_best_sellers(sold, item, seed=1)
    assert ((drawn > 0) == (item > 0)).all()
    np.testing.assert_allclose(np.bincount(drawn[drawn > 0], minlength=5) / 15_000, sold / 10, atol=0.015)


def test_ranks_begin_with_the_best_seller():
    assert sales_rank(np.array([99, 1, 7, 7])).tolist() == [0, 3, 1, 2]
