import numpy as np
from toy import toy_data, write_prepared

from recsys.data.summary import basket_sizes, cumulative_shares, history_lengths, n_items_for_share, weekly_sales
from recsys.signals.sales import is_repeat


def test_the_newest_week_is_whole_and_what_is_before_the_oldest_whole_one_is_left_out():
    first, sold = weekly_sales(np.array([0, 1, 2, 8, 8, 15], dtype=np.int32))
    assert first.tolist() == [2, 9]
    assert sold.tolist() == [3, 1]


def test_data_shorter_than_a_week_have_no_whole_week():
    first, sold = weekly_sales(np.array([3, 4], dtype=np.int32))
    assert len(first) == len(sold) == 0


def test_shares_rise_to_one_and_items_never_sold_add_nothing(tmp_path):
    data = toy_data(tmp_path, n_users=20, n_items=30, n_days=60, seed=0)
    shares = cumulative_shares(data.item, data.n_items + 5)
    assert len(shares) == data.n_items + 5
    assert (np.diff(shares) >= 0).all()
    assert (np.diff(shares, 2) <= 1e-12).all()  # each further item sells at most as much as the one before it
    assert shares[-5:].tolist() == [1.0] * 5
    assert n_items_for_share(shares, shares[3]) == 4


def test_only_the_first_purchase_of_an_item_by_a_customer_is_no_repeat(tmp_path):
    events = [(0, 1, 7), (0, 2, 7), (0, 2, 8), (0, 3, 7), (1, 1, 7), (1, 1, 7)]
    data = write_prepared(tmp_path / "toy", events, n_items=8)
    assert is_repeat(data).tolist() == [False, True, False, True, False, True]


def test_baskets_and_histories_hold_every_event_once(tmp_path):
    events = [(0, 1, 1), (0, 1, 2), (0, 2, 1), (1, 2, 1), (1, 2, 3), (1, 2, 4)]
    data = write_prepared(tmp_path / "toy", events)
    assert basket_sizes(data).tolist() == [2, 1, 3]
    assert history_lengths(data).tolist() == [3, 3]
