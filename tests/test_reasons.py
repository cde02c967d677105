"""Reasons are the model's own: they add up, say what leaving a purchase out does, and find a planted cause."""

import copy
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_model import train_steps
from toy import write_prepared

from recsys.config import Config, ModelConfig, SplitConfig, TrainingConfig
from recsys.modeling.decoder.inputs import newest_events
from recsys.modeling.explain import reasons as reasons_module
from recsys.modeling.explain.leave_one_out import kinds_without
from recsys.modeling.explain.reasons import N_NAMED, TERMS, explain
from recsys.modeling.explain.sentences import ReasonTexts, say_reasons
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.train import build_module
from recsys.schema import REASON_KINDS
from recsys.signals.history import CATEGORY_FEATURES, PastItems, category_history
from recsys.signals.sales import ItemSales

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
    data = write_prepared(folder / "data", planted_events(), items=ITEMS, n_items=N_ITEMS, users=users)
    module = build_module(
        Config(
            model=ModelConfig(width=32, n_layers=1, n_heads=2, max_length=24, dropout=0.0),
            split=SplitConfig(n_folds=0, end=None),
            training=TrainingConfig(batch_tokens=1024, loss="full", query_windows=6),
        ),
        data,
    )
    train_steps(module, 25)
    model = module.model.eval()
    history = History(data, data.ends_before(DAY), DAY)
    recommender = DecoderRecommender(model, ItemSales(data))
    asked = np.arange(N_USERS, dtype=np.int32)
    lists = recommender.recommend(history, asked, K, Candidates(all_items(N_ITEMS)))
    return SimpleNamespace(
        data=data,
        folder=folder,
        history=history,
        recommender=recommender,
        lists=lists,
        reasons=explain(recommender, history, asked, lists.item),
        users=users,
    )


def everything(n_users: int) -> np.ndarray:
    return np.tile(np.arange(1, N_ITEMS + 1, dtype=np.int32), (n_users, 1))


def kind_is(reasons, kind):
    return reasons.kind == REASON_KINDS.index(kind)


def scores_without(shop, user: int, past_item: int, folder: str) -> np.ndarray:
    """Logits (V,) of a customer who had never bought ``past_item``, from data written anew.

    Sales are as they were, and what the kind head is told of the customer as a whole.
    """
    data = shop.data
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1)
    events = events[~((events[:, 0] == user) & (events[:, 2] == past_item))]
    fewer = write_prepared(shop.folder / folder, events, items=ITEMS, n_items=N_ITEMS, users=shop.users)
    with torch.inference_mode():
        logits = logits_with(shop, fewer, user, of_user_from=data)
    return logits[0].numpy()


def logits_with(shop, data, user: int, of_user_from) -> torch.Tensor:
    asked = [
        newest_events(d, np.array([user]), d.ends_before(DAY)[[user]], np.array([DAY]), shop.recommender.model.config)
        for d in (data, of_user_from)
    ]
    (sequences, queries), (_, others) = asked
    of_user = [place for place, name in enumerate(CATEGORY_FEATURES) if name.startswith("user_")]
    queries.category_features_RF[:, of_user] = others.category_features_RF[0, of_user]
    model = shop.recommender.model
    query_QD = model.query(model.states(sequences), queries)
    return model.catalogue_logits(query_QD, queries, shop.recommender.sales)


def test_the_terms_add_up_to_the_score_and_only_past_items_have_a_repeat_term(shop):
    np.testing.assert_allclose(shop.reasons.terms.sum(-1), shop.lists.score, rtol=1e-4, atol=1e-4)
    is_past = shop.reasons.count > 0
    assert (shop.reasons.terms[..., TERMS.index("repeat head")] != 0).sum() == is_past.sum() > 0
    assert np.array_equal(kind_is(shop.reasons, "repeat"), is_past)


def test_only_an_item_of_a_kind_that_the_customer_has_bought_has_a_kind_term(shop):
    reasons, categories = explain(shop.recommender, shop.history, np.arange(30), everything(30)), shop.data.categories
    assert categories.shape == (N_ITEMS + 1, 1)  # brands; what things are made of is too coarse a kind
    for row, terms in enumerate(reasons.terms[..., TERMS.index("kind head")]):
        own = shop.data.item[shop.data.offsets[row] : shop.data.offsets[row + 1]]
        of_own_kind = np.isin(categories[1:, 0], categories[own, 0]) & (categories[1:, 0] > 0)
        assert np.array_equal(terms != 0, of_own_kind)


def test_what_the_kind_head_gives_is_lost_with_the_purchase_that_it_was_given_for(shop):
    """A head that asks for nothing but a purchase of the kind: the decoder itself, silenced, would name nothing."""
    model = shop.recommender.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.items.own.weight.zero_()
        for table in model.items.parameters():
            table.zero_()
        model.kind_head.out.weight.zero_()
        model.kind_head.rule.weight.zero_()
        model.kind_head.out.bias.fill_(2.0)
        model.companion_head.multiply(0)
    reasons = explain(shop.recommender, shop.history, np.arange(N_USERS), everything(N_USERS))
    model.load_state_dict(before)
    categories, n_named = shop.data.categories[:, 0], 0
    for row in range(N_USERS):
        own = np.unique(shop.data.item[shop.data.offsets[row] : shop.data.offsets[row + 1]])
        for item in np.setdiff1d(np.arange(1, N_ITEMS + 1), own):
            carriers = own[(categories[own] == categories[item]) & (categories[item] > 0)]
            # Of two purchases of the kind, either alone would do: none is missed.
            expected = carriers.tolist() if len(carriers) == 1 else []
            assert [past for past in reasons.past_item[row, item - 1].tolist() if past] == expected
            n_named += len(expected)
    assert n_named > 500


@pytest.mark.parametrize("at_most", [3, 24])
def test_without_an_item_the_kinds_are_those_of_the_past_items_that_are_left(shop, at_most):
    data, day = shop.data, np.full(4, DAY)
    _, queries = newest_events(data, np.arange(4), shop.history.end[:4], day, shop.recommender.model.config)
    item_QK = torch.from_numpy(everything(4).astype(np.int64))
    row_P, left_P = queries.past_query_P[:at_most], queries.past_item_P[:at_most]
    with torch.inference_mode():
        found = kinds_without(shop.recommender.model, shop.history, queries, row_P, left_P, item_QK)
        for place in range(len(row_P)):
            row, left = int(row_P[place]), int(left_P[place])
            kept = (queries.past_query_P == row) & (queries.past_item_P != left)
            past = PastItems(
                np.zeros(int(kept.sum()), dtype=np.int64),
                queries.past_item_P[kept].numpy(),
                queries.past_features_PF[kept].numpy(),
            )
            categories = category_history(past, data.categories, data.category_sales, day[:1])
            score = shop.recommender.model.kind_head(
                torch.from_numpy(categories.features), torch.from_numpy(categories.code)
            )
            of_code = dict(zip(categories.code.tolist(), score.tolist(), strict=True))
            expected = [of_code.get(code, 0.0) for code in data.categories[1:, 0].tolist()]
            np.testing.assert_allclose(found[place].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_repeat_names_its_own_purchases_with_their_number_and_last_date(shop):
    reasons, data = shop.reasons, shop.data
    rows, places = np.nonzero(kind_is(reasons, "repeat"))
    assert len(rows) > 20
    for row, place in zip(rows[:40], places[:40], strict=True):
        own = slice(data.offsets[row], data.offsets[row + 1])
        days = data.day[own][data.item[own] == reasons.item[row, place]]
        assert reasons.past_item[row, place].tolist() == [reasons.item[row, place], 0, 0]
        assert (reasons.count[row, place], reasons.past_day[row, place, 0]) == (len(days), days.max())
        assert 0 <= reasons.share[row, place, 0] <= 1


def test_the_share_of_a_past_item_is_what_a_history_without_it_loses(shop):
    reasons = shop.reasons
    with torch.inference_mode():
        whole, _ = shop.recommender.logits(shop.history, np.arange(N_USERS))
    new_rows, new_places = np.nonzero((reasons.count == 0) & (reasons.past_item[..., 0] > 0))
    for row, place in list(zip(new_rows, new_places, strict=True))[::60]:
        own = np.unique(shop.data.item[shop.data.offsets[row] : shop.data.offsets[row + 1]])
        item = reasons.item[row, place]
        lost = [float(whole[row, item]) - scores_without(shop, row, past, f"l{row}-{past}")[item] for past in own]
        gain = np.maximum(lost, 0)
        best = np.argsort(-gain, kind="stable")[:N_NAMED]
        named = gain[best] >= gain.max() / 3
        assert reasons.past_item[row, place].tolist() == np.where(named, own[best], 0).tolist()
        np.testing.assert_allclose(reasons.share[row, place], named * gain[best] / gain.sum(), atol=2e-3)


@pytest.mark.parametrize("kind", ["repeat", "new"])
def test_without_the_named_purchase_the_score_falls_more_than_without_another(shop, kind):
    reasons, random = shop.reasons, np.random.default_rng(0)
    is_kind = (reasons.count > 0) if kind == "repeat" else (reasons.count == 0)
    with torch.inference_mode():
        whole, _ = shop.recommender.logits(shop.history, np.arange(N_USERS))
    falls = []
    for row in range(0, N_USERS, 6):
        places = np.flatnonzero(is_kind[row] & (reasons.past_item[row, :, 0] > 0))
        if not len(places):
            continue
        item, named = int(reasons.item[row, places[0]]), int(reasons.past_item[row, places[0], 0])
        own = np.unique(shop.data.item[shop.data.offsets[row] : shop.data.offsets[row + 1]])
        other = int(random.choice(own[(own != named) & (own != item)]))
        score = float(whole[row, item])
        falls.append([score - scores_without(shop, row, past, f"{kind}{row}-{past}")[item] for past in (named, other)])
    named_fall, other_fall = np.mean(falls, axis=0)
    assert len(falls) >= 15
    assert named_fall > max(2 * other_fall, 0.1)


def test_the_purchase_named_is_the_planted_cause(shop):
    """The truth is in the data, not in the model: whoever bought c will buy c + 8."""
    reasons = shop.reasons
    is_effect = (reasons.count == 0) & (reasons.item > N_PAIRS) & (reasons.item <= 2 * N_PAIRS)
    rows, places = np.nonzero(is_effect)
    causes = reasons.item[rows, places] - N_PAIRS
    own = [set(shop.data.item[shop.data.offsets[row] : shop.data.offsets[row + 1]].tolist()) for row in rows]
    has_cause = np.array([cause in items for cause, items in zip(causes, own, strict=True)])
    named = reasons.past_item[rows, places, 0]
    assert has_cause.sum() > 60
    assert (named == causes)[has_cause].mean() > 0.8


def test_reasons_do_not_depend_on_company_nor_on_what_else_is_listed(shop):
    alone = explain(shop.recommender, shop.history, np.array([7], dtype=np.int32), shop.lists.item[7:8, 2:4], chunk=1)
    together = shop.reasons
    assert np.array_equal(alone.past_item[0], together.past_item[7, 2:4])
    assert np.array_equal(alone.kind[0], together.kind[7, 2:4])
    np.testing.assert_allclose(alone.share[0], together.share[7, 2:4], atol=1e-4)


def test_the_purchases_tried_first_hold_the_one_that_matters_most(shop, monkeypatch):
    monkeypatch.setattr(reasons_module, "MOST_LEFT_OUT", 4)
    fewer = explain(shop.recommender, shop.history, np.arange(N_USERS, dtype=np.int32), shop.lists.item[:, :2])
    new = shop.reasons.count[:, :2] == 0
    same = fewer.past_item[..., 0] == shop.reasons.past_item[:, :2, 0]
    assert same[new].mean() > 0.8


def test_the_first_kind_that_holds_is_the_kind(shop):
    reasons, groups = shop.reasons, shop.data.groups
    shares_group = (groups[reasons.past_item] == groups[reasons.item][..., None]) & (reasons.past_item > 0)
    new, rising = reasons.count == 0, kind_is(reasons, "rising")
    assert not (rising & ~new).any()
    assert np.array_equal(kind_is(reasons, "variant"), new & ~rising & shares_group.any(-1))
    named = reasons.past_item[..., 0] > 0
    assert np.array_equal(kind_is(reasons, "often_after"), new & ~rising & ~shares_group.any(-1) & named)
    assert np.array_equal(kind_is(reasons, "popular"), new & ~rising & ~named)


def test_what_the_sales_head_alone_raises_is_on_the_rise_only_if_it_sells_more(shop):
    model = shop.recommender.model
    head = model.sales_head.mlp
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        head[0].weight.zero_()
        head[0].weight[:, 3] = 1.0  # the trend, and nothing else
        head[0].bias.zero_()
        head[2].weight.fill_(50.0)
    reasons = explain(shop.recommender, shop.history, np.arange(3), everything(3))
    model.load_state_dict(before)
    sales = shop.recommender.sales
    sells_more = sales.sold(DAY - 7, DAY) > sales.sold(DAY - 28, DAY) / 4
    rising = kind_is(reasons, "rising")
    assert rising.any()
    assert not (rising & ~sells_more[everything(3)]).any()
    assert not (rising & (reasons.count > 0)).any()


def test_a_customer_without_a_history_has_no_purchase_to_name(shop):
    nobody = np.array([N_USERS], dtype=np.int32)
    reasons = explain(shop.recommender, shop.history, nobody, shop.lists.item[:1])
    assert kind_is(reasons, "popular").all()
    assert not reasons.past_item.any()
    (texts,) = ReasonTexts(shop.data, shop.recommender.sales, DAY).of(reasons)
    assert set(texts) == {"nothing is known of the customer: a best seller of the week"}


@pytest.mark.parametrize(
    ("kinds_sell", "expected"), [(True, "not sold yet: others of its kind sell well"), (False, "not sold yet")]
)
def test_what_never_sold_is_not_said_to_sell(shop, kinds_sell, expected):
    nobody = np.array([N_USERS], dtype=np.int32)
    reasons = explain(shop.recommender, shop.history, nobody, shop.lists.item[:1, :2])
    texts = ReasonTexts(shop.data, shop.recommender.sales, DAY)
    item = shop.lists.item[0, 0]
    texts._never_sold[item], texts._kinds_sell[item] = True, kinds_sell
    assert texts.of(reasons) == [[expected, "nothing is known of the customer: a best seller of the week"]]


def test_reasons_read_as_sentences_with_the_names_of_the_items(shop):
    texts = say_reasons(shop.recommender, shop.history, np.arange(N_USERS, dtype=np.int32), shop.lists.item)
    by_kind = {}
    for categories, row in zip(shop.reasons.kind, texts, strict=True):
        for kind, text in zip(categories, row, strict=True):
            by_kind.setdefault(REASON_KINDS[kind], []).append(text)
    assert "bought 7 times, last on 20 Jun 2019" in by_kind["repeat"]
    assert all(text.startswith("another ") and ", after Thing " in text for text in by_kind["variant"])
    assert all(text.startswith("often after Thing ") and " 2019)" in text for text in by_kind["often_after"])


@pytest.fixture(scope="module")
def undated(shop):
    """The same purchases, asked for the last one of each customer: neighbours stand for all heads."""
    torch.manual_seed(0)
    config = Config.model_validate({"split": {"protocol": "leave_one_out"}, "model": {"width": 32, "n_layers": 1}})
    data = write_prepared(
        shop.folder / "undated", planted_events(), items=ITEMS, n_items=N_ITEMS, users=shop.users[:N_USERS]
    )
    module = build_module(config, data)
    split = module.batches.split
    history = History(data, split.tests[0].history_end, split.tests[0].start_day)
    return DecoderRecommender(module.model.eval(), ItemSales(data)), history


def test_without_a_date_what_neighbours_give_is_a_term_and_all_terms_add_up_to_the_score(undated):
    recommender, history = undated
    asked = np.arange(N_USERS, dtype=np.int32)
    lists = recommender.recommend(history, asked, K, Candidates(all_items(N_ITEMS)))
    reasons = explain(recommender, history, asked, lists.item)
    np.testing.assert_allclose(reasons.terms.sum(-1), lists.score, rtol=1e-4, atol=1e-4)
    given = reasons.terms[..., TERMS.index("co_purchase head")]
    assert np.unique(given).size > N_USERS
    recommender.model.neighbour_head.multiply(0)
    without = explain(recommender, history, asked, lists.item)
    recommender.model.neighbour_head.weight.fill_(1)
    np.testing.assert_allclose((reasons.terms - without.terms).sum(-1), given, rtol=1e-4, atol=1e-4)


def test_without_a_date_the_purchase_named_is_the_one_that_neighbours_were_asked_of(undated):
    untouched, history = undated
    recommender = DecoderRecommender(copy.deepcopy(untouched.model), untouched.sales)
    with torch.no_grad():
        for weight in recommender.model.items.parameters():
            weight.zero_()  # the decoder says nothing
    asked = np.arange(30, dtype=np.int32)
    lists = recommender.recommend(history, asked, 3, Candidates(all_items(N_ITEMS), exclude_seen=True))
    reasons = explain(recommender, history, asked, lists.item)
    head = recommender.model.neighbour_head
    right = []
    for user in asked:
        own = slice(history.data.offsets[user], history.end[user])
        last = dict(zip(history.data.item[own].tolist(), history.data.day[own].tolist(), strict=True))
        past_P = torch.tensor(sorted(last))
        age_P = torch.tensor([float(history.day - last[int(item)]) for item in past_P])
        losses = []
        for left in range(len(past_P)):
            kept = torch.arange(len(past_P)) != left
            kept_P = past_P[kept]
            _, item_C, score_C = head(torch.zeros(len(kept_P), dtype=torch.int64), kept_P, age_P[kept])
            losses.append(float(score_C[item_C == int(lists.item[user, 0])].sum()))
        if len(past_P) > 1:
            right.append(int(past_P[int(np.argmin(losses))]) == int(reasons.past_item[user, 0, 0]))
    assert np.mean(right) > 0.8, right
    texts = say_reasons(recommender, history, asked, lists.item)
    assert any(text.startswith("goes with ") for row in texts for text in row)
    assert not any("often after" in text for row in texts for text in row)
