"""Sampled losses tend to the full ones; samplers say the probability they draw with."""

import math

import pytest
import torch
from torch.nn import functional

from recsys.modeling.decoder import losses
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.losses import (
    WindowLoss,
    full_softmax_loss,
    log_sum_exp,
    ranking_loss,
    sampled_softmax_loss,
)
from recsys.modeling.training.negatives import MixedSampler, QueryPositives

V, D, M = 40, 8, 16


def some_tensors():
    random = torch.Generator().manual_seed(0)
    items = torch.randn(V, D, generator=random)
    queries = torch.randn(M, D, generator=random)
    target = torch.randint(1, V, (M,), generator=random)
    bias = torch.randn(V, generator=random)
    return queries, items, target, bias


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk_logits", [1, 3 * V, 1_000_000])
def test_the_softmax_in_chunks_and_its_gradients_are_those_of_all_logits_at_once(monkeypatch, chunk_logits, smoothing):
    monkeypatch.setattr(losses, "_CHUNK_LOGITS", chunk_logits)
    queries, items, target, bias = some_tensors()
    ours = [one.clone().requires_grad_() for one in (queries, items, bias)]
    theirs = [one.clone().requires_grad_() for one in (queries, items, bias)]
    loss = full_softmax_loss(ours[0], ours[1], target, ours[2], label_smoothing=smoothing)
    logits = theirs[0] @ theirs[1].T + theirs[2]
    expected = functional.cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_row_of_bias_minus_infinity_takes_no_probability_and_learns_nothing():
    queries, items, target, bias = some_tensors()
    bias[0] = -torch.inf
    items.requires_grad_()
    loss = full_softmax_loss(queries, items, target, bias)
    torch.testing.assert_close(loss, full_softmax_loss(queries, items[1:], target - 1, bias[1:]))
    loss.backward()
    assert not items.grad[0].any()
    assert torch.isfinite(items.grad).all()


def test_under_autocast_the_softmax_is_that_of_rounded_products():
    queries, items, target, bias = some_tensors()
    plain = [queries.clone().requires_grad_(), items.clone().requires_grad_()]
    rounded = [queries.clone().requires_grad_(), items.clone().requires_grad_()]
    full_softmax_loss(plain[0], plain[1], target, bias).backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax_loss(rounded[0], rounded[1], target, bias)
    loss.backward()
    assert loss.dtype == torch.float32
    for one, other in zip(plain, rounded, strict=True):
        assert one.grad.dtype == other.grad.dtype == torch.float32
        assert not torch.equal(one.grad, other.grad)
        torch.testing.assert_close(one.grad, other.grad, rtol=0.05, atol=0.005)


def test_sampled_with_every_item_once_is_the_full_softmax():
    queries, items, target, bias = some_tensors()
    everything = torch.arange(1, V)
    sampled = sampled_softmax_loss(
        queries,
        items[target],
        target,
        bias[target],
        items[everything],
        everything,
        bias[everything],
        torch.zeros(M),
        torch.zeros(V - 1),
    )
    torch.testing.assert_close(sampled, full_softmax_loss(queries, items[1:], target - 1, bias[1:]))


def test_sampled_softmax_with_log_q_tends_to_the_full_softmax():
    queries, items, target, bias = some_tensors()
    sampler = MixedSampler(torch.arange(V))
    n = 200_000
    negative = sampler.sample(n, torch.Generator().manual_seed(1))
    # With log_q relative to n draws the estimate of the normaliser is that of the catalogue without the target.
    shift = math.log(n)
    sampled = sampled_softmax_loss(
        queries,
        items[target],
        target,
        bias[target],
        items[negative],
        negative,
        bias[negative],
        torch.zeros(M),
        sampler.log_q(negative) + shift,
    )
    torch.testing.assert_close(
        sampled, full_softmax_loss(queries, items[1:], target - 1, bias[1:]), rtol=0.02, atol=0.02
    )


def test_the_sampler_draws_with_the_probability_it_says_and_never_padding():
    sampler = MixedSampler(torch.tensor([0, 8, 0, 2]))
    draws = sampler.sample(300_000, torch.Generator().manual_seed(0))
    share = torch.bincount(draws, minlength=4) / len(draws)
    assert share[0] == 0
    torch.testing.assert_close(share[1:], sampler.log_q(torch.arange(1, 4)).exp(), rtol=0.02, atol=0.002)
    torch.testing.assert_close(sampler.log_q(torch.arange(1, 4)).exp(), torch.tensor([17 / 30, 1 / 6, 8 / 30]))


def test_what_was_not_sold_is_never_drawn_where_only_what_sold_may_be():
    sampler = MixedSampler(torch.tensor([0, 8, 0, 2, 0]), only_sold=True)
    draws = sampler.sample(20_000, torch.Generator().manual_seed(0))
    assert set(draws.tolist()) == {1, 3}
    torch.testing.assert_close(sampler.log_q(torch.tensor([1, 3])).exp(), torch.tensor([0.65, 0.35]))


def window_loss(logits, query, item, past=()):
    """Return the losses of targets under logits (Q, V), padding included; ``past`` are (query, item) bought before."""
    own = [*sorted(past), *((q, i) for q, i in zip(query.tolist(), item.tolist(), strict=True) if (q, i) not in past)]
    own_Q, own_I = (torch.tensor(column) for column in zip(*own, strict=True))
    others = logits.index_put((own_Q, own_I), torch.tensor(-torch.inf))[:, 1:].logsumexp(-1)
    place = torch.tensor([own.index(pair) for pair in zip(query.tolist(), item.tolist(), strict=True)])
    return WindowLoss.from_logits(logits[own_Q, own_I], own_Q, len(past), place, others)


def test_the_window_loss_weighs_queries_alike_however_much_they_bought():
    logits = torch.zeros(2, 5)
    logits[1, 1] = 5
    loss = window_loss(logits, torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2, 3, 1]))
    first = math.log(2)  # the third item is among the targets: only the fourth is not
    second = math.log(math.exp(5) + 3) - 5
    torch.testing.assert_close(loss.joint, torch.tensor((first + second) / 2))
    torch.testing.assert_close(loss.discoveries, loss.joint)
    assert loss.repeats.item() == 0


def test_repeats_compete_with_the_own_past_and_discoveries_with_the_rest():
    logits = torch.randn(2, 8, generator=torch.Generator().manual_seed(4))
    past = [(0, 2), (0, 5), (1, 3)]
    loss = window_loss(logits, torch.tensor([0, 0, 1]), torch.tensor([5, 6, 1]), past)
    repeat = -logits[0, [2, 5]].log_softmax(-1)[1]
    first = -logits[0, [1, 3, 4, 6, 7]].log_softmax(-1)[3]
    second = -logits[1, [1, 2, 4, 5, 6, 7]].log_softmax(-1)[0]
    torch.testing.assert_close(loss.repeats, repeat)
    torch.testing.assert_close(loss.discoveries, (first + second) / 2)


def test_targets_of_one_query_do_not_compete():
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0, 1.0, 1.0]])
    past = [(0, 1), (0, 2), (0, 3)]
    alone = window_loss(logits, torch.tensor([0]), torch.tensor([1]), past)
    both = window_loss(logits, torch.tensor([0, 0]), torch.tensor([1, 2]), past)
    torch.testing.assert_close(both.repeats, -logits[0, [1, 3]].log_softmax(-1)[0])
    torch.testing.assert_close(alone.repeats, -logits[0, [1, 2, 3]].log_softmax(-1)[0])
    sure = logits.clone().requires_grad_()
    window_loss(sure, torch.tensor([0, 0]), torch.tensor([1, 2]), past).joint.backward()
    assert (sure.grad[0, 1:3] < 0).all(), "no target is pushed down by another"


def test_the_joint_loss_is_that_of_past_or_new_and_of_the_item_within_it():
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(5))
    past = [(0, 2), (0, 5)]
    probability = logits[0, 1:].softmax(-1)
    for item, side in ((5, [1, 4]), (6, [0, 2, 3, 5, 6])):
        loss = window_loss(logits, torch.tensor([0]), torch.tensor([item]), past)
        torch.testing.assert_close(loss.joint, -probability[side].sum().log() + loss.repeats + loss.discoveries)


def test_a_query_whose_targets_are_everything_has_a_finite_loss_and_gradient():
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = window_loss(logits, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), [(0, 1)])
    (loss.joint + loss.repeats + loss.discoveries).backward()
    assert torch.isfinite(loss.joint)
    assert torch.isfinite(logits.grad[:, 1:]).all()
    assert (logits.grad[1, 2] < 0).all()


def test_a_query_without_a_past_has_a_finite_loss_and_gradient():
    logits = torch.zeros(1, 4, requires_grad=True)
    loss = window_loss(logits, torch.tensor([0]), torch.tensor([2]))
    (loss.joint + loss.repeats + loss.discoveries).backward()
    assert torch.isfinite(logits.grad[:, 1:]).all()


def test_the_log_sum_exp_of_rows_is_that_of_each_query_and_survives_large_logits():
    logit = torch.tensor([1000.0, 1001.0, -3.0], requires_grad=True)
    sums = log_sum_exp(logit, torch.tensor([2, 2, 0]), 3)
    torch.testing.assert_close(sums, torch.tensor([-3.0, -torch.inf, 1001 + math.log1p(math.exp(-1))]))
    sums[[0, 2]].sum().backward()
    torch.testing.assert_close(logit.grad, torch.tensor([1 / (1 + math.e), math.e / (1 + math.e), 1.0]))


def own_items():
    queries = QueryTensors(
        position_Q=torch.tensor([0, 0]),
        days_until_query_Q=torch.tensor([1, 1]),
        day_place_Q=torch.tensor([0, 0]),
        item_features=(torch.zeros(8, 1),),
        past_query_P=torch.tensor([0, 0, 1]),
        past_item_P=torch.tensor([2, 5, 3]),
        past_features_PF=torch.zeros(3, 1),
        category_query_R=torch.zeros(0, dtype=torch.int64),
        category_code_R=torch.zeros(0, dtype=torch.int64),
        category_features_RF=torch.zeros(0, 1),
        co_purchase_query_C=torch.zeros(0, dtype=torch.int64),
        co_purchase_item_C=torch.zeros(0, dtype=torch.int64),
        co_purchase_features_CF=torch.zeros(0, 1),
    )
    return QueryPositives.from_targets(queries, torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 1, 3]), 8)


def test_own_items_are_the_past_and_the_targets_each_once():
    own = own_items()
    assert list(zip(own.query_P.tolist(), own.item_P.tolist(), strict=True)) == [(0, 2), (0, 5), (1, 3), (0, 6), (1, 1)]
    assert own.target_n.tolist() == [1, 3, 4, 2]
    assert own.contains(torch.tensor([1, 2, 5, 6, 7]), 2).tolist() == [
        [False, True, True, True, False],
        [True, False, False, False, False],
    ]


def ranked(scores, bought, n_targets):
    """Return the ranking loss of queries' scores, of which those at ``bought`` are targets."""
    logit_P = torch.cat([torch.as_tensor(row, dtype=torch.float32) for row in scores])
    query_P = torch.repeat_interleave(torch.tensor([len(row) for row in scores]))
    target_n = torch.cat([torch.as_tensor(row, dtype=torch.bool) for row in bought]).nonzero().flatten()
    return ranking_loss(logit_P, query_P, target_n, torch.tensor(n_targets))


def average_precision(scores, bought, n_targets):
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    hits = [bought[place] for place in order][:12]
    return sum(sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit) / min(n_targets, 12)


def test_far_apart_the_ranking_loss_is_one_minus_map_at_12(monkeypatch):
    monkeypatch.setattr(losses, "_SOFT_END", 0.01)
    random = torch.Generator().manual_seed(6)
    scores = [(10.0 * torch.randperm(n, generator=random)).tolist() for n in (30, 5, 1, 20)]
    bought = [[bool(torch.rand((), generator=random) < 0.3) for _ in row] for row in scores]
    bought[1], bought[2], bought[3] = [True] * 5, [True], [False] * 20
    n_targets = [sum(row) + extra for row, extra in zip(bought, (4, 0, 20, 3), strict=True)]
    precisions = [average_precision(*one) for one in zip(scores, bought, n_targets, strict=True) if any(one[1])]
    expected = 1 - sum(precisions) / len(precisions)  # who bought nothing again does not count
    torch.testing.assert_close(ranked(scores, bought, n_targets), torch.tensor(expected))


def test_the_ranking_loss_lifts_targets_and_most_of_all_those_that_are_nearly_first():
    scores = torch.tensor([3.0, 2.9, 2.0, -4.0, -4.1], requires_grad=True)
    loss = ranked([scores], [[False, True, False, False, True]], [2])
    loss.backward()
    assert scores.grad[1] < scores.grad[4] < 0
    assert scores.grad[0] > 0


def test_without_a_repeat_the_ranking_loss_is_nothing():
    assert ranked([[1.0, 2.0]], [[False, False]], [3]).item() == 0
    empty = torch.zeros(0)
    assert ranking_loss(empty, empty.long(), empty.long(), torch.tensor([2, 1])).item() == 0
