"""Temperatures of the components: the weights say what was fitted, and held-out purchases get likelier by it."""

import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_model import SMALL, described, model_of, train_steps
from toy import toy_data

from recsys.config import Config, PredictConfig, SplitConfig, TrainingConfig
from recsys.data.purchases import Purchases
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.segments import bought_before
from recsys.evaluation.splits import window_fold
from recsys.modeling.build import build_module
from recsys.modeling.decoder.losses import WindowLoss
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.training.calibration import _Chunk, fit_temperatures, fold_in, temperature_names
from recsys.modeling.training.negatives import MixedSampler
from recsys.modeling.training.validation import Validation
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

DAY = 18_050
ONE_LAYER = SMALL.model_copy(update={"n_layers": 1})


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=40, n_items=25, n_days=70, seed=5)


@pytest.fixture
def with_categories(tmp_path):
    return described(tmp_path)


def with_weights(log, config=ONE_LAYER):
    """Return a model whose weights are not those it begins with: many begin at zero, which any factor would leave."""
    torch.manual_seed(0)
    fresh = model_of(log, config).eval()
    with torch.no_grad():
        for weight in fresh.parameters():
            weight += 0.1 * torch.randn_like(weight)
        fresh.item_bias[0] = 0
    return fresh


@pytest.fixture
def model(data):
    return with_weights(data)


def read(model, log, day=DAY):
    """Return the logits (Q, V) of all users at ``day``, and what was read."""
    with torch.no_grad():
        reading = DecoderRecommender(model, Snapshots(log)).read(log.histories(day))
        return model.catalogue_logits(reading.query_QD, reading.queries), reading


def fitted_to(model, log, fold=None, histories=None, **options):
    fold = window_fold(log, DAY, 7) if fold is None else fold
    histories = fold.histories(log) if histories is None else histories
    with torch.no_grad():
        reading = DecoderRecommender(model, Snapshots(log)).read(histories)
    sampler = MixedSampler(torch.from_numpy(np.bincount(log.item, minlength=log.n_items + 1)))
    return fit_temperatures(model, [(reading, fold)], sampler, seed=0, **options)


def temperatures_of(model, **values):
    """Return temperatures that are 0 but for those named."""
    return torch.tensor([values.get(name, 0.0) for name in temperature_names(model)])


def test_zeros_change_nothing(model, data):
    again = fold_in(model, torch.zeros(len(temperature_names(model))))
    torch.testing.assert_close(read(again, data)[0], read(model, data)[0])


def test_every_term_is_multiplied_by_its_own_factor_in_a_copy(with_categories):
    model = with_weights(with_categories)
    fitted = torch.tensor([0.5, -0.3, 0.2, -0.7, 0.6, 0.4, -1.5])
    factor = dict(zip(temperature_names(model), fitted.exp().tolist(), strict=True))
    before, (logits, reading) = copy.deepcopy(model.state_dict()), read(model, with_categories)
    queries = reading.queries
    with torch.no_grad():
        expected = factor["bias"] * model.item_bias.expand(len(queries), -1)
        terms = model.terms(reading.query_QD, queries)
        assert terms.keys() == {"sequence", "categories", "co_purchases", "sales"}
        for name, scores in terms.items():
            expected = expected + factor[name] * scores.add_to(torch.zeros_like(logits))
        place = queries.past_query_P, queries.past_item_P
        expected[place] = factor["past_items"] * logits[place] + fitted[-1]
    scaled = read(fold_in(model, fitted), with_categories)[0]
    torch.testing.assert_close(scaled[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(scaled[:, 1:], logits[:, 1:])
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_other_weights_may_be_given_to_be_scaled(model, data):
    other = {name: 1.1 * weight for name, weight in model.state_dict().items()}
    fitted = temperatures_of(model, sequence=0.3, past_shift=-1.0)
    expected = copy.deepcopy(model)
    expected.load_state_dict(other)
    scaled = fold_in(model, fitted, other).state_dict()
    for name, weight in fold_in(expected, fitted).state_dict().items():
        assert torch.equal(scaled[name], weight)


def test_what_is_overconfident_is_fitted_back(model, data):
    model = fold_in(model, fitted_to(model, data))
    again = fitted_to(model, data)
    assert again.abs().max() < 0.6, "what is fitted already stays, but for the pull of the prior"
    raised = fold_in(model, temperatures_of(model, past_shift=2.0))
    assert fitted_to(raised, data)[-1] < again[-1] - 0.5, "past items stand too high by two"


def test_held_out_purchases_become_likelier(model, data):
    fold = window_fold(data, DAY, 7)

    def loss(model):
        logits = read(model, data)[0].log_softmax(-1)
        row = np.repeat(fold.user_index, np.diff(fold.target_offsets))
        return -float(logits[row, fold.target_item.astype(np.int64)].mean())

    assert loss(fold_in(model, fitted_to(model, data))) < loss(model)


COMPONENTS = [
    None,
    ("sequence",),
    ("sales",),
    ("past_items",),
    ("categories", "co_purchases"),
    ("sequence", "past_items", "categories"),
]


@pytest.mark.parametrize("components", COMPONENTS)
def test_the_loss_of_scaled_terms_and_its_slope_are_those_of_the_whole_table(with_categories, components):
    log = with_categories
    model = with_weights(log, ONE_LAYER.model_copy(update={"components": components}))
    decoder, fold = DecoderRecommender(model, Snapshots(log)), window_fold(log, DAY, 7)
    with torch.no_grad():
        reading = decoder.read(fold.histories(log))
        item_N = torch.arange(1, model.n_items + 1)
        chunk = _Chunk.from_reading(model, reading, fold, item_N, torch.zeros(model.n_items))
    values = torch.tensor([0.5, -0.3, 0.2, -0.7, 0.6, 0.4])[: len(temperature_names(model)) - 1]
    fitted = torch.cat([values, torch.tensor([-1.5])]).requires_grad_()
    factor = dict(zip(temperature_names(model), fitted.exp(), strict=True))
    with torch.no_grad():
        terms = {
            name: scores.add_to(torch.zeros(len(reading.queries), model.n_items + 1))
            for name, scores in model.terms(reading.query_QD, reading.queries).items()
        }
    table_QV = factor["bias"] * model.item_bias.detach().expand(chunk.n_queries, -1)
    for name, term_QV in terms.items():
        table_QV = table_QV + factor[name] * term_QV
    own = chunk.own
    place = own.query_P, own.item_P
    own_P = table_QV[place]
    if model.past_items is not None:
        past_P = model.past_items.logits(reading.queries).detach()
        own_P = torch.cat([factor["past_items"] * past_P + fitted[-1], own_P[own.n_past :]])
    others_Q = table_QV.index_put(place, torch.tensor(-torch.inf))[:, 1:].logsumexp(-1)
    expected = WindowLoss.from_logits(own_P, own.query_P, own.n_past, own.target_n, others_Q)
    for exclude_seen, loss in ((False, expected.joint), (True, expected.discoveries)):
        by_chunk = chunk.loss(fitted, exclude_seen=exclude_seen)
        torch.testing.assert_close(by_chunk, loss)
        slopes = (torch.autograd.grad(one, fitted, retain_graph=True, allow_unused=True)[0] for one in (by_chunk, loss))
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)


def test_where_lists_leave_out_past_items_these_say_nothing(model, data):
    fold, names = window_fold(data, DAY, 7), temperature_names(model)
    past = [names.index("past_items"), names.index("past_shift")]
    assert fitted_to(model, data, fold)[past].abs().min() > 0.01
    fold = fold.of_targets(~bought_before(data, fold))
    fitted = fitted_to(model, data, fold, exclude_seen=True)
    assert not fitted[past].any()
    assert fitted.any()
    raised = fold_in(model, temperatures_of(model, past_shift=9.0))
    torch.testing.assert_close(fitted_to(raised, data, fold, exclude_seen=True), fitted)


def test_with_few_users_nothing_moves_far(model, data):
    fold = window_fold(data, DAY, 7)
    few, all_of_them = (fitted_to(model, data, some) for some in (fold.of_users(np.arange(1)), fold))
    assert few.square().sum() < 2 * float(np.log(data.n_items)) + 10
    assert torch.isfinite(few).all()
    assert torch.isfinite(all_of_them).all()


def test_a_user_who_owns_or_buys_the_whole_catalogue_spoils_nobody_s_fit(model, data):
    fold = window_fold(data, DAY, 7)
    greedy = replace(
        fold,
        target_offsets=np.concatenate([[0], fold.target_offsets[1:] + data.n_items - fold.target_offsets[1]]),
        target_item=np.concatenate(
            [np.arange(1, data.n_items + 1, dtype=np.int32), fold.target_item[fold.target_offsets[1] :]]
        ),
    )
    fitted = fitted_to(model, data, greedy)
    assert fitted.any()
    torch.testing.assert_close(fitted, fitted_to(model, data, fold), atol=0.3, rtol=0)


def test_fitting_reads_nothing_after_the_window(model, data):
    expected, fold = fitted_to(model, data), window_fold(data, DAY, 7)
    item = np.array(data.item)
    item[np.asarray(data.day) >= fold.end_day] = 1
    torch.testing.assert_close(fitted_to(model, replace(data, item=item)), expected)


@pytest.mark.parametrize("components", COMPONENTS)
def test_any_choice_of_components_has_its_own_temperatures(with_categories, components):
    model = with_weights(with_categories, ONE_LAYER.model_copy(update={"components": components}))
    names = temperature_names(model)
    assert set(names) == {"bias", "past_shift", *(components or ("sequence", *model.components))}
    fitted = fitted_to(model, with_categories)
    assert len(fitted) == len(temperature_names(model)) == len(names)
    assert fitted[: -1 if model.past_items is None else None].all()
    assert torch.isfinite(read(fold_in(model, fitted), with_categories)[0][:, 1:]).all()
    if model.past_items is None:
        assert fitted[-1] == 0


def test_of_a_large_catalogue_items_are_drawn_that_stand_for_all(with_categories, monkeypatch):
    model = with_weights(with_categories)
    whole = fitted_to(model, with_categories)
    monkeypatch.setattr("recsys.modeling.training.calibration._MOST_ITEMS", model.n_items - 1)
    few = fitted_to(model, with_categories)
    assert not torch.equal(few, whole)
    torch.testing.assert_close(few, whole, atol=0.5, rtol=0)


@pytest.fixture
def module(data):
    training = TrainingConfig(batch_tokens=256, query_windows=2)
    return build_module(Config(model=ONE_LAYER, training=training, split=SplitConfig(n_folds=1)), data)


def validation_with(module, **settings):
    """Return the module's validation under settings of prediction."""
    old = module.validation
    config = module.config.model_copy(update={"predict": PredictConfig(**settings)})
    return Validation(config, old.snapshots, old.user_codes, old.fold)


def test_validation_leaves_the_model_in_training_as_it_was(module):
    with torch.no_grad():
        module.model.past_items.net.out.bias -= 20  # past items stand last: any temperatures gain by it
    before = copy.deepcopy(module.model.state_dict())
    module.temperatures.copy_(module.validation.average_precisions(module.model)[1])
    assert module.temperatures[-1] > 1
    assert all(torch.equal(before[name], value) for name, value in module.model.state_dict().items())
    kept, bias = module.weights(module.state_dict()), "components.past_items.net.out.bias"
    assert kept.keys() == before.keys()
    assert kept[bias] > before[bias] + 1


@pytest.mark.parametrize(("worse", "taken"), [(1.9, True), (2.1, False)])
def test_temperatures_are_taken_up_to_a_lead_of_two_standard_errors_without_them(module, monkeypatch, worse, taken):
    n_users = len(module.validation.fold.user_index)
    noise_A = np.resize([-0.1, 0.1], n_users)
    error = noise_A.std(ddof=1) / np.sqrt(n_users)
    plain_A = np.full(n_users, 0.5)
    answers = iter([plain_A, plain_A - (noise_A - noise_A.mean()) - worse * error])
    monkeypatch.setattr(module.validation, "_validated", lambda _: (np.ones(n_users, bool), module.validation.fold))
    monkeypatch.setattr(module.validation, "_precisions", lambda *_: next(answers))
    precision_Q, temperatures = module.validation.average_precisions(module.model)
    assert temperatures.any() == taken
    assert (precision_Q == 0.5).all() != taken


def test_temperatures_are_left_out_where_they_rank_clearly_worse(module, monkeypatch):
    as_it_is, none = module.validation.average_precisions(module.model, is_trained=False)
    assert not none.any(), "what is not trained has learned nothing by heart"
    monkeypatch.setattr(
        "recsys.modeling.training.validation.fit_temperatures",
        lambda model, *_, **__: temperatures_of(model, past_shift=-50.0),
    )
    harmed, temperatures = module.validation.average_precisions(module.model)
    assert not temperatures.any(), "past items last is worse, however likely"
    np.testing.assert_array_equal(harmed, as_it_is)


def test_epochs_are_validated_without_past_items_where_lists_will_leave_them_out(module):
    validation, data = validation_with(module, exclude_seen=True), module.batches.log
    precision_Q, temperatures = validation.average_precisions(module.model)
    new = validation.fold.of_targets(~bought_before(data, validation.fold))
    decoder = DecoderRecommender(fold_in(module.model, temperatures), module.batches.snapshots)
    candidates = Candidates(all_items(data.n_items), exclude_seen=True)
    lists = decoder.recommend(new.histories(data), 12, candidates)
    expected = average_precisions(lists.item, new, 12)
    by_validation = precision_Q[np.isin(validation.fold.user_index, new.user_index)]
    validated = np.isfinite(by_validation)
    assert validated.any()
    np.testing.assert_allclose(by_validation[validated], expected[validated], rtol=1e-6)


def test_where_lists_leave_out_past_items_who_buys_nothing_new_changes_nothing(module):
    validation, data = validation_with(module, exclude_seen=True), module.batches.log
    fold = validation.fold
    buys_new_Q = np.isin(fold.user_index, fold.of_targets(~bought_before(data, fold)).user_index)
    assert 0 < buys_new_Q.sum() < len(buys_new_Q)
    precision_Q, temperatures = validation.average_precisions(module.model)
    assert not np.isfinite(precision_Q[~buys_new_Q]).any()
    validation.fold = fold.of_users(buys_new_Q)
    of_some, again = validation.average_precisions(module.model)
    np.testing.assert_array_equal(of_some, precision_Q[buys_new_Q])
    assert torch.equal(again, temperatures)


def test_what_is_left_out_fills_no_list_however_small_the_catalogue(tmp_path):
    data = toy_data(tmp_path, n_users=40, n_items=13, n_days=120, seed=5)
    config = Config(model=ONE_LAYER, split=SplitConfig(n_folds=1), predict=PredictConfig(exclude_seen=True))
    module = build_module(config, data)
    fold = module.validation.fold
    owned = np.array([len(set(data.item[data.offsets[u] : fold.history_end[u]])) for u in fold.user_index])
    assert (owned > 1).all(), "twelve are more than are left"
    everything = replace(
        fold,
        target_offsets=np.arange(len(fold.user_index) + 1) * 13,
        target_item=np.tile(np.arange(1, 14, dtype=np.int32), len(fold.user_index)),
    )
    n_left = 13 - owned[owned < 13]
    validation, decoder = module.validation, DecoderRecommender(module.model, module.batches.snapshots)
    with decoder.asking():
        read = [(decoder.read(fold.histories(data)), everything)]
    precisions = validation._precisions(decoder, read)
    np.testing.assert_allclose(precisions[owned < 13], n_left / 12, rtol=1e-6)


def test_users_without_a_history_are_not_validated_on(module):
    validation, data = module.validation, module.batches.log
    fold = validation.fold
    known = fold.history_end[fold.user_index] > data.offsets[fold.user_index]
    history_end = np.where(np.arange(data.n_users) % 2, fold.history_end, data.offsets[:-1])
    cold_start = replace(fold, history_end=history_end)
    some = cold_start.of_users(history_end[fold.user_index] > data.offsets[fold.user_index])
    assert 0 < len(some.user_index) < known.sum()
    values = []
    for validation.fold in (cold_start, some):
        values.append(validation.average_precisions(module.model)[0])
    np.testing.assert_array_equal(values[0][np.isfinite(values[0])], values[1])


def test_a_transformer_that_is_not_trained_or_that_nothing_weighs_is_left_out_of_lists(data):
    for until, is_trained in (("validation", False), ("test", True)):
        config = Config(model=ONE_LAYER, split=SplitConfig(n_folds=1), training=TrainingConfig(until=until))
        module = build_module(config, data)
        state = module.state_dict()
        assert not module.choose_transformer(state, is_trained=is_trained).stays
        assert not module.weights(state)["decoder.norm.weight"].any()


def test_a_user_of_the_table_alone_is_known_only_where_the_transformer_is_read(tmp_path):
    log = described(tmp_path)
    model = model_of(log, ONE_LAYER.model_copy(update={"customer": True}), n_user_codes=3)
    codes = UserCodes(np.array([[1], [2]]), np.array([True, True]))
    assert DecoderRecommender(model, Snapshots(log), codes).user_codes is codes
    left_out = temperatures_of(model, sequence=-torch.inf)
    assert DecoderRecommender(fold_in(model, left_out), Snapshots(log), codes).user_codes is None


def test_a_transformer_that_says_nothing_true_is_left_out_of_lists_and_keeps_its_item_vectors(data):
    config = Config(model=ONE_LAYER, split=SplitConfig(n_folds=1), training=TrainingConfig(query_windows=4))
    module = build_module(config, data)
    with torch.no_grad():
        module.model.item_tower.own.weight.normal_()  # as loud as wrong
    state = module.state_dict()
    choice = module.choose_transformer(state, is_trained=True)
    assert not choice.stays
    assert choice.whole.mean < 0 < choice.whole.standard_error
    model = model_of(data, ONE_LAYER).eval()
    model.load_state_dict(module.weights(state))
    smaller = model_of(data, ONE_LAYER.model_copy(update={"components": tuple(model.components)})).eval()
    smaller.load_state_dict({name: value for name, value in model.state_dict().items() if name in smaller.state_dict()})
    read_QV, reading = read(model, data)
    assert reading.query_QD is None
    assert torch.equal(read_QV, read(smaller, data)[0])
    assert DecoderRecommender(model, Snapshots(data)).unit_vectors()[1:].any()
    precision_Q, _ = module.validation.average_precisions(smaller, is_trained=False)
    assert np.nanmean(precision_Q) == pytest.approx(choice.value)


def test_a_transformer_that_knows_the_order_of_purchases_stays():
    week, user = np.meshgrid(np.arange(20), np.arange(60))
    day = np.datetime64("2024-01-01") + 7 * week.ravel()
    bought = pa.table({"user": user.ravel(), "item": (user + week).ravel() % 40, "time": day})  # one further each week
    log = Purchases.from_frame(bought, user="user", item="item", time="time")
    model = ONE_LAYER.model_copy(update={"components": ("sequence", "sales"), "dropout": 0.0})
    module = build_module(Config(model=model, split=SplitConfig(n_folds=1)), log)
    untrained = copy.deepcopy(module.model.state_dict())
    assert not module.beats(copy.deepcopy(module.state_dict()), untrained)
    train_steps(module, 150)
    state = module.state_dict()
    assert module.beats(state, untrained)
    choice = module.choose_transformer(state, is_trained=True)
    assert choice.stays
    assert choice.whole.mean > 0.2
    assert choice.new.mean > 0.2
    assert choice.value > 0.5
    assert module.weights(state)["decoder.norm.weight"].any()


def test_there_is_no_choice_where_nothing_else_scores_items(data):
    for components in (("sequence",), ("sales", "past_items")):
        model = ONE_LAYER.model_copy(update={"components": components})
        module = build_module(Config(model=model, split=SplitConfig(n_folds=1)), data)
        assert module.choose_transformer(module.state_dict(), is_trained=True) is None
