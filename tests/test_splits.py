from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import SplitConfig
from recsys.data.days import day_number
from recsys.data.purchases import Purchases
from recsys.errors import DataError
from recsys.evaluation.splits import make_split

START = date(2020, 1, 1)


def prepared(folder, histories, n_items=9):
    """Data of users with the given (day, item) events; days count from 2020-01-01."""
    pq.write_table(pa.table({"item_id": [f"i{i}" for i in range(1, n_items + 1)]}), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": [f"u{u}" for u in range(len(histories))]}), folder / "users.parquet")
    events = [event for history in histories for event in history]
    day = np.array([day_number(START) + day for day, _ in events], dtype=np.int32)
    item = np.array([item for _, item in events], dtype=np.int32)
    ones = np.ones(len(events))
    return Purchases(
        folder=folder,
        item=item,
        day=day,
        price=ones.astype(np.float32),
        channel=ones.astype(np.int8),
        quantity=ones.astype(np.float32),
        basket=ones.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64),
        manifest={"fingerprint": "0" * 64},
    )


@pytest.fixture
def data(tmp_path):
    histories = [
        [(0, 1), (1, 2), (10, 3), (15, 4), (15, 4), (22, 2), (22, 1)],
        [(3, 5), (9, 6), (14, 7), (21, 8)],
        [(2, 9)],
        [(27, 1)],
    ]
    return prepared(tmp_path, histories)


def targets_of(fold):
    return {
        int(user): fold.target_item[fold.target_offsets[q] : fold.target_offsets[q + 1]].tolist()
        for q, user in enumerate(fold.user_index)
    }


def test_weekly_windows_follow_each_other_and_end_with_the_data(data):
    split = make_split(data, SplitConfig(n_folds=2))
    days = [(split.validation.start_day, split.validation.end_day)] + [(f.start_day, f.end_day) for f in split.tests]
    first = day_number(START)
    assert days == [(first + 7, first + 14), (first + 14, first + 21), (first + 21, first + 28)]
    assert [fold.name for fold in split.tests] == ["2020-01-15", "2020-01-22"]


def test_weekly_targets_are_the_distinct_items_of_the_window_ascending(data):
    split = make_split(data, SplitConfig(n_folds=2))
    assert targets_of(split.validation) == {0: [3], 1: [6]}
    assert targets_of(split.tests[0]) == {0: [4], 1: [7]}
    assert targets_of(split.tests[1]) == {0: [1, 2], 1: [8], 3: [1]}


def test_of_some_targets_those_are_asked_who_have_one(data):
    fold = make_split(data, SplitConfig(n_folds=1)).tests[0]
    assert len(fold.target_item) > 1
    some = fold.of_targets(np.arange(len(fold.target_item)) == 1)
    owner = int(np.searchsorted(fold.target_offsets, 1, side="right")) - 1
    assert some.user_index.tolist() == [fold.user_index[owner]]
    assert some.target_offsets.tolist() == [0, 1]
    assert some.target_item.tolist() == [fold.target_item[1]]


def test_weekly_history_ends_before_the_date_and_training_before_validation(data):
    split = make_split(data, SplitConfig(n_folds=2))
    for fold in (split.validation, *split.tests):
        for user in range(data.n_users):
            known, later = np.split(
                data.day[data.offsets[user] : data.offsets[user + 1]], [fold.history_end[user] - data.offsets[user]]
            )
            assert (known < fold.start_day).all()
            assert (later >= fold.start_day).all()
    assert (split.train_end == split.validation.history_end).all()
    assert split.train_day == split.validation.start_day


def test_weekly_end_moves_all_windows(data):
    split = make_split(data, SplitConfig(n_folds=1, end=START + timedelta(days=21)))
    assert [fold.name for fold in split.tests] == ["2020-01-15"]


def test_weekly_without_test_folds_keeps_the_last_window_for_validation(data):
    split = make_split(data, SplitConfig(n_folds=0))
    assert split.tests == ()
    assert split.validation.name == "2020-01-22"


def test_too_few_days_name_the_settings_to_change(data):
    with pytest.raises(DataError, match=r"too short for 9 test windows.*lower split\.n_folds"):
        make_split(data, SplitConfig(n_folds=9))


def test_a_window_in_which_nobody_bought_is_named(data):
    with pytest.raises(DataError, match="nobody bought anything from 2020-02-24 to 2020-03-01"):
        make_split(data, SplitConfig(n_folds=1, end=START + timedelta(days=68)))


def test_leave_one_out_asks_for_the_last_event_and_validates_on_the_one_before(data):
    split = make_split(data, SplitConfig(protocol="leave_one_out"))
    assert targets_of(split.tests[0]) == {0: [1], 1: [8]}
    assert targets_of(split.validation) == {0: [2], 1: [7]}
    assert (data.offsets[1:] - split.tests[0].history_end).tolist() == [1, 1, 0, 0]
    assert (data.offsets[1:] - split.train_end).tolist() == [2, 2, 0, 0]


def test_leave_one_out_needs_three_events(tmp_path):
    with pytest.raises(DataError, match="at least 3 events"):
        make_split(prepared(tmp_path, [[(0, 1), (1, 2)]]), SplitConfig(protocol="leave_one_out"))


def test_held_out_customers_are_never_learned_from(tmp_path):
    data = prepared(tmp_path, [[(day, 1 + day % 9) for day in range(3)] for _ in range(50)])
    split = make_split(data, SplitConfig(protocol="customers"))
    asked = np.concatenate([split.validation.user_index, split.tests[0].user_index])
    assert len(np.unique(asked)) == len(asked) == 10
    assert (split.train_end[asked] == data.offsets[asked]).all()
    learned = np.setdiff1d(np.arange(50), asked)
    assert (split.train_end[learned] == data.offsets[learned + 1]).all()


def test_held_out_customers_are_asked_for_their_last_event_knowing_the_others(tmp_path):
    data = prepared(tmp_path, [[(0, 1), (1, 2), (2, 3)] for _ in range(50)])
    fold = make_split(data, SplitConfig(protocol="customers")).tests[0]
    assert set(fold.target_item) == {3}
    assert (fold.history_end[fold.user_index] == data.offsets[fold.user_index + 1] - 1).all()


def test_the_customer_split_is_fixed_by_its_seed(tmp_path, monkeypatch):
    data = prepared(tmp_path, [[(0, 1), (1, 2)] for _ in range(50)])
    users = []
    for seed in (1, 1, 2):
        monkeypatch.setattr("recsys.evaluation.splits.HELD_OUT_SEED", seed)
        users.append(make_split(data, SplitConfig(protocol="customers")).tests[0].user_index)
    assert (users[0] == users[1]).all()
    assert not np.array_equal(users[0], users[2])
