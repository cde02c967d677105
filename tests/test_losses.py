"""Sampled losses tend to the full ones; samplers say the probability they draw with."""

import math

import torch
from torch.nn import functional

from recsys.modeling.batches import Questions
from recsys.modeling.losses import full_softmax_loss, sampled_softmax_loss, sampled_window_loss, window_loss
from recsys.modeling.negatives import MixedSampler, OwnItems

V, D, M = 40, 8, 16


def some_tensors():
    random = torch.Generator().manual_seed(0)
    items = torch.randn(V, D, generator=random)
    queries = torch.randn(M, D, generator=random)
    target = torch.randint(1, V, (M,), generator=random)
    bias = torch.randn(V, generator=random)
    return queries, items, target, bias


def test_full_softmax_gives_padding_no_probability():
    queries, items, target, bias = some_tensors()
    logits = queries @ items.T + bias
    logits[:, 0] = -torch.inf
    torch.testing.assert_close(
        full_softmax_loss(queries, items, target, bias), functional.cross_entropy(logits, target)
    )


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
    torch.testing.assert_close(sampled, full_softmax_loss(queries, items, target, bias))


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
    torch.testing.assert_close(sampled, full_softmax_loss(queries, items, target, bias), rtol=0.02, atol=0.02)


def test_the_sampler_draws_with_the_probability_it_says_and_never_padding():
    sampler = MixedSampler(torch.tensor([0, 8, 0, 2]), uniform_share=0.5)
    draws = sampler.sample(300_000, torch.Generator().manual_seed(0))
    share = torch.bincount(draws, minlength=4) / len(draws)
    assert share[0] == 0
    torch.testing.assert_close(share[1:], sampler.log_q(torch.arange(1, 4)).exp(), rtol=0.02, atol=0.002)
    torch.testing.assert_close(sampler.log_q(torch.arange(1, 4)).exp(), torch.tensor([17 / 30, 1 / 6, 8 / 30]))


def test_window_loss_weighs_queries_alike_however_much_they_bought():
    logits = torch.zeros(2, 5)
    logits[1, 1] = 5
    loss = window_loss(logits, torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2, 3, 1]))
    first = math.log(4)
    second = math.log(math.exp(5) + 3) - 5
    torch.testing.assert_close(loss, torch.tensor((first + second) / 2))


def own_items():
    questions = Questions(
        row_Q=torch.tensor([0, 1]),
        position_Q=torch.tensor([0, 0]),
        wait_days_Q=torch.tensor([1, 1]),
        day_Q=torch.tensor([9, 9]),
        past_query_P=torch.tensor([0, 0, 1]),
        past_item_P=torch.tensor([2, 5, 3]),
        past_features_PF=torch.zeros(3, 1),
    )
    return OwnItems.of(questions, torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 1, 3]), 8)


def test_own_items_are_the_past_and_the_targets_each_once():
    own = own_items()
    assert list(zip(own.query_P.tolist(), own.item_P.tolist(), strict=True)) == [(0, 2), (0, 5), (1, 3), (0, 6), (1, 1)]
    assert own.target_n.tolist() == [1, 3, 4, 2]
    assert own.contains(torch.tensor([1, 2, 5, 6, 7]), 2).tolist() == [
        [False, True, True, True, False],
        [True, False, False, False, False],
    ]


def test_sampled_window_loss_with_every_other_item_once_is_the_whole_one():
    own = own_items()
    logits = torch.randn(2, 8, generator=torch.Generator().manual_seed(3))
    everything = torch.arange(1, 8)
    negatives = logits[:, everything].masked_fill(own.contains(everything, 2), -torch.inf)
    sampled = sampled_window_loss(logits[own.query_P, own.item_P], own.query_P, own.target_n, negatives)
    whole = window_loss(logits, torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 1, 3]))
    torch.testing.assert_close(sampled, whole)
