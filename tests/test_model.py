"""The model keeps its promises: causal, blind to padding and to the future, and able to learn."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from toy import toy_data, write_prepared

from recsys.config import Config, ModelConfig, SplitConfig, TrainingConfig
from recsys.modeling.decoder.inputs import Sequences, newest_events
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender, build_purchase_model
from recsys.modeling.train import build_module
from recsys.modeling.training.module import PurchaseModule
from recsys.signals.history import CATEGORY_FEATURES
from recsys.signals.sales import ItemSales

SMALL = ModelConfig(width=16, n_layers=2, n_heads=2, max_length=12, dropout=0.0)


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=30, n_items=25, n_days=70, seed=5)


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    return PurchaseModel(SMALL, torch.from_numpy(data.attributes), torch.from_numpy(data.categories)).eval()


def some_sequences(n_rows=3, length=10, n_items=25):
    random = torch.Generator().manual_seed(1)
    items = torch.randint(1, n_items + 1, (n_rows, length), generator=random)
    gaps = torch.randint(0, 20, (n_rows, length), generator=random)
    return Sequences(items, gaps, torch.zeros(n_rows, 0))


def recommend(model, data, day, users=None, **options):
    history = History(data, data.ends_before(day), day)
    users = np.arange(data.n_users, dtype=np.int32) if users is None else users
    candidates = Candidates(all_items(data.n_items), **options)
    return DecoderRecommender(model, ItemSales(data), chunk=7).recommend(history, users, 5, candidates)


def test_a_state_does_not_depend_on_later_events_by_gradient(model):
    sequences = some_sequences()
    vectors = model.items(sequences.item_BT).detach().requires_grad_()
    states = model.decoder(vectors, sequences.gap_days_BT)
    for position in range(states.shape[1]):
        (gradient,) = torch.autograd.grad(states[:, position].square().sum(), vectors, retain_graph=True)
        assert gradient[:, position + 1 :].abs().max().item() == 0 if position + 1 < states.shape[1] else True
        assert gradient[:, : position + 1].abs().amax((0, 2)).min() > 0


def test_padding_on_the_right_changes_nothing(model):
    sequences = some_sequences(length=8)
    item_BT, gap_BT = (torch.nn.functional.pad(part, (0, 3)) for part in (sequences.item_BT, sequences.gap_days_BT))
    padded = Sequences(item_BT, gap_BT, sequences.customer_BC)
    torch.testing.assert_close(model.states(padded)[:, :8], model.states(sequences))


def test_a_customer_is_answered_alike_alone_and_in_company(model, data):
    together = recommend(model, data, 18_050)
    for user in (0, 7, 29):
        alone = recommend(model, data, 18_050, np.array([user], dtype=np.int32))
        assert np.array_equal(alone.item[0], together.item[user])
        np.testing.assert_allclose(alone.score[0], together.score[user], rtol=1e-4)


def test_nothing_after_the_date_changes_an_answer(model, data, tmp_path):
    day = 18_050
    before = recommend(model, data, day)
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1).astype(np.int64)
    later = events[:, 1] >= day
    events[later, 2] = np.random.default_rng(9).integers(1, data.n_items + 1, later.sum())
    events[later, 1] += np.random.default_rng(8).integers(0, 9, later.sum())
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=25, users=[f"u{n}" for n in range(30)])
    after = recommend(model, corrupted, day)
    assert np.array_equal(before.item, after.item)
    assert np.array_equal(before.score, after.score)


def test_the_date_asked_matters(model, data):
    assert not np.allclose(recommend(model, data, 18_050).score, recommend(model, data, 18_060).score)


def test_lists_hold_distinct_allowed_items_best_first(model, data):
    lists = recommend(model, data, 18_050)
    assert all(len(set(row)) == 5 for row in lists.item.tolist())
    assert lists.item.min() >= 1
    assert (np.diff(lists.score, axis=1) <= 0).all()


def test_seen_items_are_left_out_when_asked(model, data):
    lists = recommend(model, data, 18_050, exclude_seen=True)
    end = data.ends_before(18_050)
    for user in range(data.n_users):
        assert not set(lists.item[user].tolist()) & set(data.item[data.offsets[user] : end[user]].tolist())


def test_a_past_item_is_scored_by_the_repeat_head_and_no_other_is(model, data):
    day = 18_050
    history = History(data, data.ends_before(day), day)
    recommender = DecoderRecommender(model, ItemSales(data))
    with torch.inference_mode():
        logits, queries = recommender.logits(history, np.arange(30))
        model.repeat_head.out.bias += 1
        raised, _ = recommender.logits(history, np.arange(30))
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[queries.past_query_P, queries.past_item_P] = True
    torch.testing.assert_close(raised[own], logits[own] + 1)
    torch.testing.assert_close(raised[~own], logits[~own])


#: Items of three or four a kind by each of two columns, some of none by the first.
KIND_ITEMS = pa.table(
    {
        "item_id": [f"{number:010d}" for number in range(1, 41)],
        "brand": [None if number % 9 == 0 else f"b{number % 12}" for number in range(1, 41)],
        "made_of": [f"m{number // 4}" for number in range(1, 41)],
    }
)


@pytest.fixture
def with_kinds(tmp_path):
    """Data whose items have two categories each, and a model whose kind head has weights that tell."""
    toy = toy_data(tmp_path, n_users=30, n_items=40, n_days=70, seed=5)
    events = np.stack([toy.user_of_event(), toy.day, toy.item], axis=1)
    users = [f"u{number}" for number in range(30)]
    data = write_prepared(tmp_path / "categories", events, items=KIND_ITEMS, n_items=40, users=users)
    assert data.categories.shape == (41, 2)
    torch.manual_seed(0)
    model = PurchaseModel(SMALL, torch.from_numpy(data.attributes), torch.from_numpy(data.categories)).eval()
    with torch.no_grad():
        for weight in (model.kind_head.out.weight, model.kind_head.code.weight, model.item_bias):
            weight.normal_()
    return data, model


def asked_at(data, model, day):
    users = np.arange(data.n_users)
    sequences, queries = newest_events(data, users, data.ends_before(day), np.full(len(users), day), SMALL)
    return model.query(model.states(sequences), queries), queries


def test_the_kind_head_gives_an_item_the_sum_over_its_kinds_of_what_was_bought_of_them(with_kinds):
    data, model = with_kinds
    with torch.inference_mode():
        query_QD, queries = asked_at(data, model, 18_050)
        with_head = model.catalogue_logits(query_QD, queries, ItemSales(data))
        score_R = model.kind_head(queries.category_features_RF, queries.category_code_R).tolist()
        model.kind_head = None
        without = model.catalogue_logits(query_QD, queries, ItemSales(data))
    of_kind = dict(
        zip(zip(queries.category_query_R.tolist(), queries.category_code_R.tolist(), strict=True), score_R, strict=True)
    )
    past = set(zip(queries.past_query_P.tolist(), queries.past_item_P.tolist(), strict=True))
    given = (with_head - without).tolist()
    for query in range(30):
        for item in range(1, 41):
            # A past item has one score, the repeat head's.
            categories = [] if (query, item) in past else data.categories[item].tolist()
            expected = sum(of_kind.get((query, code), 0.0) for code in categories)
            assert given[query][item] == pytest.approx(expected, abs=1e-4)


def test_logits_of_pairs_and_of_shared_items_are_those_of_the_catalogue_for_new_items(with_kinds):
    data, model = with_kinds
    sales, item_N = ItemSales(data), torch.tensor([3, 9, 9, 17, 40, 1])
    with torch.inference_mode():
        query_QD, queries = asked_at(data, model, 18_050)
        whole = model.catalogue_logits(query_QD, queries, sales)
        given = model.given(queries)
        shared = model.shared_logits(query_QD, queries, item_N, sales, given)
        new = torch.isfinite(whole)
        new[queries.past_query_P, queries.past_item_P] = False
        query_P, item_P = torch.nonzero(new, as_tuple=True)
        pairs = model.pair_logits(query_QD, queries, query_P, item_P, sales, given)
    torch.testing.assert_close(pairs, whole[query_P, item_P])
    torch.testing.assert_close(shared[new[:, item_N]], whole[:, item_N][new[:, item_N]])
    assert given.categories.of_items(model.categories_VC).abs().max() > 0.1
    assert given.co_purchases.score_C.abs().max() > 0.1


def test_questions_that_are_taken_keep_their_past_items_and_kinds(with_kinds):
    data, model = with_kinds
    with torch.inference_mode():
        query_QD, queries = asked_at(data, model, 18_050)
        chosen = torch.tensor([4, 29, 4, 0])
        taken = queries.take(chosen)
        whole = model.catalogue_logits(query_QD, queries, ItemSales(data))
        of_taken = model.catalogue_logits(query_QD[chosen], taken, ItemSales(data))
    torch.testing.assert_close(of_taken, whole[chosen])
    for place, query in enumerate(chosen.tolist()):
        mine, was = taken.category_query_R == place, queries.category_query_R == query
        assert was.any()
        assert torch.equal(taken.category_code_R[mine], queries.category_code_R[was])
        assert torch.equal(taken.category_features_RF[mine], queries.category_features_RF[was])


def test_a_companion_head_gives_the_items_that_go_with_past_ones_its_scores_and_the_others_nothing(with_kinds):
    data, model = with_kinds
    with torch.inference_mode():
        query_QD, queries = asked_at(data, model, 18_050)
        with_head = model.catalogue_logits(query_QD, queries, ItemSales(data))
        score_C = model.companion_head(queries.co_purchase_features_CF)
        model.companion_head = None
        expected = model.catalogue_logits(query_QD, queries, ItemSales(data))
        expected[queries.co_purchase_query_C, queries.co_purchase_item_C] += score_C
        past = queries.past_query_P, queries.past_item_P
        expected[past] = with_head[past]  # a past item has one score, the repeat head's
    torch.testing.assert_close(with_head, expected)
    assert len(score_C) > 30


def test_a_model_without_a_companion_head_asks_for_no_companions(with_kinds):
    data, _ = with_kinds
    users, day = np.arange(30), np.full(30, 18_050)
    asked = [
        newest_events(data, users, data.ends_before(18_050), day, SMALL.model_copy(update={"companion_head": has}))[1]
        for has in (True, False)
    ]
    assert len(asked[0].co_purchase_query_C) > 30
    assert len(asked[1].co_purchase_query_C) == 0


def test_a_kind_head_that_has_learned_nothing_gives_an_item_half_the_lift_of_its_finest_kind(with_kinds):
    data, _ = with_kinds
    fresh = PurchaseModel(SMALL, torch.from_numpy(data.attributes), torch.from_numpy(data.categories))
    with torch.inference_mode():
        _, queries = asked_at(data, fresh, 18_050)
        given_QV = fresh.kind_scores(queries).of_items(fresh.categories_VC)
    expected_QV = torch.zeros_like(given_QV)
    lift_R = queries.category_features_RF[:, CATEGORY_FEATURES.index("lift")]
    for query, code, lift in zip(queries.category_query_R, queries.category_code_R, lift_R, strict=True):
        expected_QV[query] += lift / 2 * (fresh.categories_VC[:, 0] == code)
    torch.testing.assert_close(given_QV, expected_QV)


def test_the_sales_head_reads_kinds_where_there_are_some_and_the_kind_head_is_on(with_kinds, tmp_path):
    data, model = with_kinds
    assert model.sales_head.of_kinds == 0.5
    blind = build_purchase_model(SMALL.model_copy(update={"kind_head": False}), data)
    assert blind.sales_head.of_kinds is None
    undescribed = toy_data(tmp_path / "plain", n_users=3, n_items=8, n_days=30, seed=0)
    assert build_purchase_model(SMALL, undescribed).sales_head.of_kinds is None


def module_for(data, model=SMALL, **training):
    config = Config(model=model, split=SplitConfig(n_folds=1), training=TrainingConfig(batch_tokens=256, **training))
    return build_module(config, data)


def train_steps(module: PurchaseModule, n_epochs: int, lr: float = 0.01) -> list[float]:
    module.log = lambda *_, **__: None
    optimizer = torch.optim.Adam(module.model.parameters(), lr=lr)
    losses = []
    for epoch in range(n_epochs):
        module.batches.epoch = epoch
        epoch_losses = []
        for batch in module.batches:
            optimizer.zero_grad()
            loss = module.training_step(batch)
            loss.backward()
            optimizer.step()
            epoch_losses.append(loss.item())
        losses.append(float(np.mean(epoch_losses)))
    return losses


@pytest.mark.parametrize("window", [None, 4])
def test_a_decoder_is_causal_and_learns_with_any_window(data, window):
    module = module_for(data, SMALL.model_copy(update={"attention_window": window}))
    sequences, decoder = some_sequences(), module.model.decoder
    vectors = module.model.items(sequences.item_BT).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(vectors, sequences.gap_days_BT)[:, 4].square().sum(), vectors)
    assert not gradient[:, 5:].any()
    assert gradient[:, 1:5].abs().amax((0, 2)).min() > 0
    losses = train_steps(module, 14)
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_the_loss_falls_from_that_of_a_guess(data, loss):
    losses = train_steps(module_for(data, loss=loss, n_negatives=64), 14)
    assert losses[-1] < 0.85 * losses[0]


def window_losses(module: PurchaseModule, batch) -> torch.Tensor:
    with torch.no_grad():
        asked, _ = module.asked_losses(module.model.states(batch.sequences), batch)
    return torch.stack([asked.joint, asked.repeats, asked.discoveries])


class EveryItemOnce:
    """Draws each item of the catalogue exactly once, and says so."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def sample(self, n_negatives: int) -> torch.Tensor:
        assert n_negatives == self.n_items
        return torch.arange(1, self.n_items + 1)

    def log_q(self, items: torch.Tensor) -> torch.Tensor:
        return torch.full(items.shape, -np.log(self.n_items))


def test_the_sampled_window_loss_of_every_item_once_is_the_whole_one_and_of_many_draws_tends_to_it(data):
    module = module_for(data, loss="full")
    train_steps(module, 3)  # logits that differ
    batch = max(module.batches, key=lambda batch: len(batch.queries.row_Q))
    whole = window_losses(module, batch)

    def sampled(n_window_negatives: int) -> torch.Tensor:
        module.n_window_negatives, module.loss = n_window_negatives, "sampled"
        return window_losses(module, batch)

    drawn = module.sampler
    module.sampler = EveryItemOnce(25)
    torch.testing.assert_close(sampled(25), whole, rtol=1e-5, atol=1e-5)
    module.sampler = drawn
    torch.manual_seed(1)
    errors = [(torch.stack([sampled(n) for _ in range(20)]) - whole).abs().mean(0) for n in (20, 20_000)]
    assert (errors[1][[0, 2]] < errors[0][[0, 2]] / 10).all()  # a thousand times as many draws: a thirtieth, about
    assert errors[1].max() < 0.02
    assert errors[1][1] < 1e-5  # what was bought before enters exactly


#: Items of the toy data that nobody buys.
UNSOLD = (1, 7, 9, 24)


def described(tmp_path):
    """Toy data whose items are described by three columns, the last one of categories, without a sale of ``UNSOLD``."""
    items = pa.table(
        {
            "item_id": [f"{number:010d}" for number in range(1, 26)],
            "made_of": ["clay", "glass", "steel", "clay", "glass"] * 5,
            "for": ["tea", "wine"] * 12 + ["tea"],
            "set": [f"s{n // 3 if n < 15 else n // 2}" for n in range(25)],
        }
    )
    data = toy_data(tmp_path, n_users=30, n_items=25, n_days=70, seed=5)
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1).astype(np.int64)
    events = events[~np.isin(events[:, 2], UNSOLD)]
    return write_prepared(tmp_path / "described", events, n_items=25, users=[f"u{n}" for n in range(30)], items=items)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_nothing_but_its_attributes_and_the_mean_bias_is_said_of_an_item_without_a_sale(tmp_path, loss):
    module = module_for(described(tmp_path), loss=loss, n_negatives=64)
    model = module.model
    sold_V = torch.ones(26, dtype=torch.bool)
    sold_V[[0, *UNSOLD]] = False
    train_steps(module, 2)
    model.tie_cold_item_bias()
    assert not model.items.own.weight[list(UNSOLD)].any()
    assert model.items.own.weight[:26][sold_V].abs().amax(1).min() > 0
    biases = model.item_bias[list(UNSOLD)]
    torch.testing.assert_close(biases, model.item_bias[sold_V].mean().expand(len(UNSOLD)))
    assert model.item_bias[sold_V].std() > 0
    model.eval()
    told_UA = model.items.attributes_NA[list(UNSOLD)]
    same = model.items.attribute(told_UA) / told_UA.shape[1]
    torch.testing.assert_close(model.item_vectors_VD[list(UNSOLD)], same)


def test_an_item_without_a_sale_teaches_the_sales_head_alone(tmp_path):
    module = module_for(described(tmp_path))
    model, batch = module.model, max(module.batches, key=lambda batch: len(batch.queries.row_Q))
    queries, unsold_N = batch.queries, torch.tensor(UNSOLD)

    def taught_by(logits_of) -> set[str]:
        module.zero_grad()
        query_QD = model.query(model.states(batch.sequences), queries)
        logits_of(query_QD).sum().backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    torch.nn.init.normal_(model.sales_head.mlp[-1].weight)  # begins at 0, through which nothing before it learns
    assert model.sales_head.of_kinds is not None
    head = {name for name, _ in model.named_parameters() if name.startswith("sales_head")}
    assert taught_by(lambda query: model.catalogue_logits(query, queries, module.sales)[:, unsold_N]) == head

    def shared(item_N: torch.Tensor):
        return lambda query: model.shared_logits(query, queries, item_N, module.sales, model.given(queries))

    assert taught_by(shared(unsold_N)) == head
    sold = taught_by(shared(unsold_N + 1))
    assert sold > {"item_bias", "items.own.weight", "items.attribute.weight", "decoder.norm.weight"}


def test_a_saved_run_places_an_item_without_a_sale_as_it_did(tmp_path):
    data = described(tmp_path)
    module = module_for(data)
    train_steps(module, 1)
    module.model.tie_cold_item_bias()
    again = PurchaseModel(SMALL, torch.from_numpy(data.attributes), torch.from_numpy(data.categories))
    again.load_state_dict(module.model.state_dict())
    lists = [recommend(model, data, 18_050) for model in (module.model, again)]
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)


def test_it_overfits_ten_customers(tmp_path):
    # Each customer cycles through three own items, one a day: after the first lap everything is determined.
    events = [(user, 18_000 + day, 1 + 3 * user + day % 3) for user in range(10) for day in range(40)]
    data = write_prepared(tmp_path / "ten", events, n_items=30)
    module = module_for(data, loss="full", query_windows=0)
    losses = train_steps(module, 120)
    assert losses[0] > 2
    assert losses[-1] < 0.3


def test_training_reads_nothing_from_the_validation_window_on(data, tmp_path):
    split_day = module_for(data).batches.split.train_day
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1).astype(np.int64)
    later = events[:, 1] >= split_day
    events[later, 2] = np.random.default_rng(2).integers(1, 26, later.sum())
    corrupted = write_prepared(tmp_path / "later", events, n_items=25, users=[f"u{n}" for n in range(30)])
    weights = []
    for version in (data, corrupted):
        module = module_for(version)
        torch.manual_seed(0)
        train_steps(module, 1)
        weights.append(torch.nn.utils.parameters_to_vector(module.model.parameters()))
    assert torch.equal(*weights)


def test_an_untrained_model_gives_past_items_and_the_catalogue_an_even_chance(data):
    config = Config(model=SMALL, split=SplitConfig(n_folds=1), training=TrainingConfig(query_windows=4))
    module = build_module(config, data)
    day = module.batches.split.train_day
    users = np.flatnonzero(data.ends_before(day) > data.offsets[:-1]).astype(np.int32)
    recommender = DecoderRecommender(module.model.eval(), module.sales)
    with torch.inference_mode():
        logits_QV, queries = recommender.logits(History(data, data.ends_before(day), day), users)
    probability_QV = logits_QV.softmax(-1)
    repeats = probability_QV[queries.past_query_P, queries.past_item_P].sum() / len(users)
    assert 0.3 < float(repeats) < 0.7
