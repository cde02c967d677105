"""Weighing the parts of a logit: the weights say what was fitted, and held-out purchases get likelier by it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import toy_data

from recsys.config import Config, ModelConfig, PredictConfig, SplitConfig, TrainingConfig
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.segments import bought_before
from recsys.evaluation.splits import window_fold
from recsys.modeling.decoder.losses import WindowLoss
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.train import build_module
from recsys.modeling.training.calibration import COMPONENTS, _Chunk, fit_temperatures, fold_in
from recsys.signals.sales import ItemSales

DAY = 18_050
SMALL = ModelConfig(width=16, n_layers=1, n_heads=2, max_length=12, dropout=0.0)


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=40, n_items=25, n_days=70, seed=5)


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    fresh = PurchaseModel(SMALL, torch.from_numpy(data.attributes), torch.from_numpy(data.categories)).eval()
    with torch.no_grad():
        for weight in fresh.parameters():  # heads begin at zero, which any factor would leave
            weight += 0.1 * torch.randn_like(weight)
        fresh.item_bias[0] = 0
    return fresh


def asked(model, data, day=DAY):
    """Return the logits (Q, V) of all users at ``day``, their queries and the queries."""
    recommender = DecoderRecommender(model, ItemSales(data))
    history = History(data, data.ends_before(day), day)
    users = np.arange(data.n_users, dtype=np.int32)
    with torch.no_grad():
        return *recommender.logits(history, users), recommender.ask(history, users)[0]


def fold_and_history(data, day=DAY):
    fold = window_fold(data, day, 7)
    return fold, History(data, fold.history_end, fold.start_day)


def test_zeros_change_nothing(model, data):
    before = asked(model, data)[0]
    fold_in(model, torch.zeros(len(COMPONENTS)))
    torch.testing.assert_close(asked(model, data)[0], before)


def test_every_part_is_multiplied_by_its_own_factor(model, data):
    fitted = torch.tensor([0.5, -0.3, 0.2, -0.7, 0.6, 0.4, -1.5])
    query, bias, sales, categories, co_purchases, past = fitted[:-1].exp()
    logits, queries, query_QD = asked(model, data)
    assert len(queries.past_query_P)
    with torch.no_grad():
        expected = (
            query * query_QD @ model.item_vectors_VD.T
            + bias * model.item_bias
            + sales * model.sales_scores(ItemSales(data), DAY)
        )
        if model.kind_head is not None:
            expected += categories * model.kind_scores(queries).of_items(model.categories_VC)
        if model.companion_head is not None:
            place = queries.co_purchase_query_C, queries.co_purchase_item_C
            expected[place] += co_purchases * model.companion_scores(queries).score_C
        place = queries.past_query_P, queries.past_item_P
        expected[place] = past * logits[place] + fitted[-1]
    fold_in(model, fitted)
    weighed = asked(model, data)[0]
    torch.testing.assert_close(weighed[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(weighed[:, 1:], logits[:, 1:])


def test_what_is_too_sure_of_itself_is_fitted_back(model, data):
    fold, history = fold_and_history(data)
    sales = ItemSales(data)
    fold_in(model, fit_temperatures(model, sales, history, fold, seed=0))
    settled = fit_temperatures(model, sales, history, fold, seed=0)
    assert settled.abs().max() < 0.5, "what is fitted already stays, but for the pull of the prior"
    fold_in(model, torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]))
    assert fit_temperatures(model, sales, history, fold, seed=0)[-1] < settled[-1] - 0.5, (
        "past items stand too high by two"
    )


def test_held_out_purchases_become_likelier(model, data):
    def loss():
        logits = asked(model, data)[0].log_softmax(-1)
        row = np.repeat(fold.user_index, np.diff(fold.target_offsets))
        return -float(logits[row, fold.target_item.astype(np.int64)].mean())

    fold, history = fold_and_history(data)
    before = loss()
    fold_in(model, fit_temperatures(model, ItemSales(data), history, fold, seed=0))
    assert loss() < before


def test_the_loss_of_weighed_parts_and_its_slope_are_those_of_the_whole_table(model, data):
    fold, history = fold_and_history(data)
    chunk = _Chunk.of(model, ItemSales(data), history, fold)
    chunk = replace(chunk, kinds_QI=torch.randn_like(chunk.query_QI))  # toy items are of no kind
    assert chunk.n_queries > 16, "several blocks"
    assert chunk.n_queries % 8, "and a shorter one"
    fitted = torch.tensor([0.5, -0.3, 0.2, -0.7, 0.6, 0.4, -1.5], requires_grad=True)
    query, bias, sales, categories, co_purchases, past = fitted[:-1].exp()
    given = chunk.co_purchases
    with_QI = torch.zeros_like(chunk.query_QI).index_put((given.query_C, given.item_C - 1), given.score_C)
    table_QI = query * chunk.query_QI + bias * chunk.flat_2I[0] + sales * chunk.flat_2I[1] + categories * chunk.kinds_QI
    table_QI = table_QI + co_purchases * with_QI
    own, place = chunk.own, (chunk.own.query_P, chunk.own.item_P - 1)
    own_P = torch.cat([past * chunk.past_P + fitted[-1], table_QI[place][own.n_past :]])
    others_Q = table_QI.index_put(place, torch.tensor(-torch.inf)).logsumexp(-1)
    expected = WindowLoss.of(own_P, own.query_P, own.n_past, own.target_n, others_Q)
    for exclude_seen, loss in ((False, expected.joint), (True, expected.discoveries)):
        found = chunk.loss(fitted, exclude_seen=exclude_seen)
        torch.testing.assert_close(found, loss)
        slopes = (torch.autograd.grad(one, fitted, retain_graph=True)[0] for one in (found, loss))
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)


def test_where_lists_leave_out_past_items_these_say_nothing(model, data):
    fold, history = fold_and_history(data)
    sales, past = ItemSales(data), [COMPONENTS.index("past"), COMPONENTS.index("past_shift")]
    assert fit_temperatures(model, sales, history, fold, seed=0)[past].abs().min() > 0.01
    fold = fold.of_targets(~bought_before(data, fold))
    fitted = fit_temperatures(model, sales, history, fold, seed=0, exclude_seen=True)
    assert not fitted[past].any()
    assert fitted.any()
    fold_in(model, torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0]))
    torch.testing.assert_close(fit_temperatures(model, sales, history, fold, seed=0, exclude_seen=True), fitted)


def test_with_few_customers_nothing_moves_far(model, data):
    fold, history = fold_and_history(data)
    one = replace(
        fold,
        user_index=fold.user_index[:1],
        target_offsets=fold.target_offsets[:2],
        target_item=fold.target_item[: fold.target_offsets[1]],
    )
    sales = ItemSales(data)
    few, all_of_them = (fit_temperatures(model, sales, history, some, seed=0) for some in (one, fold))
    assert few.square().sum() < 2 * float(np.log(data.n_items)) + 10
    assert torch.isfinite(few).all()
    assert torch.isfinite(all_of_them).all()


def test_a_customer_who_owns_or_buys_the_whole_catalogue_spoils_nobody_s_fit(model, data):
    fold, history = fold_and_history(data)
    greedy = replace(
        fold,
        target_offsets=np.concatenate([[0], fold.target_offsets[1:] + data.n_items - fold.target_offsets[1]]),
        target_item=np.concatenate(
            [np.arange(1, data.n_items + 1, dtype=np.int32), fold.target_item[fold.target_offsets[1] :]]
        ),
    )
    fitted = fit_temperatures(model, ItemSales(data), history, greedy, seed=0)
    assert fitted.any()
    others = fit_temperatures(model, ItemSales(data), history, fold, seed=0)
    torch.testing.assert_close(fitted, others, atol=0.3, rtol=0)


def test_fitting_reads_nothing_after_the_window(model, data):
    fold, history = fold_and_history(data)
    expected = fit_temperatures(model, ItemSales(data), history, fold, seed=0)
    item = np.array(data.item)
    item[np.asarray(data.day) >= fold.end_day] = 1
    changed = replace(data, item=item)
    fold, history = fold_and_history(changed)
    torch.testing.assert_close(fit_temperatures(model, ItemSales(changed), history, fold, seed=0), expected)


@pytest.mark.parametrize("head", ["sales_head", "repeat_head", "kind_head"])
def test_a_model_without_a_head_is_weighed_all_the_same(data, head):
    settings = SMALL.model_copy(update={head: False})
    model = PurchaseModel(settings, torch.from_numpy(data.attributes), torch.from_numpy(data.categories)).eval()
    fold, history = fold_and_history(data)
    fitted = fit_temperatures(model, ItemSales(data), history, fold, seed=0)
    fold_in(model, fitted)
    assert torch.isfinite(asked(model, data)[0][:, 1:]).all()
    unused = {"sales_head": ["sales"], "repeat_head": ["past", "past_shift"], "kind_head": ["categories"]}[head]
    assert all(fitted[COMPONENTS.index(part)] == 0 for part in unused)


@pytest.fixture
def module(data):
    training = TrainingConfig(batch_tokens=256, query_windows=2)
    return build_module(Config(model=SMALL, training=training, split=SplitConfig(n_folds=1)), data)


def test_judging_an_epoch_leaves_the_model_in_training_as_it_was(module):
    with torch.no_grad():
        module.model.repeat_head.out.bias -= 20  # past items stand last: whoever weighs the parts gains by it
    before = copy.deepcopy(module.model.state_dict())
    module.validate(module.validation)
    assert module.parts[-1] > 1
    assert all(torch.equal(before[name], value) for name, value in module.model.state_dict().items())
    kept = module.weights(module.state_dict())
    assert kept.keys() == before.keys()
    assert kept["repeat_head.out.bias"] > before["repeat_head.out.bias"] + 1


def test_parts_are_weighed_only_where_that_ranks_better(module, monkeypatch):
    as_it_is = module.validate(module.validation)
    module.parts.zero_()
    monkeypatch.setattr(
        "recsys.modeling.training.module.fit_temperatures",
        lambda *_, **__: torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -50.0]),
    )
    harmed = module.validate(module.validation)
    assert not module.parts.any(), "past items last is worse, however likely"
    assert harmed <= as_it_is


def test_epochs_are_judged_without_past_items_where_lists_will_leave_them_out(module):
    fold, data = module.validation, module.batches.data
    module.config = module.config.model_copy(update={"predict": PredictConfig(exclude_seen=True)})
    precision_Q = module.average_precisions_of(fold)
    new = fold.of_targets(~bought_before(data, fold))
    history = History(data, fold.history_end, fold.start_day)
    lists = DecoderRecommender(module._weighed(module.parts), module.sales).recommend(
        history, new.user_index, 12, Candidates(all_items(data.n_items), exclude_seen=True)
    )
    expected = average_precisions(lists.item, new, lists.user_index, 12)
    found = precision_Q[np.isin(fold.user_index, new.user_index)]
    has_say = np.isfinite(found)
    assert has_say.any()
    np.testing.assert_allclose(found[has_say], expected[has_say], rtol=1e-6)


def test_where_lists_leave_out_past_items_who_buys_nothing_new_changes_nothing(module):
    fold, data = module.validation, module.batches.data
    module.config = module.config.model_copy(update={"predict": PredictConfig(exclude_seen=True)})
    buys_new_Q = np.isin(fold.user_index, fold.of_targets(~bought_before(data, fold)).user_index)
    assert 0 < buys_new_Q.sum() < len(buys_new_Q)
    precision_Q = module.average_precisions_of(fold)
    parts = module.parts.clone()
    assert not np.isfinite(precision_Q[~buys_new_Q]).any()
    np.testing.assert_array_equal(module.average_precisions_of(fold.of_users(buys_new_Q)), precision_Q[buys_new_Q])
    assert torch.equal(module.parts, parts)


def test_what_is_left_out_fills_no_list_however_small_the_catalogue(tmp_path):
    data = toy_data(tmp_path, n_users=40, n_items=13, n_days=120, seed=5)
    config = Config(model=SMALL, split=SplitConfig(n_folds=1), predict=PredictConfig(exclude_seen=True))
    module = build_module(config, data)
    fold = module.validation
    owned = np.array([len(set(data.item[data.offsets[u] : fold.history_end[u]])) for u in fold.user_index])
    assert (owned > 1).all(), "twelve are more than are left"
    everything = replace(
        fold,
        target_offsets=np.arange(len(fold.user_index) + 1) * 13,
        target_item=np.tile(np.arange(1, 14, dtype=np.int32), len(fold.user_index)),
    )
    n_left = 13 - owned[owned < 13]
    lists = module._precisions(module.model, module._asked(module.model, fold)[2], everything)[owned < 13]
    np.testing.assert_allclose(lists, n_left / 12, rtol=1e-6)


def test_customers_without_a_history_have_no_say(module):
    fold, data = module.validation, module.batches.data
    known = fold.history_end[fold.user_index] > data.offsets[fold.user_index]
    cold_start = replace(fold, history_end=np.where(np.arange(data.n_users) % 2, fold.history_end, data.offsets[:-1]))
    some = cold_start.of_users(cold_start.history_end[fold.user_index] > data.offsets[fold.user_index])
    assert 0 < len(some.user_index) < known.sum()
    assert module.validate(cold_start) == pytest.approx(module.validate(some), abs=1e-12)  # summed in another order
