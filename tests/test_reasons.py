"""Reasons are the model's own: they add up, say what leaving a purchase out does, and find a planted cause."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_model import train_steps
from toy import taken_of, write_prepared

from recsys.config import Config, ModelConfig, SplitConfig, TrainingConfig
from recsys.evaluation.splits import make_split
from recsys.evaluation.tables import REASONS_SCHEMA
from recsys.modeling.build import build_module
from recsys.modeling.decoder.components import SEQUENCE
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.explain.leave_one_out import Listed, histories_without, lost_logits
from recsys.modeling.explain.reasons import N_NAMED, explain
from recsys.modeling.explain.sentences import LEAST_PROMOTION, ReasonTexts, say_reasons, write_reasons
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender, build_purchase_model
from recsys.schema import REASONS
from recsys.signals.categories import CATEGORY_FEATURES
from recsys.signals.past_items import PAST_FEATURES
from recsys.signals.queries import query_at
from recsys.signals.sales import OWN_FEATURES
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

N_PAIRS, N_ITEMS, N_USERS, K = 8, 66, 150, 6
FIRST_DAY, N_DAYS = 18_000, 70
DAY = FIRST_DAY + N_DAYS
ITEMS = pa.table(
    {
        "item_id": [f"{number:010d}" for number in range(1, N_ITEMS + 1)],
        "name": [f"Thing {number}" for number in range(1, N_ITEMS + 1)],
        # Half of the causes are made of what their effects are made of.
        "made_of": list(4 * "c" + 4 * "g" + 4 * "c" + 4 * "s" + 16 * "cgs" + "gs"),
        # Causes and effects are of nobody's brand; all else is of one of ten.
        "brand": 2 * N_PAIRS * [None] + [f"brand {number % 10}" for number in range(N_ITEMS - 2 * N_PAIRS)],
    }
)


def planted_events() -> list[tuple[int, int, int]]:
    """Whoever buys item c of 1 … 8 buys item c + 8 within three days; of all else one item weekly, some at random."""
    random = np.random.default_rng(3)
    events = []
    for user in range(N_USERS):
        # The newest cause stands on the last days: its effect is still to come.
        days = [*random.integers(3, N_DAYS - 8, 3).tolist(), N_DAYS - 1]
        for cause, day in zip(random.permutation(N_PAIRS)[:4] + 1, days, strict=True):
            events.append((user, FIRST_DAY + day, int(cause)))
            if day < N_DAYS - 1:
                events.append((user, FIRST_DAY + day + int(random.integers(1, 4)), int(cause) + N_PAIRS))
        staple, *others = random.permutation(np.arange(2 * N_PAIRS + 1, N_ITEMS + 1))[:5].tolist()
        for day, item in zip(random.integers(0, N_DAYS - 2, 4).tolist(), others, strict=True):
            events.append((user, FIRST_DAY + day, item))
        events += [(user, FIRST_DAY + day, staple) for day in range(20 + user % 7, N_DAYS - 2, 7)]
    return events


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Data with planted causes, a decoder that has learned them, and its lists at the day after the data."""
    torch.manual_seed(0)
    users = [f"u{number}" for number in range(N_USERS + 1)]  # the last one has bought nothing
    folder = tmp_path_factory.mktemp("planted")
    log = write_prepared(folder / "data", planted_events(), items=ITEMS, n_items=N_ITEMS, users=users)
    module = build_module(
        Config(
            model=ModelConfig(width=32, n_layers=1, n_heads=2, max_length=24, dropout=0.0),
            split=SplitConfig(n_folds=0, end=None),
            training=TrainingConfig(batch_tokens=1024, loss="full", query_windows=6),
        ),
        log,
    )
    train_steps(module, 25)
    decoder = DecoderRecommender(module.model.eval(), Snapshots(log))
    histories = log.histories(DAY).of(slice(N_USERS))
    lists = decoder.recommend(histories, K, Candidates(all_items(N_ITEMS)))
    return SimpleNamespace(
        log=log,
        folder=folder,
        histories=histories,
        nobody=log.histories(DAY).of(slice(N_USERS, None)),
        decoder=decoder,
        snapshot=decoder.snapshots.at(DAY),
        lists=lists,
        reasons=explain(decoder, histories, lists.item),
        users=users,
    )


def everything(n_users: int) -> np.ndarray:
    return np.tile(np.arange(1, N_ITEMS + 1, dtype=np.int32), (n_users, 1))


def is_for(reasons, reason):
    return reasons.reason == REASONS.index(reason)


def terms_of(reasons, name):
    return reasons.terms[..., reasons.term_names.index(name)]


def own_items(log, row):
    return np.unique(log.item[log.offsets[row] : log.offsets[row + 1]])


def logits_of(decoder, histories) -> np.ndarray:
    with torch.inference_mode():
        reading = decoder.read(histories)
        return decoder.model.catalogue_logits(reading.query_QD, reading.queries).numpy()


def queries_without(decoder, folder, users, user: int, past_item: int) -> tuple[SequenceTensors, QueryTensors]:
    """Return what the model reads of a user who had never bought ``past_item``, from data written anew.

    Sales, lifts and rarities are as they were, and what is said of the user as a whole.
    """
    log, model = decoder.snapshots.log, decoder.model
    events = np.stack([log.user_of_event(), log.day, log.item], axis=1)
    events = events[~((events[:, 0] == user) & (events[:, 2] == past_item))]
    fewer = write_prepared(folder, events, items=ITEMS, n_items=N_ITEMS, users=users)
    (sequences, queries), (_, whole) = (
        query_at(decoder.snapshots, one.histories(DAY).of([user]), model.config.max_length, None, lifts=True)
        for one in (fewer, log)
    )
    of_user = [place for place, name in enumerate(CATEGORY_FEATURES) if name.startswith("user_")]
    queries.categories.features[:, of_user] = whole.categories.features[0, of_user]
    return SequenceTensors.from_arrays(sequences), QueryTensors.from_arrays(queries)


def scores_without(shop, user: int, past_item: int, folder: str) -> np.ndarray:
    """Return the logits (V,) of a user who had never bought ``past_item``, from data written anew."""
    model = shop.decoder.model
    with torch.inference_mode():
        read = queries_without(shop.decoder, shop.folder / folder, shop.users, user, past_item)
        logits_QV = model.catalogue_logits(model.read(*read), read[1])
    return logits_QV[0].numpy()


def listed_for(shop, item: np.ndarray) -> Listed:
    histories = shop.histories.of(slice(len(item)))
    reading = shop.decoder.read(histories)
    terms = shop.decoder.model.terms(reading.query_QD, reading.queries)
    return Listed(shop.decoder.model, histories, shop.snapshot, reading, terms, torch.from_numpy(item.astype(np.int64)))


def test_the_terms_add_up_to_the_score_and_only_past_items_have_a_term_of_their_own(shop):
    assert shop.reasons.term_names == shop.decoder.model.term_names
    np.testing.assert_allclose(shop.reasons.terms.sum(-1), shop.lists.score, rtol=1e-4, atol=1e-4)
    is_past = shop.reasons.count > 0
    assert (terms_of(shop.reasons, "past_items") != 0).sum() == is_past.sum() > 0
    assert np.array_equal(is_for(shop.reasons, "repeat"), is_past)


def test_only_an_item_of_a_category_that_the_user_has_bought_has_a_term_of_categories(shop):
    reasons = explain(shop.decoder, shop.histories.of(slice(30)), everything(30))
    categories = shop.snapshot.codes.categories
    assert categories.shape == (N_ITEMS + 1, 1)  # brands; what things are made of is too coarse a category
    for row, terms in enumerate(terms_of(reasons, "categories")):
        own = own_items(shop.log, row)
        of_own_category = np.isin(categories[1:, 0], categories[own, 0]) & (categories[1:, 0] > 0)
        assert np.array_equal(terms != 0, of_own_category)


def test_what_a_category_gives_is_lost_with_the_purchase_that_it_was_given_for(shop):
    """The component asks for nothing but a purchase of the category; the transformer, silenced, names nothing."""
    model = shop.decoder.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for table in model.item_tower.parameters():
            table.zero_()
        model.components["categories"].net.out.weight.zero_()
        model.components["categories"].net.rule.weight.zero_()
        model.components["categories"].net.out.bias.fill_(2.0)
        model.components["co_purchases"].scale_(0)
    reasons = explain(shop.decoder, shop.histories, everything(N_USERS))
    model.load_state_dict(before)
    categories, n_named = shop.snapshot.codes.categories[:, 0], 0
    for row in range(N_USERS):
        own = own_items(shop.log, row)
        for item in np.setdiff1d(np.arange(1, N_ITEMS + 1), own):
            carriers = own[(categories[own] == categories[item]) & (categories[item] > 0)]
            # Of two purchases of the category, either alone would do: none is missed.
            expected = carriers.tolist() if len(carriers) == 1 else []
            assert [past for past in reasons.past_item[row, item - 1].tolist() if past] == expected
            n_named += len(expected)
    assert n_named > 500


def test_without_an_item_all_that_is_read_is_that_of_a_history_without_it(shop):
    """Every table of signals, against data written anew; of categories and co-purchases, those of listed items."""
    listed = listed_for(shop, everything(4))
    arrays = listed.reading.arrays
    ablated, asked = histories_without(listed, arrays.past.query, arrays.past.item)
    assert len(asked) == len(arrays.past.query) > 20
    of_item = ("count", "decayed_60", "age_last")
    for pair, (row, item) in enumerate(zip(arrays.past.query.tolist(), arrays.past.item.tolist(), strict=True)):
        folder = shop.folder / f"read-{row}-{item}"
        sequences, queries = queries_without(shop.decoder, folder, shop.users, row, item)
        length = sequences.item_BT.shape[1]
        assert torch.equal(ablated.item_BT[pair, :length], sequences.item_BT[0])
        assert torch.equal(ablated.gap_days_BT[pair, :length], sequences.gap_days_BT[0])
        assert not ablated.item_BT[pair, length:].any()
        assert asked.position_Q[pair] == queries.position_Q[0]
        assert asked.days_until_query_Q[pair] == queries.days_until_query_Q[0]
        without = taken_of(asked, torch.tensor([pair]))
        assert torch.equal(without.past_item_P, queries.past_item_P)
        columns = [PAST_FEATURES.index(name) for name in of_item]
        torch.testing.assert_close(without.past_features_PF[:, columns], queries.past_features_PF[:, columns])
        assert torch.equal(without.category_code_R, queries.category_code_R)
        torch.testing.assert_close(without.category_features_RF, queries.category_features_RF)
        assert torch.equal(without.co_purchase_item_C, queries.co_purchase_item_C)
        torch.testing.assert_close(without.co_purchase_features_CF, queries.co_purchase_features_CF)


@pytest.mark.parametrize("k", [1, 7])
def test_of_categories_and_co_purchases_those_of_the_listed_items_are_enough(shop, k):
    item = everything(5)[:, ::-1][:, :k]
    few, all_of_them = listed_for(shop, item), listed_for(shop, everything(5))
    arrays = few.reading.arrays
    with torch.inference_mode():
        lost = lost_logits(few, arrays.past.query, arrays.past.item)
        lost_of_all = lost_logits(all_of_them, arrays.past.query, arrays.past.item)
    torch.testing.assert_close(lost, lost_of_all[:, item[0] - 1], atol=1e-5, rtol=1e-4)


def test_of_a_window_full_of_one_item_nothing_is_left_but_the_start(tmp_path):
    events = [(0, 100 + day, 2) for day in range(8)] + [(1, 100, 1), (1, 103, 3)]
    log = write_prepared(tmp_path / "full", events, n_items=5)
    torch.manual_seed(0)
    config = Config(model=ModelConfig(width=16, n_heads=2, max_length=4))
    snapshots = Snapshots(log)
    model = build_purchase_model(config, snapshots.codes, None, 0).eval()
    decoder = DecoderRecommender(model, snapshots)
    with torch.no_grad():
        reading = decoder.read(log.histories(110))
        listed = Listed(model, log.histories(110), snapshots.at(110), reading, {}, torch.ones(2, 1, dtype=torch.int64))
        ablated, asked = histories_without(listed, reading.arrays.past.query, reading.arrays.past.item)
    assert ablated.item_BT.tolist() == [[6, 0], [6, 3], [6, 1]]
    assert ablated.gap_days_BT.tolist() == [[0, 0], [0, 0], [0, 0]]
    assert asked.position_Q.tolist() == [0, 1, 1]
    assert asked.days_until_query_Q.tolist() == [0, 7, 10]
    assert explain(decoder, log.histories(110), np.array([[1, 2], [4, 3]], dtype=np.int32)).past_day.max() == 107


def test_a_repeat_names_its_own_purchases_with_their_number_and_last_date(shop):
    reasons, log = shop.reasons, shop.log
    rows, places = np.nonzero(is_for(reasons, "repeat"))
    assert len(rows) > 20
    for row, place in zip(rows[:40], places[:40], strict=True):
        own = slice(log.offsets[row], log.offsets[row + 1])
        days = log.day[own][log.item[own] == reasons.item[row, place]]
        assert reasons.past_item[row, place].tolist() == [reasons.item[row, place], 0, 0]
        assert (reasons.count[row, place], reasons.past_day[row, place, 0]) == (len(days), days.max())
        assert 0 <= reasons.share[row, place, 0] <= 1


def test_the_share_of_a_past_item_is_what_a_history_without_it_loses(shop):
    reasons = shop.reasons
    whole = logits_of(shop.decoder, shop.histories)
    new_rows, new_places = np.nonzero((reasons.count == 0) & (reasons.past_item[..., 0] > 0))
    for row, place in list(zip(new_rows, new_places, strict=True))[::60]:
        own = own_items(shop.log, row)
        item = reasons.item[row, place]
        lost = [float(whole[row, item]) - scores_without(shop, row, past, f"l{row}-{past}")[item] for past in own]
        gain = np.maximum(lost, 0)
        best = np.argsort(-gain, kind="stable")[:N_NAMED]
        named = gain[best] >= gain.max() / 3
        assert reasons.past_item[row, place].tolist() == np.where(named, own[best], 0).tolist()
        np.testing.assert_allclose(reasons.share[row, place], named * gain[best] / gain.sum(), atol=2e-3)


@pytest.mark.parametrize("bought", ["before", "never"])
def test_without_the_named_purchase_the_score_falls_more_than_without_another(shop, bought):
    reasons, random = shop.reasons, np.random.default_rng(0)
    is_wanted = (reasons.count > 0) if bought == "before" else (reasons.count == 0)
    whole = logits_of(shop.decoder, shop.histories)
    falls = []
    for row in range(0, N_USERS, 6):
        places = np.flatnonzero(is_wanted[row] & (reasons.past_item[row, :, 0] > 0))
        if not len(places):
            continue
        item, named = int(reasons.item[row, places[0]]), int(reasons.past_item[row, places[0], 0])
        own = own_items(shop.log, row)
        other = int(random.choice(own[(own != named) & (own != item)]))
        score = float(whole[row, item])
        falls.append(
            [score - scores_without(shop, row, past, f"{bought}{row}-{past}")[item] for past in (named, other)]
        )
    named_fall, other_fall = np.mean(falls, axis=0)
    assert len(falls) >= 15
    assert named_fall > max(2 * other_fall, 0.1)


def test_the_purchase_named_is_the_planted_cause(shop):
    """The truth is in the data, not in the model: whoever bought c will buy c + 8."""
    reasons = shop.reasons
    is_effect = (reasons.count == 0) & (reasons.item > N_PAIRS) & (reasons.item <= 2 * N_PAIRS)
    rows, places = np.nonzero(is_effect)
    causes = reasons.item[rows, places] - N_PAIRS
    own = [set(shop.log.item[shop.log.offsets[row] : shop.log.offsets[row + 1]].tolist()) for row in rows]
    has_cause = np.array([cause in items for cause, items in zip(causes, own, strict=True)])
    named = reasons.past_item[rows, places, 0]
    assert has_cause.sum() > 60
    assert (named == causes)[has_cause].mean() > 0.8


def test_reasons_do_not_depend_on_company_nor_on_what_else_is_listed(shop):
    alone = explain(shop.decoder, shop.histories.of([7]), shop.lists.item[7:8, 2:4], chunk=1)
    together = shop.reasons
    assert np.array_equal(alone.past_item[0], together.past_item[7, 2:4])
    assert np.array_equal(alone.reason[0], together.reason[7, 2:4])
    np.testing.assert_allclose(alone.share[0], together.share[7, 2:4], atol=1e-4)


def test_the_first_reason_that_holds_is_the_reason(shop):
    reasons, groups = shop.reasons, shop.snapshot.codes.groups
    shares_group = (groups[reasons.past_item] == groups[reasons.item][..., None]) & (reasons.past_item > 0)
    new, rising = reasons.count == 0, is_for(reasons, "rising")
    assert not (rising & ~new).any()
    assert np.array_equal(is_for(reasons, "variant"), new & ~rising & shares_group.any(-1))
    named = reasons.past_item[..., 0] > 0
    assert np.array_equal(is_for(reasons, "often_after"), new & ~rising & ~shares_group.any(-1) & named)
    assert np.array_equal(is_for(reasons, "popular"), new & ~rising & ~named)


def test_what_sales_alone_raise_is_on_the_rise_only_if_it_sells_more(shop):
    model = shop.decoder.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        first = model.components["sales"].net.network[0]
        first.weight.zero_()
        first.weight[:, 3] = 1.0  # the trend, and nothing else
        first.bias.zero_()
        model.components["sales"].net.out.weight.fill_(50.0)
    reasons = explain(shop.decoder, shop.histories.of(slice(3)), everything(3))
    model.load_state_dict(before)
    sells_more = shop.snapshot.sold(7) > shop.snapshot.sold(28) / 4
    rising = is_for(reasons, "rising")
    assert rising.any()
    assert not (rising & ~sells_more[everything(3)]).any()
    assert not (rising & (reasons.count > 0)).any()


def test_of_a_user_without_a_history_no_purchase_is_named(shop):
    reasons = explain(shop.decoder, shop.nobody, shop.lists.item[:1])
    assert is_for(reasons, "popular").all()
    assert not reasons.past_item.any()
    (texts,) = ReasonTexts(shop.snapshot).say(reasons, shop.nobody)
    assert set(texts) == {"nothing is known of the customer: a best seller of the week"}
    together = explain(shop.decoder, shop.log.histories(DAY), shop.lists.item[[*range(N_USERS), 0]])
    for name in ("reason", "past_item", "count"):
        assert np.array_equal(getattr(together, name)[:-1], getattr(shop.reasons, name)), name
        assert np.array_equal(getattr(together, name)[-1:], getattr(reasons, name)), name


@pytest.mark.parametrize(
    ("category_sells", "expected"), [(True, "not sold yet: others of its kind sell well"), (False, "not sold yet")]
)
def test_what_never_sold_is_not_said_to_sell(shop, category_sells, expected):
    reasons = explain(shop.decoder, shop.nobody, shop.lists.item[:1, :2])
    texts = ReasonTexts(shop.snapshot)
    item = shop.lists.item[0, 0]
    said = {"never_sold": True, "category_sold_7": category_sells}
    texts._is_positive = lambda feature, number: number == item and said[feature]
    assert texts.say(reasons, shop.nobody) == [
        [expected, "nothing is known of the customer: a best seller of the week"]
    ]


def test_reasons_read_as_sentences_with_the_names_of_the_items(shop):
    texts = say_reasons(shop.decoder, shop.histories, shop.lists.item)
    by_reason = {}
    for reasons, row in zip(shop.reasons.reason, texts, strict=True):
        for reason, text in zip(reasons, row, strict=True):
            by_reason.setdefault(REASONS[reason], []).append(text)
    assert "bought 7 times, last on 20 Jun 2019" in by_reason["repeat"]
    assert all(text.startswith("another ") and ", after Thing " in text for text in by_reason["variant"])
    assert all(text.startswith("often after Thing ") and " 2019)" in text for text in by_reason["often_after"])


def test_reasons_are_written_as_a_table_with_a_row_for_each_past_purchase_named(shop, tmp_path):
    n_done, path = [], tmp_path / "reasons.parquet"
    write_reasons(shop.decoder, shop.histories, shop.lists.item, path, lambda *done: n_done.append(done))
    assert n_done[-1] == (N_USERS, N_USERS)
    table = pq.read_table(path)
    assert table.schema.names == REASONS_SCHEMA.names
    reasons, texts = shop.reasons, say_reasons(shop.decoder, shop.histories, shop.lists.item)
    assert len(table) == np.maximum((reasons.past_item > 0).sum(-1), 1).sum()
    rows = iter(table.to_pylist())
    for user, place in np.ndindex(20, K):
        for number in range(max(int((reasons.past_item[user, place] > 0).sum()), 1)):
            row, past = next(rows), int(reasons.past_item[user, place, number])
            assert (row["user_id"], row["rank"]) == (f"u{user}", place + 1)
            assert row["item_id"] == f"{reasons.item[user, place]:010d}"
            assert row["reason"] == REASONS[reasons.reason[user, place]]
            assert row["text"] == texts[user][place]
            assert row["past_item_id"] == (f"{past:010d}" if past else None)
            assert row["share"] == (reasons.share[user, place, number] if past else None)


@pytest.mark.parametrize(
    "components",
    [
        ("sequence",),
        ("past_items",),
        ("sales", "categories", "co_purchases"),
        ("sequence", "sales", "past_items"),
        ("sequence", "categories", "co_purchases"),
    ],
)
def test_reasons_of_any_components_add_up_and_lose_what_a_history_without_the_item_loses(shop, components):
    torch.manual_seed(1)
    model_config = shop.decoder.model.config.model_copy(update={"components": components})
    model = build_purchase_model(Config(model=model_config), shop.snapshot.codes, None, 0).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    model.item_bias.data[0] = 0
    decoder, histories = DecoderRecommender(model, shop.decoder.snapshots), shop.histories.of(slice(6))
    lists = decoder.recommend(histories, 4, Candidates(all_items(N_ITEMS)))
    reasons = explain(decoder, histories, lists.item)
    assert set(reasons.term_names) == {"bias", *components}
    np.testing.assert_allclose(reasons.terms.sum(-1), lists.score, rtol=1e-4, atol=1e-4)
    assert np.array_equal(is_for(reasons, "repeat"), reasons.count > 0)
    n_checked, whole = 0, logits_of(decoder, histories)
    for row, place in np.argwhere(reasons.count == 0)[:4]:
        item, lost = reasons.item[row, place], {}
        for past in own_items(shop.log, row):
            folder = shop.folder / f"{'-'.join(components)}{row}-{past}"
            read = queries_without(decoder, folder, shop.users, row, past)
            with torch.inference_mode():
                without = model.catalogue_logits(model.read(*read), read[1])
            lost[int(past)] = float(whole[row, item] - without[0, item])
        total = sum(max(loss, 0) for loss in lost.values())
        for past, share in zip(reasons.past_item[row, place].tolist(), reasons.share[row, place], strict=True):
            if past and total > 0.01:
                np.testing.assert_allclose(share, lost[past] / total, atol=2e-3)
                n_checked += 1
        if not reasons.past_item[row, place].any():
            assert total < 1e-4
    assert n_checked or components == ("past_items",)


def test_a_reason_says_what_a_score_owes_to_promotions(shop):
    """Item 66 is promoted in the week asked; in the other log nothing is, and all else is the same."""
    past = [(1 + week, FIRST_DAY + 7 * week, FIRST_DAY + 7 * week + 7, "mailer", 1.0) for week in range(10)]
    logs = [
        write_prepared(
            shop.folder / f"promoted-{len(coming)}",
            planted_events(),
            items=ITEMS,
            n_items=N_ITEMS,
            users=shop.users,
            promotions=past + coming,
        )
        for coming in ([(N_ITEMS, DAY, DAY + 7, "mailer", 1.0)], [])
    ]
    with_promotion, without = (Snapshots(log) for log in logs)
    torch.manual_seed(0)
    config = Config(model=shop.decoder.model.config)
    model = build_purchase_model(config, with_promotion.codes, None, with_promotion.n_promoted).eval()
    coming = len(PAST_FEATURES) + model.n_promoted + len(OWN_FEATURES)
    with torch.no_grad():
        model.components["sales"].net.rule.weight[:, len(OWN_FEATURES)] = 9.0  # the promotion, more than anything else
        model.past_items.net.rule.weight[:, coming] = 2.0
    histories = [log.histories(DAY) for log in logs]
    reasons, others = (
        explain(DecoderRecommender(model, snapshots), one, everything(N_USERS + 1))
        for snapshots, one in zip((with_promotion, without), histories, strict=True)
    )
    owed = reasons.terms.sum(-1) - others.terms.sum(-1)
    np.testing.assert_allclose(reasons.promotion_contribution, owed, atol=1e-4)
    assert not reasons.promotion_contribution[:, :-1].any()
    assert not others.promotion_contribution.any()
    new = reasons.count[:, -1] == 0
    is_known = np.arange(N_USERS + 1) < N_USERS
    assert np.array_equal(is_for(reasons, "promoted")[:, -1], new & is_known)
    assert not is_for(reasons, "promoted")[:, :-1].any()
    # Of a user without a history nothing is said of promotions.
    assert reasons.promotion_contribution[-1, -1] > 5
    assert is_for(reasons, "popular")[-1].all()
    texts = np.array(ReasonTexts(with_promotion.at(DAY)).say(reasons, histories[0]))
    said = "promoted in the week to come: mailer in 100 % of the shops"
    assert set(texts[:-1, -1][new[:-1]]) == {said}
    assert len(texts[:, -1][~new]) > 3
    assert all(text.startswith("bought ") and text.endswith(f"; {said}") for text in texts[:, -1][~new])
    reasons.promotion_contribution[:] = LEAST_PROMOTION / 2
    again = np.array(ReasonTexts(with_promotion.at(DAY)).say(reasons, histories[0]))
    assert not any("promoted" in text for text in again[reasons.count > 0])


def test_what_the_user_table_says_is_read_without_an_item_too(shop):
    club = [["gold", "silver", ""][number % 3] for number in range(N_USERS + 1)]
    users = pa.table({"user_id": shop.users, "club": club})
    user_codes = UserCodes.from_users(users=nw.from_native(users, eager_only=True))
    torch.manual_seed(0)
    config = Config(model=shop.decoder.model.config.model_copy(update={"customer": True}))
    model = build_purchase_model(config, shop.snapshot.codes, user_codes, 0).eval()
    model.user_codes.weight.data[1:].normal_()
    decoder = DecoderRecommender(model, shop.decoder.snapshots, user_codes)
    with torch.no_grad():
        asking = shop.histories.of([3, 4, 5])
        reading = decoder.read(asking)
        listed = Listed(model, asking, shop.snapshot, reading, {}, torch.ones(3, 1, dtype=torch.int64))
        row, item = reading.arrays.past.query, reading.arrays.past.item
        query_PD = model.read(*histories_without(listed, row, item))
        for pair in range(len(row)):
            user = 3 + int(row[pair])
            folder = shop.folder / f"club-{user}-{item[pair]}"
            sequences, queries = queries_without(shop.decoder, folder, shop.users, user, int(item[pair]))
            codes = torch.from_numpy(user_codes.of(np.array([user])).astype(np.int64))
            assert codes.any() or club[user] == ""
            expected = model.read(replace(sequences, user_codes_BK=codes), queries)
            torch.testing.assert_close(query_PD[pair], expected[0])


@pytest.fixture(scope="module")
def undated(shop):
    """The same purchases, asked for the last one of each user: transitions stand for all that looks at a date."""
    config = Config.model_validate({"split": {"protocol": "leave_one_out"}, "model": {"width": 32, "n_layers": 1}})
    log = write_prepared(
        shop.folder / "undated", planted_events(), items=ITEMS, n_items=N_ITEMS, users=shop.users[:N_USERS]
    )
    module = build_module(config, log)
    histories = make_split(log, config.split).tests[0].everybody(log)
    return DecoderRecommender(module.model.eval(), Snapshots(log)), histories


def test_without_a_date_what_transitions_give_is_a_term_and_all_terms_add_up_to_the_score(undated):
    decoder, histories = undated
    lists = decoder.recommend(histories, K, Candidates(all_items(N_ITEMS)))
    reasons = explain(decoder, histories, lists.item)
    assert reasons.term_names == (SEQUENCE, "bias", "transitions")
    np.testing.assert_allclose(reasons.terms.sum(-1), lists.score, rtol=1e-4, atol=1e-4)
    given = terms_of(reasons, "transitions")
    assert np.unique(given).size > N_USERS
    decoder.model.components["transitions"].scale_(0)
    without = explain(decoder, histories, lists.item)
    decoder.model.components["transitions"].weight.fill_(1)
    np.testing.assert_allclose((reasons.terms - without.terms).sum(-1), given, rtol=1e-4, atol=1e-4)


def test_without_a_date_the_purchase_named_is_the_one_that_the_item_follows(undated):
    untouched, histories = undated
    decoder = DecoderRecommender(copy.deepcopy(untouched.model), untouched.snapshots)
    with torch.no_grad():
        for weight in decoder.model.item_tower.parameters():
            weight.zero_()  # the transformer says nothing
    asking = histories.of(slice(30))
    lists = decoder.recommend(asking, 3, Candidates(all_items(N_ITEMS), exclude_seen=True))
    reasons = explain(decoder, asking, lists.item)
    log, right = histories.log, []
    for user in range(30):
        own = slice(log.offsets[user], histories.end[user])
        last = dict(zip(log.item[own].tolist(), log.day[own].tolist(), strict=True))
        past_P = torch.tensor(sorted(last))
        age_P = torch.tensor([float(histories.day - last[int(item)]) for item in past_P])
        scores = []
        for place in range(len(past_P)):
            kept = torch.arange(len(past_P)) != place
            kept_P = past_P[kept]
            query_P = torch.zeros(len(kept_P), dtype=torch.int64)
            _, item_C, score_C = decoder.model.components["transitions"].of_past(query_P, kept_P, age_P[kept])
            scores.append(float(score_C[item_C == int(lists.item[user, 0])].sum()))
        if len(past_P) > 1:
            right.append(int(past_P[int(np.argmin(scores))]) == int(reasons.past_item[user, 0, 0]))
    assert np.mean(right) > 0.8, right
    texts = say_reasons(decoder, asking, lists.item)
    assert any(text.startswith("often after ") for row in texts for text in row)
