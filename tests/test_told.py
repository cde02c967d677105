"""What the user table says: its codes, and what the decoder makes of them."""

from dataclasses import replace

import narwhals as nw
import numpy as np
import pyarrow as pa
import pytest
import torch
from test_model import SMALL
from toy import toy_data, write_prepared

from recsys.config import Config, SplitConfig
from recsys.modeling.build import build_module
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.decoder import (
    DecoderRecommender,
    PurchaseReader,
    WithColdStart,
    build_purchase_model,
    signals_of,
)
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.signals.user_codes import MIN_USERS, UserCodes

N_USERS, N_ITEMS, FIRST_DAY, DAY = 60, 20, 18_000, 18_045
#: The last two have bought nothing, and the user table says nothing of the very last.
NEW_USER, STRANGER = N_USERS - 2, N_USERS - 1
READS = SMALL.model_copy(update={"customer": True})
USERS = pa.table(
    {
        "user_id": [f"u{number}" for number in range(N_USERS)],
        "club": [*(["gold", "silver", ""] * (N_USERS // 3))[:-2], "gold", ""],
    }
)


def events():
    rows = []
    for user in range(N_USERS - 2):
        random = np.random.default_rng(user)
        for day in np.sort(random.choice(44, 1 + user % 9, replace=False)):
            rows += [(user, FIRST_DAY + int(day), int(item)) for item in random.choice(N_ITEMS, 2, replace=False) + 1]
    return np.array(rows)


@pytest.fixture
def data(tmp_path):
    return write_prepared(tmp_path / "users", events(), n_items=N_ITEMS, users=USERS)


def decoder_of(data, reads=READS, std=1.0):
    """Return a decoder of the settings ``reads``, its codes of users with weights that matter."""
    torch.manual_seed(0)
    config = Config(model=reads)
    snapshots, user_codes = signals_of(config, data)
    model = build_purchase_model(config, snapshots.codes, user_codes, snapshots.n_promoted).eval()
    if model.user_codes is not None:
        model.user_codes.weight.data[1:].normal_(std=std)
    return DecoderRecommender(model, snapshots, user_codes)


def logits_of(decoder, data, users=slice(None)):
    with torch.inference_mode():
        reading = decoder.read(data.histories(DAY).of(users))
        return decoder.model.catalogue_logits(reading.query_QD, reading.queries)


def codes_of(table):
    return UserCodes.from_users(nw.from_native(pa.table(table), eager_only=True))


def test_what_never_varies_costs_nothing(tmp_path):
    data = toy_data(tmp_path, n_users=10, n_items=10, n_days=30, seed=1)
    assert UserCodes.from_users(data.users).codes.shape == (10, 0)
    decoder = decoder_of(data)
    assert decoder.model.user_codes is None
    assert decoder.user_codes is None


def test_columns_are_coded_by_common_values_and_bands():
    n = 20 * MIN_USERS
    club = np.array(["gold", "silver"])[np.arange(n) % 2].astype(object)
    club[:3], club[3:6] = "odd", None
    table = {"user_id": [str(u) for u in range(n)], "name": [f"n{u}" for u in range(n)], "always": ["yes"] * n}
    table |= {"age": [f"{u / 2}" for u in range(n - 1)] + [""], "club": club}
    user_codes = codes_of(table)
    assert user_codes.codes.shape == (n, 2)
    age, club_code = user_codes.codes.T
    assert len(set(age[:-1])) == 10
    assert (np.diff(age[:-1]) >= 0).all()
    assert age[-1] not in age[:-1]  # missing has a code of its own
    assert (club_code[:3] == 0).all()  # too rare to be learned
    assert len(set(club_code[3:6])) == 1
    assert not set(club_code[3:6]) & set(club_code[6:])
    assert not set(age) & set(club_code)
    assert user_codes.has_features.all()


def test_a_number_that_is_not_one_is_missing():
    n = 40 * MIN_USERS
    age = np.arange(n) / 2
    age[: 2 * MIN_USERS] = np.nan
    user_codes = codes_of({"user_id": [str(u) for u in range(n)], "age": age})
    assert not user_codes.has_features[: 2 * MIN_USERS].any()
    assert user_codes.has_features[2 * MIN_USERS :].all()
    assert not set(user_codes.codes[: 2 * MIN_USERS, 0]) & set(user_codes.codes[2 * MIN_USERS :, 0])


def test_of_a_user_who_came_in_later_nothing_is_said(data):
    user_codes = UserCodes.from_users(data.users)
    first, second = user_codes.codes[:2, 0]
    assert user_codes.of(np.array([0, N_USERS, 1])).tolist() == [[first], [0], [second]]


def test_a_model_begins_as_one_that_does_not_read_the_user_table(data):
    config = Config(model=SMALL, split=SplitConfig(n_folds=0))
    decoders = []
    for reads in (SMALL, READS):
        module = build_module(config.model_copy(update={"model": reads}), data)
        batches = module.batches
        decoders.append(DecoderRecommender(module.model.eval(), batches.snapshots, batches.user_codes))
    logits = [logits_of(decoder, data) for decoder in decoders]
    assert torch.equal(*logits)
    decoders[1].model.user_codes.weight.data[1:].normal_()
    assert not torch.equal(logits_of(decoders[1], data), logits[0])


def test_users_are_known_apart_by_the_user_table_with_long_histories_and_none(data):
    """A history of more events than a window loses the start mark, not the user."""
    decoder = decoder_of(data)
    n_events = data.ends_before(DAY) - data.offsets[:-1]
    assert n_events.max() > SMALL.max_length
    before, code = logits_of(decoder, data), decoder.user_codes.codes[:, 0]
    decoder.model.user_codes.weight.data[code[0]] *= -1  # of one club alone
    changed = (logits_of(decoder, data) - before).nan_to_num().abs().amax(1).numpy() > 1e-4
    assert np.array_equal(changed, code == code[0])


def test_of_histories_that_are_given_the_user_table_says_nothing(data):
    """Their user_index counts another log's users."""
    decoder, histories = decoder_of(data), data.histories(DAY)
    given = replace(histories, table_rows=np.full(len(histories), -1))
    assert decoder.knows(histories).tolist() == [*[True] * (N_USERS - 1), False]
    assert np.array_equal(decoder.knows(given), given.n_events > 0)
    blind = decoder_of(data)
    blind.model.user_codes.weight.data.zero_()
    with torch.inference_mode():
        reading = decoder.read(given)
        logits = decoder.model.catalogue_logits(reading.query_QD, reading.queries)
    torch.testing.assert_close(logits, logits_of(blind, data))


def test_a_history_goes_on_with_what_is_known_of_the_user(data):
    """The cache gives the logits of the whole sequence."""
    decoder, histories = decoder_of(data), data.histories(DAY)
    model = decoder.model
    with torch.inference_mode():
        reader = PurchaseReader(decoder, histories, n_context=8, n_new=2)
        reading = decoder.read(histories, 8)
        sequences, queries = reading.sequences, reading.queries
        torch.testing.assert_close(reader.logits_RV, model.catalogue_logits(reading.query_QD, queries))
        reader.extend(torch.full((N_USERS,), 3))
        rows, next_Q = torch.arange(len(queries)), queries.position_Q + 1
        longer = replace(
            sequences,
            item_BT=torch.nn.functional.pad(sequences.item_BT, (0, 1)),
            gap_days_BT=torch.nn.functional.pad(sequences.gap_days_BT, (0, 1)),
        )
        longer.item_BT[rows, next_Q] = 3
        longer.gap_days_BT[rows, next_Q] = queries.days_until_query_Q
        queries = replace(queries, position_Q=next_Q, days_until_query_Q=torch.zeros_like(next_Q))
        whole = model.read(longer, queries)
        torch.testing.assert_close(reader.logits_RV, model.catalogue_logits(whole, queries))


def test_a_new_user_in_the_user_table_is_ranked_and_a_stranger_gets_best_sellers(data):
    known, candidates = data.histories(DAY), Candidates(all_items(N_ITEMS))
    cold_start = Popularity.fit("cold_start", known, days=7, pieces=False)
    some = known.of(np.array([0, NEW_USER, STRANGER]))
    assert UserCodes.from_users(data.users).has_features[some.user_index].tolist() == [True, True, False]
    ranked, popular = [], cold_start.recommend(some, 5, candidates).item
    for reads in (READS, SMALL):
        decoder = decoder_of(data, reads)
        with torch.no_grad():
            decoder.model.item_bias += 9 * torch.arange(N_ITEMS + 1)  # else it begins with what sells, as the rule does
        own = decoder.recommend(some, 5, candidates).item
        served = WithColdStart(decoder, cold_start).recommend(some, 5, candidates).item
        assert np.array_equal(served[0], own[0])
        assert np.array_equal(served[2], popular[2])
        assert not np.array_equal(own[1], popular[1])
        ranked.append(np.array_equal(served[1], own[1]))
    assert ranked == [True, False]
