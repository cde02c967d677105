"""What is told of customers: its codes, and what the decoder makes of them."""

from dataclasses import replace

import narwhals as nw
import numpy as np
import pyarrow as pa
import pytest
import torch
from test_model import SMALL
from toy import toy_data, write_prepared

from recsys.config import Config, SplitConfig
from recsys.modeling.decoder.inputs import newest_events
from recsys.modeling.explain.leave_one_out import AblatedHistories, queries_without
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender, PurchaseReader, WithColdStart, build_purchase_model
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.modeling.train import build_module
from recsys.signals.sales import ItemSales
from recsys.signals.user_codes import MIN_CUSTOMERS, user_codes

N_USERS, N_ITEMS, FIRST_DAY, DAY = 60, 20, 18_000, 18_045
#: The last two have bought nothing, and nothing is told of the very last.
NEWCOMER, STRANGER = N_USERS - 2, N_USERS - 1
READS = SMALL.model_copy(update={"customer": True})
USERS = pa.table(
    {
        "user_id": [f"u{number}" for number in range(N_USERS)],
        "club": [*(["gold", "silver", ""] * (N_USERS // 3))[:-2], "gold", ""],
    }
)


def events():
    found = []
    for user in range(N_USERS - 2):
        random = np.random.default_rng(user)
        for day in np.sort(random.choice(44, 1 + user % 9, replace=False)):
            found += [(user, FIRST_DAY + int(day), int(item)) for item in random.choice(N_ITEMS, 2, replace=False) + 1]
    return np.array(found)


@pytest.fixture
def data(tmp_path):
    return write_prepared(tmp_path / "told", events(), n_items=N_ITEMS, users=USERS)


def model_of(data, reads=READS, std=1.0):
    torch.manual_seed(0)
    model = build_purchase_model(reads, data).eval()
    if model.user_codes is not None:
        model.user_codes.weight.data[1:].normal_(std=std)
    return model


def logits_of(model, data, users=None):
    users = np.arange(data.n_users) if users is None else users
    history = History(data, data.ends_before(DAY), DAY)
    with torch.inference_mode():
        return DecoderRecommender(model, ItemSales(data)).logits(history, users)[0]


def test_what_never_varies_costs_nothing(tmp_path):
    data = toy_data(tmp_path, n_users=10, n_items=10, n_days=30, seed=1)
    assert data.user_codes.shape == (10, 0)
    assert build_purchase_model(READS, data).user_codes is None


def test_columns_of_customers_are_told_by_common_values_and_bands():
    n = 20 * MIN_CUSTOMERS
    club = np.array(["gold", "silver"])[np.arange(n) % 2].astype(object)
    club[:3], club[3:6] = "odd", None
    table = {"user_id": [str(u) for u in range(n)], "name": [f"n{u}" for u in range(n)], "always": ["yes"] * n}
    table |= {"age": [f"{u / 2}" for u in range(n - 1)] + [""], "club": club}
    codes, is_told = user_codes(nw.from_native(pa.table(table), eager_only=True))
    assert codes.shape == (n, 2)
    age, club_code = codes.T
    assert len(set(age[:-1])) == 10
    assert (np.diff(age[:-1]) >= 0).all()
    assert age[-1] not in age[:-1]  # missing has a code of its own
    assert (club_code[:3] == 0).all()  # too rare to be learned
    assert len(set(club_code[3:6])) == 1
    assert not set(club_code[3:6]) & set(club_code[6:])
    assert not set(age) & set(club_code)
    assert is_told.all()


def test_a_number_that_is_not_one_is_told_as_missing():
    n = 40 * MIN_CUSTOMERS
    age = np.arange(n) / 2
    age[: 2 * MIN_CUSTOMERS] = np.nan
    codes, is_told = user_codes(nw.from_native(pa.table({"user_id": [str(u) for u in range(n)], "age": age})))
    assert not is_told[: 2 * MIN_CUSTOMERS].any()
    assert is_told[2 * MIN_CUSTOMERS :].all()
    assert not set(codes[: 2 * MIN_CUSTOMERS, 0]) & set(codes[2 * MIN_CUSTOMERS :, 0])


def test_a_model_begins_as_one_that_does_not_read_the_user_table(data):
    config = Config(model=SMALL, split=SplitConfig(n_folds=0))
    modules = [build_module(config.model_copy(update={"model": model}), data).model.eval() for model in (SMALL, READS)]
    logits = [logits_of(model, data) for model in modules]
    assert torch.equal(*logits)
    modules[1].user_codes.weight.data[1:].normal_()
    assert not torch.equal(logits_of(modules[1], data), logits[0])


def test_every_customer_is_told_apart_by_the_user_table_with_long_histories_and_none(data):
    """A history of more events than a window loses the start mark, not the customer."""
    model = model_of(data)
    n_events = data.ends_before(DAY) - data.offsets[:-1]
    assert n_events.max() > SMALL.max_length
    before = logits_of(model, data)
    model.user_codes.weight.data[data.user_codes[0, 0]] *= -1  # of one club alone
    changed = (logits_of(model, data) - before).nan_to_num().abs().amax(1).numpy() > 1e-4
    assert np.array_equal(changed, data.user_codes[:, 0] == data.user_codes[0, 0])


def test_a_history_goes_on_with_what_is_told_of_the_customer(data):
    """The cache gives the logits of the whole sequence."""
    model, sales, users = model_of(data), ItemSales(data), np.arange(data.n_users)
    history = History(data, data.ends_before(DAY), DAY)
    with torch.inference_mode():
        reader = PurchaseReader(model, sales, history, users, n_context=8, n_new=2)
        sequences, queries = newest_events(data, users, history.end, np.full(len(users), DAY), READS, 8)
        whole = model.query(model.states(sequences), queries)
        torch.testing.assert_close(reader.logits_RV, model.catalogue_logits(whole, queries, sales))
        reader.extend(torch.full((len(users),), 3))
        rows, next_Q = queries.row_Q, queries.position_Q + 1
        longer = replace(
            sequences,
            item_BT=torch.nn.functional.pad(sequences.item_BT, (0, 1)),
            gap_days_BT=torch.nn.functional.pad(sequences.gap_days_BT, (0, 1)),
        )
        longer.item_BT[rows, next_Q] = 3
        longer.gap_days_BT[rows, next_Q] = queries.days_until_query_Q
        queries.position_Q, queries.days_until_query_Q = next_Q, torch.zeros_like(next_Q)
        whole = model.query(model.states(longer), queries)
        torch.testing.assert_close(reader.logits_RV, model.catalogue_logits(whole, queries, sales))


def test_an_item_is_left_out_as_if_it_had_never_been_bought(data, tmp_path):
    model, history = model_of(data), History(data, data.ends_before(DAY), DAY)
    lengths = history.end - data.offsets[:-1]
    for user in np.flatnonzero((lengths >= 4) & (lengths < SMALL.max_length))[:6]:
        left = AblatedHistories.each(history, int(user), READS, np.ones(N_ITEMS + 1), at_most=50)
        with torch.inference_mode():
            queries = queries_without(model, [left])
            for place, item in enumerate(left.item):
                rows = events()
                rows = rows[~((rows[:, 0] == user) & (rows[:, 2] == item))]
                folder = tmp_path / f"{user}-{item}"
                fewer = write_prepared(folder, rows, n_items=N_ITEMS, users=USERS)
                asked = newest_events(fewer, np.array([user]), fewer.ends_before(DAY)[[user]], np.array([DAY]), READS)
                torch.testing.assert_close(queries[place], model.query(model.states(asked[0]), asked[1])[0])


def test_a_newcomer_of_whom_something_is_told_is_ranked_and_a_stranger_gets_best_sellers(data):
    history, candidates = History(data, data.ends_before(DAY), DAY), Candidates(all_items(N_ITEMS))
    cold_start = Popularity.for_cold_start(history, None)
    asked = np.array([0, NEWCOMER, STRANGER], dtype=np.int32)
    assert data.has_user_features[asked].tolist() == [True, True, False]
    ranked, popular = [], cold_start.recommend(history, asked, 5, candidates).item
    for reads in (READS, SMALL):
        decoder = DecoderRecommender(model_of(data, reads), ItemSales(data))
        with torch.no_grad():
            decoder.model.item_bias += 9 * torch.arange(N_ITEMS + 1)  # else it begins with what sells, as the rule does
        own = decoder.recommend(history, asked, 5, candidates).item
        served = WithColdStart(decoder, cold_start).recommend(history, asked, 5, candidates).item
        assert np.array_equal(served[0], own[0])
        assert np.array_equal(served[2], popular[2])
        assert not np.array_equal(own[1], popular[1])
        ranked.append(np.array_equal(served[1], own[1]))
    assert ranked == [True, False]
