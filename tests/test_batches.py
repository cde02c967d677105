"""Windows cover every event once, padding is bounded, and queries are asked at days, each once an epoch."""

import numpy as np
import pytest
import torch
from toy import taken_of, toy_data, write_prepared

from recsys.config import Config, ModelConfig, SplitConfig, TrainingConfig
from recsys.data.purchases import cut_windows
from recsys.evaluation.splits import make_split, window_fold
from recsys.modeling.training.batches import TrainingBatches, pack
from recsys.signals.queries import query_at
from recsys.signals.snapshot import Snapshots


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=40, n_items=30, n_days=60, seed=3)


class DatedSnapshots(Snapshots):
    """Remembers the day of each table: another thread asks for those of the next batch meanwhile."""

    def __init__(self, log):
        super().__init__(log)
        self.day_of_table, self._alive = {}, []

    def at(self, day):
        snapshot = super().at(day)
        self._alive.append(snapshot)  # or another day's table could come to lie where this one lay
        self.day_of_table[torch.from_numpy(snapshot.item_features).data_ptr()] = day
        return snapshot


def batches_of(data, *, horizon_days=7, max_length=9, batch_queries=1000, **changes):
    training = {"batch_tokens": 64, "query_windows": 4, **changes}
    config = Config(
        seed=1,
        model=ModelConfig(max_length=max_length),
        split=SplitConfig(n_folds=1, horizon_days=horizon_days),
        training=TrainingConfig(**training),
    )
    batches = TrainingBatches(config, DatedSnapshots(data), make_split(data, config.split), None, lifts=True)
    batches.batch_queries = batch_queries
    return batches


def days_of(batches, queries):
    """Return the day (Q,) of each query: that of the snapshot whose table it reads."""
    days = torch.tensor([batches.snapshots.day_of_table[table.data_ptr()] for table in queries.item_features])
    return days[queries.day_place_Q] if len(queries) else days


def test_windows_cover_every_event_exactly_once(data):
    windows = cut_windows(data.offsets[:-1], data.offsets[1:], 8)
    covered = np.concatenate(
        [np.arange(start, start + length) for start, length in zip(windows.start, windows.length, strict=True)]
    )
    assert np.array_equal(np.sort(covered), np.arange(data.n_events))
    assert windows.length.max() <= 8
    assert (windows.length >= 1).all()


def test_packed_batches_hold_every_window_once_and_stay_within_the_budget(data):
    lengths = np.random.default_rng(0).integers(1, 50, 500)
    packed = pack(lengths, 128, np.random.default_rng(1))
    assert np.array_equal(np.sort(np.concatenate(packed)), np.arange(500))
    assert max(len(batch) * (lengths[batch].max() + 1) for batch in packed) <= 128
    assert len(packed) == len(pack(lengths, 128, np.random.default_rng(2)))


def test_like_lengths_share_a_batch_so_that_little_is_padding():
    lengths = np.random.default_rng(0).integers(1, 200, 5000)
    packed = pack(lengths, 8192, np.random.default_rng(1))
    padded = sum(len(batch) * (lengths[batch].max() + 1) for batch in packed)
    assert padded < 1.08 * (lengths + 1).sum()


def test_an_epoch_targets_each_training_event_once(data):
    batches = batches_of(data)
    targets = np.concatenate([batch.target_BT[batch.target_BT > 0].numpy() for batch in batches])
    known = np.concatenate(
        [data.item[data.offsets[user] : batches.split.train_end[user]] for user in range(data.n_users)]
    )
    assert np.array_equal(np.sort(targets), np.sort(known))
    assert len(targets) == batches.n_events


def test_inputs_are_the_events_before_their_targets(data):
    for batch in batches_of(data):
        items, targets = batch.sequences.item_BT, batch.target_BT
        both = (targets[:, 1:] > 0) & (items[:, 1:] > 0)
        assert torch.equal(items[:, 1:][both], targets[:, :-1][both])


def asked_by(batches):
    """Return the day and what was bought in its window, for each query of an epoch, batch by batch."""
    asked = []
    for batch in batches:
        days = days_of(batches, batch.queries).tolist()
        items = [batch.target_item_n[batch.target_query_n == query].tolist() for query in range(len(days))]
        asked.append([(day, *sorted(some)) for day, some in zip(days, items, strict=True)])
    return asked


def test_an_epoch_asks_each_query_once_or_where_they_are_too_many_some_of_them(data):
    whole = asked_by(batches_of(data))
    everything = sorted(query for batch in whole for query in batch)
    days = {query[0] for query in everything}
    n_expected = sum(len(window_fold(data, day, 7).user_index) for day in days)
    assert len(days) == 4
    assert len(everything) == n_expected
    assert sum(len({query[0] for query in batch}) for batch in whole) <= 4 * len(whole) + len(days)  # of few days each
    few = asked_by(batches_of(data, batch_queries=2))
    assert max(map(len, few)) == 2
    left = sorted(everything)
    for query in (query for batch in few for query in batch):
        left.remove(query)


def test_queries_ask_only_for_windows_that_end_before_the_validation_window(data):
    batches = batches_of(data)
    days = torch.cat([days_of(batches, batch.queries) for batch in batches])
    assert int(days.max()) + 7 <= batches.split.train_day


def test_every_epoch_asks_even_where_a_single_date_fits(tmp_path):
    events = [(user, day, 1 + (user + day) % 5) for user in range(8) for day in range(18_000, 18_007)]
    data = write_prepared(tmp_path / "short", events)
    batches = batches_of(data, batch_queries=100, horizon_days=2)
    for batches.epoch in range(6):
        days = torch.cat([days_of(batches, batch.queries) for batch in batches])
        assert days.unique().tolist() == [18_001]


def test_targets_of_a_query_are_what_its_user_bought_in_the_window(data):
    user_of = {}
    for user in range(data.n_users):
        for day in range(data.first_day, data.last_day + 1):
            inside = (data.day >= day) & (data.day < day + 7) & (data.user_of_event() == user)
            user_of.setdefault((day, frozenset(data.item[inside].tolist())), set()).add(user)
    batches = batches_of(data)
    for batch in batches:
        for query, day in enumerate(days_of(batches, batch.queries).tolist()):
            wanted = frozenset(batch.target_item_n[batch.target_query_n == query].tolist())
            assert user_of.get((day, wanted))


def test_the_same_seed_and_epoch_give_the_same_batches_and_another_epoch_others(data):
    def epoch(number):
        batches = batches_of(data)
        batches.epoch = number
        return [batch.target_BT for batch in batches]

    again = zip(epoch(0), epoch(0), strict=True)
    assert all(torch.equal(first, second) for first, second in again)
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(epoch(0), epoch(1), strict=True))


def test_processes_share_each_batch_without_overlap(data):
    def of_rank(rank, world_size):
        batches = batches_of(data)
        batches.rank, batches.world_size = rank, world_size
        return [(batch.target_BT.sum().item(), batch.target_item_n.sum().item()) for batch in batches]

    alone, first, second = of_rank(0, 1), of_rank(0, 2), of_rank(1, 2)
    assert len(alone) == len(first) == len(second) > 1
    assert all(sum(pair) > 0 for pair in (*first, *second))
    for whole, *parts in zip(alone, first, second, strict=True):
        assert whole == tuple(map(sum, zip(*parts, strict=True)))


def test_every_process_gets_a_window_of_each_batch(data):
    length = np.array([1, 2, 3, 60, 60, 60, 60])
    packed = pack(length, 64, np.random.default_rng(0), 3)
    assert [len(batch) for batch in packed] == [3, 4]
    assert sorted(np.concatenate(packed)) == list(range(7))


def test_the_newest_events_end_at_the_known_history(data):
    histories = data.histories(data.first_day + 30)
    sequences, queries = query_at(Snapshots(data), histories, 6, None, lifts=False)
    assert sequences.item.shape[1] <= 6
    for user, end in enumerate(histories.end):
        item = int(sequences.item[user, queries.position[user]])
        expected = data.item[end - 1] if end > data.offsets[user] else data.n_items + 1
        assert item == expected


def test_a_query_at_a_day_reads_what_training_reads_of_the_same_history(data):
    """Past items of each training query are those of some user who is asked about at its day."""
    batches, asked = batches_of(data, max_length=100, batch_queries=10_000), Snapshots(data)
    for batch in batches:
        queries, days = batch.queries, days_of(batches, batch.queries)
        for day in days.unique().tolist():
            at_day = (days == day).nonzero().flatten()
            taken = taken_of(queries, at_day)
            _, alone = query_at(asked, data.histories(day), 100, None, lifts=False)
            past = {}
            for user, item, row in zip(alone.past.query, alone.past.item, alone.past.features, strict=True):
                past.setdefault(int(user), {})[int(item)] = row
            for place, row in enumerate(at_day):
                mine = taken.past_query_P == place
                items, features = taken.past_item_P[mine].tolist(), taken.past_features_PF[mine].numpy()
                alike = [
                    list(rows) == items and np.allclose(list(rows.values()), features, rtol=1e-5)
                    for rows in past.values()
                ]
                assert any(alike) or not items, (day, row)


def test_windows_in_which_nobody_bought_are_not_asked_about(tmp_path):
    # Purchases on days 0-13 and 70-90 only: most of the windows before the cutoff are empty.
    days = [*range(14), *range(70, 91)]
    data = write_prepared(tmp_path / "gap", [(user, 18_000 + day, 1 + user) for user in range(3) for day in days])
    assert sum(len(batch.queries) for batch in batches_of(data, query_windows=10))


def test_recent_days_leave_older_events_as_context_only(data):
    recent = batches_of(data, recent_days=20)
    cutoff = recent.split.train_day
    expected = np.concatenate(
        [
            data.item[data.offsets[u] : recent.split.train_end[u]][
                data.day[data.offsets[u] : recent.split.train_end[u]] >= cutoff - 20
            ]
            for u in range(data.n_users)
        ]
    )
    batches = list(recent)
    targets = np.concatenate([batch.target_BT[batch.target_BT > 0].numpy() for batch in batches])
    assert np.array_equal(np.sort(targets), np.sort(expected))
    days = {query[0] for batch in asked_by(batches_of(data, recent_days=20)) for query in batch}
    assert cutoff - 20 <= min(days) < max(days) <= cutoff - 7


def test_where_nothing_learns_from_queries_there_are_none(data):
    batches = batches_of(data)
    config = Config(split=SplitConfig(n_folds=1), training=TrainingConfig(batch_tokens=64))
    alone = TrainingBatches(config, batches.snapshots, batches.split, None, lifts=False, asks=False)
    assert not any(len(batch.queries) for batch in alone)
    assert alone.first_inputs() is None
