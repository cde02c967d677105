"""The model keeps its promises: causal, blind to padding and to the future, and able to learn."""

import narwhals as nw
import numpy as np
import pyarrow as pa
import pytest
import torch
from toy import events_of, taken_of, toy_data, write_prepared

from recsys.config import Config, ModelConfig, SplitConfig, TrainingConfig
from recsys.errors import ConfigError
from recsys.modeling.build import build_module
from recsys.modeling.decoder.inputs import SequenceTensors
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.decoder.weights import load_weights, save_weights
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.training.module import PurchaseModule
from recsys.signals.categories import CATEGORY_FEATURES
from recsys.signals.item_codes import ItemCodes
from recsys.signals.snapshot import Snapshot, Snapshots

SMALL = ModelConfig(width=16, n_layers=2, n_heads=2, max_length=12, dropout=0.0)


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=30, n_items=25, n_days=70, seed=5)


def model_of(log, config=SMALL, **options):
    return PurchaseModel(config, ItemCodes.from_items(log.items), has_dates=True, **options)


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    return model_of(data).eval()


def some_sequences(n_rows=3, length=10, n_items=25):
    random = torch.Generator().manual_seed(1)
    items = torch.randint(1, n_items + 1, (n_rows, length), generator=random)
    gaps = torch.randint(0, 20, (n_rows, length), generator=random)
    return SequenceTensors(items, gaps, torch.zeros(n_rows, 0))


def recommend(model, data, day, users=slice(None), **options):
    candidates = Candidates(all_items(data.n_items), **options)
    return DecoderRecommender(model, Snapshots(data), chunk=7).recommend(data.histories(day).of(users), 5, candidates)


def test_a_state_does_not_depend_on_later_events_by_gradient(model):
    sequences = some_sequences()
    vectors = model.item_tower(sequences.item_BT).detach().requires_grad_()
    states = model.decoder(vectors, sequences.gap_days_BT)
    for position in range(states.shape[1]):
        (gradient,) = torch.autograd.grad(states[:, position].square().sum(), vectors, retain_graph=True)
        assert gradient[:, position + 1 :].abs().max().item() == 0 if position + 1 < states.shape[1] else True
        assert gradient[:, : position + 1].abs().amax((0, 2)).min() > 0


def test_padding_on_the_right_changes_nothing(model):
    sequences = some_sequences(length=8)
    item_BT, gap_BT = (torch.nn.functional.pad(part, (0, 3)) for part in (sequences.item_BT, sequences.gap_days_BT))
    padded = SequenceTensors(item_BT, gap_BT, sequences.user_codes_BK)
    torch.testing.assert_close(model.states(padded)[:, :8], model.states(sequences))


def test_a_customer_is_answered_alike_alone_and_in_company(model, data):
    together = recommend(model, data, 18_050)
    for user in (0, 7, 29):
        alone = recommend(model, data, 18_050, np.array([user]))
        assert np.array_equal(alone.item[0], together.item[user])
        np.testing.assert_allclose(alone.score[0], together.score[user], rtol=1e-4)


def test_nothing_after_the_date_changes_an_answer(model, data, tmp_path):
    day = 18_050
    before = recommend(model, data, day)
    events = events_of(data)
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


def test_a_past_item_is_scored_by_its_own_component_and_no_other_item_is(model, data):
    with torch.inference_mode():
        query_QD, queries = read_at(data, model, 18_050)
        logits = model.catalogue_logits(query_QD, queries)
        model.past_items.net.out.bias += 1
        raised = model.catalogue_logits(query_QD, queries)
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[queries.past_query_P, queries.past_item_P] = True
    torch.testing.assert_close(raised[own], logits[own] + 1)
    torch.testing.assert_close(raised[~own], logits[~own])


#: Items of three or four a category by each of two columns, some of none by the first.
CATEGORY_ITEMS = pa.table(
    {
        "item_id": [f"{number:010d}" for number in range(1, 41)],
        "brand": [None if number % 9 == 0 else f"b{number % 12}" for number in range(1, 41)],
        "made_of": [f"m{number // 4}" for number in range(1, 41)],
    }
)


@pytest.fixture
def with_categories(tmp_path):
    """Data whose items have two categories each, and a model whose categories have weights that matter."""
    toy = toy_data(tmp_path, n_users=30, n_items=40, n_days=70, seed=5)
    users = [f"u{number}" for number in range(30)]
    data = write_prepared(tmp_path / "categories", events_of(toy), items=CATEGORY_ITEMS, n_items=40, users=users)
    torch.manual_seed(0)
    model = model_of(data).eval()
    assert model.codes.categories.shape == (41, 2)
    net = model.components["categories"].net
    with torch.no_grad():
        for weight in (net.out.weight, net.context.weight, model.item_bias):
            weight.normal_()
    return data, model


def read_at(data, model, day):
    """Return the query vectors and the queries of all users at ``day``."""
    reading = DecoderRecommender(model, Snapshots(data)).read(data.histories(day))
    return reading.query_QD, reading.queries


def test_categories_give_an_item_the_sum_over_its_own_of_what_was_bought_of_them(with_categories):
    data, model = with_categories
    with torch.inference_mode():
        query_QD, queries = read_at(data, model, 18_050)
        whole = model.catalogue_logits(query_QD, queries)
        net, code_R = model.components["categories"].net, queries.category_code_R
        rule_R = model.components["categories"].is_finest[code_R]
        context = net.context(code_R), torch.arange(len(code_R))
        score_R = net(queries.category_features_RF, context, rule_R).tolist()
        del model.components["categories"]
        without = model.catalogue_logits(query_QD, queries)
    of_category = dict(
        zip(zip(queries.category_query_R.tolist(), queries.category_code_R.tolist(), strict=True), score_R, strict=True)
    )
    past = set(zip(queries.past_query_P.tolist(), queries.past_item_P.tolist(), strict=True))
    given = (whole - without).tolist()
    for query in range(30):
        for item in range(1, 41):
            # A past item has one score, that of its own component.
            categories = [] if (query, item) in past else model.codes.categories[item].tolist()
            expected = sum(of_category.get((query, code), 0.0) for code in categories)
            assert given[query][item] == pytest.approx(expected, abs=1e-4)


def test_logits_of_pairs_and_of_shared_items_are_those_of_the_catalogue_for_new_items(with_categories):
    data, model = with_categories
    item_N = torch.tensor([3, 9, 9, 17, 40, 1])
    with torch.inference_mode():
        query_QD, queries = read_at(data, model, 18_050)
        whole = model.catalogue_logits(query_QD, queries)
        terms = model.terms(query_QD, queries)
        shared = model.shared_logits(terms, item_N)
        new = torch.isfinite(whole)
        new[queries.past_query_P, queries.past_item_P] = False
        query_P, item_P = torch.nonzero(new, as_tuple=True)
        pairs = model.pair_logits(terms, query_P, item_P)
    torch.testing.assert_close(pairs, whole[query_P, item_P])
    torch.testing.assert_close(shared[new[:, item_N]], whole[:, item_N][new[:, item_N]])
    assert terms.keys() == {"sequence", "categories", "co_purchases", "sales"}
    assert terms["categories"].of_items(torch.arange(41)).abs().max() > 0.1
    assert terms["co_purchases"].score_C.abs().max() > 0.1


def test_each_form_of_scores_gives_the_same_numbers(with_categories):
    """Products, days, categories and pairs: the catalogue, some items, single pairs, and the mean."""
    data, model = with_categories
    item_N = torch.tensor([5, 40, 5, 12])
    with torch.inference_mode():
        query_QD, queries = read_at(data, model, 18_050)
        for name, scores in model.terms(query_QD, queries).items():
            whole = scores.add_to(torch.zeros(30, 41))
            some = scores.of_items(item_N).expand(30, -1)
            query_P, item_P = (part.flatten() for part in torch.meshgrid(torch.arange(30), item_N, indexing="ij"))
            torch.testing.assert_close(some, whole[:, item_N], msg=name)
            torch.testing.assert_close(scores.of_pairs(query_P, item_P).view(30, 4), whole[:, item_N], msg=name)
            torch.testing.assert_close(scores.mean_Q().expand(30), whole[:, 1:].mean(1), msg=name)


def test_queries_that_are_taken_keep_their_past_items_and_categories(with_categories):
    data, model = with_categories
    with torch.inference_mode():
        query_QD, queries = read_at(data, model, 18_050)
        chosen = torch.tensor([4, 29, 4, 0])
        taken = taken_of(queries, chosen)
        whole = model.catalogue_logits(query_QD, queries)
        of_taken = model.catalogue_logits(query_QD[chosen], taken)
    torch.testing.assert_close(of_taken, whole[chosen])
    for place, query in enumerate(chosen.tolist()):
        mine, was = taken.category_query_R == place, queries.category_query_R == query
        assert was.any()
        assert torch.equal(taken.category_code_R[mine], queries.category_code_R[was])
        assert torch.equal(taken.category_features_RF[mine], queries.category_features_RF[was])


def test_co_purchases_give_the_items_bought_together_with_past_ones_their_scores_and_the_others_nothing(
    with_categories,
):
    data, model = with_categories
    with torch.inference_mode():
        query_QD, queries = read_at(data, model, 18_050)
        whole = model.catalogue_logits(query_QD, queries)
        score_C = model.components["co_purchases"].net(queries.co_purchase_features_CF)
        del model.components["co_purchases"]
        expected = model.catalogue_logits(query_QD, queries)
        expected[queries.co_purchase_query_C, queries.co_purchase_item_C] += score_C
        past = queries.past_query_P, queries.past_item_P
        expected[past] = whole[past]  # a past item has one score, that of its own component
    torch.testing.assert_close(whole, expected)
    assert len(score_C) > 30


def test_a_model_without_co_purchases_looks_none_up(with_categories):
    data, model = with_categories
    fewer = model_of(data, SMALL.model_copy(update={"components": ("sequence", "sales")}))
    found = [len(read_at(data, one, 18_050)[1].co_purchase_query_C) for one in (model, fewer)]
    assert found[0] > 30
    assert found[1] == 0


def test_categories_that_have_learned_nothing_give_an_item_half_the_lift_of_its_finest_one(with_categories):
    data, _ = with_categories
    fresh = model_of(data)
    categories_VC = torch.from_numpy(fresh.codes.categories)
    with torch.inference_mode():
        _, queries = read_at(data, fresh, 18_050)
        score_QV = fresh.components["categories"].score(queries).of_items(torch.arange(41))
    expected_QV = torch.zeros_like(score_QV)
    lift_R = queries.category_features_RF[:, CATEGORY_FEATURES.index("lift")]
    for query, code, lift in zip(queries.category_query_R, queries.category_code_R, lift_R, strict=True):
        expected_QV[query] += lift / 2 * (categories_VC[:, 0] == code)
    torch.testing.assert_close(score_QV, expected_QV)


def test_sales_read_categories_where_items_have_some(with_categories, tmp_path):
    _, model = with_categories
    assert model.components["sales"].of_categories == 0.5
    undescribed = model_of(toy_data(tmp_path / "plain", n_users=3, n_items=8, n_days=30, seed=0))
    assert undescribed.components["sales"].of_categories is None
    assert "categories" not in undescribed.components


def test_by_default_a_model_has_the_components_that_fit_the_protocol(with_categories):
    _, model = with_categories
    assert model.term_names == ("sequence", "bias", "categories", "co_purchases", "sales", "past_items")
    undated = PurchaseModel(SMALL, model.codes, has_dates=False)
    assert undated.term_names == ("sequence", "bias", "transitions")
    assert undated.decoder.gap is None  # days between events are not read where there are no dates


@pytest.mark.parametrize(
    ("components", "has_dates", "words"),
    [
        (("sequence", "weather"), True, "names 'weather'; expected some of sequence, sales, past_items"),
        (("sales",), False, "'sales', which looks at a date.*expected some of sequence, transitions"),
        (("transitions",), True, "'transitions', which counts whole histories.*expected some of sequence, sales"),
    ],
)
def test_a_component_that_does_not_exist_or_fit_is_named(data, components, has_dates, words):
    config = SMALL.model_copy(update={"components": components})
    with pytest.raises(ConfigError, match=words):
        PurchaseModel(config, ItemCodes.from_items(data.items), has_dates=has_dates)


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
    vectors = module.model.item_tower(sequences.item_BT).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(vectors, sequences.gap_days_BT)[:, 4].square().sum(), vectors)
    assert not gradient[:, 5:].any()
    assert gradient[:, 1:5].abs().amax((0, 2)).min() > 0
    losses = train_steps(module, 40)
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_the_loss_falls_from_that_of_a_guess(data, loss):
    losses = train_steps(module_for(data, loss=loss, n_negatives=64), 40)
    assert losses[-1] < 0.85 * losses[0]


def query_of(model, batch) -> torch.Tensor:
    """Return query vectors (Q, D), as if all queries of a training batch were about first events of its sequences."""
    state_BD = model.states(batch.sequences)[:, 0]
    state_QD = state_BD[torch.arange(len(batch.queries)) % len(state_BD)]
    return model.decoder.query_at(state_QD, batch.queries.days_until_query_Q)


def window_losses(module: PurchaseModule, batch) -> torch.Tensor:
    with torch.no_grad():
        window, _ = module.window_losses(batch)
    return torch.stack([window.joint, window.repeats, window.discoveries])


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_windows_teach_the_transformer_nothing_and_the_next_item_the_others_nothing_but_the_bias(tmp_path, loss):
    module = module_for(described(tmp_path), loss=loss, n_negatives=64)
    train_steps(module, 1)
    batch = max(module.batches, key=lambda batch: len(batch.queries))

    def taught_by(one: torch.Tensor) -> set[str]:
        module.zero_grad()
        one.backward()
        named = module.model.named_parameters()
        return {name.partition(".")[0] for name, weight in named if weight.grad is not None and weight.grad.any()}

    window, ranking = module.window_losses(batch)
    whole = window.joint + window.repeats + window.discoveries + ranking
    assert taught_by(whole) == {"components", "item_bias"}
    assert taught_by(module.next_item_loss(batch)) == {"decoder", "item_tower", "item_bias"}


class EveryItemOnce:
    """Draws each item of the catalogue exactly once, and says so."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def sample(self, n_negatives: int, generator: torch.Generator) -> torch.Tensor:
        assert n_negatives == self.n_items
        return torch.arange(1, self.n_items + 1)

    def log_q(self, items: torch.Tensor) -> torch.Tensor:
        return torch.full(items.shape, -np.log(self.n_items))


def test_the_sampled_window_loss_of_every_item_once_is_the_whole_one_and_of_many_draws_tends_to_it(data):
    module = module_for(data, loss="full")
    train_steps(module, 3)  # logits that differ
    batch = max(module.batches, key=lambda batch: len(batch.queries))
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
COLD = (1, 7, 9, 24)


def described(tmp_path):
    """Toy data whose items are described by three columns, the last one of categories, without a sale of ``COLD``."""
    items = pa.table(
        {
            "item_id": [f"{number:010d}" for number in range(1, 26)],
            "made_of": ["clay", "glass", "steel", "clay", "glass"] * 5,
            "for": ["tea", "wine"] * 12 + ["tea"],
            "set": [f"s{n // 3 if n < 15 else n // 2}" for n in range(25)],
        }
    )
    data = toy_data(tmp_path, n_users=30, n_items=25, n_days=70, seed=5)
    events = events_of(data)
    events = events[~np.isin(events[:, 2], COLD)]
    return write_prepared(tmp_path / "described", events, n_items=25, users=[f"u{n}" for n in range(30)], items=items)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_nothing_but_its_attributes_and_the_mean_bias_is_said_of_an_item_without_a_sale(tmp_path, loss):
    module = module_for(described(tmp_path), loss=loss, n_negatives=64)
    model = module.model
    sold_V = torch.ones(26, dtype=torch.bool)
    sold_V[[0, *COLD]] = False
    train_steps(module, 2)
    model.tie_cold_item_bias()
    assert not model.item_tower.own.weight[list(COLD)].any()
    assert model.item_tower.own.weight[:26][sold_V].abs().amax(1).min() > 0
    biases = model.item_bias[list(COLD)]
    torch.testing.assert_close(biases, model.item_bias[sold_V].mean().expand(len(COLD)))
    assert model.item_bias[sold_V].std() > 0
    model.eval()
    code_UA = model.item_tower.attributes_NA[list(COLD)]
    same = model.item_tower.attribute(code_UA) / code_UA.shape[1]
    torch.testing.assert_close(model.item_vectors()[list(COLD)], same)


def test_an_item_without_a_sale_teaches_the_component_of_sales_alone(tmp_path):
    module = module_for(described(tmp_path))
    model, batch = module.model, max(module.batches, key=lambda batch: len(batch.queries))
    queries, cold_N = batch.queries, torch.tensor(COLD)

    def taught_by(logits_of) -> set[str]:
        module.zero_grad()
        logits_of(query_of(model, batch)).sum().backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    sales = model.components["sales"]
    torch.nn.init.normal_(sales.net.out.weight)  # begins at 0, through which nothing before it learns
    assert sales.of_categories is not None
    own = {name for name, _ in model.named_parameters() if name.startswith("components.sales")}
    assert taught_by(lambda query: model.catalogue_logits(query, queries)[:, cold_N]) == own

    def shared(item_N: torch.Tensor):
        return lambda query: model.shared_logits(model.terms(query, queries), item_N)

    assert taught_by(shared(cold_N)) == own
    sold = taught_by(shared(cold_N + 1))
    assert sold > {"item_bias", "item_tower.own.weight", "item_tower.attribute.weight", "decoder.norm.weight"}


def test_without_the_component_of_sales_an_item_without_a_sale_teaches_nothing(tmp_path):
    components = ("sequence", "past_items", "categories")
    module = module_for(described(tmp_path), SMALL.model_copy(update={"components": components}))
    model, batch = module.model, max(module.batches, key=lambda batch: len(batch.queries))
    query_QD, cold_N = query_of(model, batch), torch.tensor(COLD)
    logits = model.catalogue_logits(query_QD, batch.queries)[:, cold_N]
    shared = model.shared_logits(model.terms(query_QD, batch.queries), cold_N)
    gradients = torch.autograd.grad(logits.sum() + shared.sum(), list(model.parameters()), allow_unused=True)
    assert not any(gradient is not None and gradient.any() for gradient in gradients)


def test_a_saved_run_places_an_item_without_a_sale_as_it_did(tmp_path):
    data = described(tmp_path)
    module = module_for(data)
    train_steps(module, 1)
    module.model.tie_cold_item_bias()
    again = model_of(data)
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
    events = events_of(data)
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
    histories = data.histories(module.batches.split.train_day)
    histories = histories.of(histories.n_events > 0)
    with torch.inference_mode():
        reading = DecoderRecommender(module.model.eval(), module.batches.snapshots).read(histories)
        queries = reading.queries
        logits_QV = module.model.catalogue_logits(reading.query_QD, queries)
    probability_QV = logits_QV.softmax(-1)
    repeats = probability_QV[queries.past_query_P, queries.past_item_P].sum() / len(histories)
    assert 0.3 < float(repeats) < 0.7


@pytest.mark.parametrize("loss", ["full", "sampled"])
@pytest.mark.parametrize("components", [("sales", "past_items"), ("sequence",), ("categories",), ("co_purchases",)])
def test_any_choice_of_components_learns_validates_recommends_and_is_saved_and_loaded(tmp_path, components, loss):
    data = described(tmp_path)
    config = SMALL.model_copy(update={"components": components})
    module = module_for(data, config, loss=loss, n_negatives=64)
    assert (module.model.decoder is None) == ("sequence" not in components)
    losses = train_steps(module, 10)
    assert losses[-1] < losses[0]
    precision_Q, temperatures = module.validation.average_precisions(module.model)
    assert 0 < np.nanmean(precision_Q) < 1
    assert len(temperatures) == len(components) + 2
    module.temperatures.copy_(temperatures)
    state = module.weights(module.state_dict())
    save_weights(state, tmp_path / "weights.safetensors")
    again = model_of(data, config)
    load_weights(again, tmp_path / "weights.safetensors")
    module.model.load_state_dict(state)
    lists = [recommend(model, data, 18_060) for model in (module.model, again)]
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)
    assert all(len(set(row)) == 5 for row in lists[0].item.tolist())


@pytest.mark.parametrize("components", [None, ("sales", "past_items"), ("sequence",)])
def test_a_snapshot_that_was_saved_and_opened_gives_the_same_lists_without_the_log(tmp_path, components):
    data = described(tmp_path)
    module = module_for(data, SMALL.model_copy(update={"components": components}))
    train_steps(module, 2)
    day = 18_060
    Snapshots(data).at(day).save(tmp_path / "snapshot")
    opened = Snapshot.open(tmp_path / "snapshot")
    assert isinstance(opened.item_features, np.memmap)
    candidates = Candidates(all_items(data.n_items))
    lists = [
        DecoderRecommender(module.model, source).recommend(data.histories(day), 5, candidates)
        for source in (Snapshots(data), opened)
    ]
    assert np.array_equal(lists[0].item, lists[1].item)
    assert np.array_equal(lists[0].score, lists[1].score)


def test_a_model_without_dates_is_extended_by_items(data):
    model = PurchaseModel(SMALL, ItemCodes.from_items(data.items), has_dates=False).eval()
    more = pa.table({"item_id": [*data.item_ids.to_pylist(), "new", "newer"]})
    codes = model.extended(ItemCodes.from_items(nw.from_native(more, eager_only=True)))
    for name, value in model.state_dict().items():
        longer = codes.state_dict()[name]
        kept = longer[tuple(slice(size) for size in value.shape)]
        if name != "item_bias" and "item_tower" not in name:
            assert torch.equal(kept, value)
    assert codes.n_items == data.n_items + 2
