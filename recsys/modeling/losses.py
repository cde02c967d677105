"""Losses as pure functions of tensors. Shapes as in :mod:`recsys.modeling.layers`."""

import torch
from torch import Tensor
from torch.nn import functional


def full_softmax_loss(query_MD: Tensor, items_VD: Tensor, target_M: Tensor, bias_V: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``target_M`` (M,) int64 under a softmax over the catalogue without padding.

    logit(m, v) = query_m · item_v + bias_v. Row 0 (padding) takes no probability.
    """
    logits_MV = torch.addmm(bias_V[1:], query_MD, items_VD[1:].T)
    return functional.cross_entropy(logits_MV, target_M - 1)


def sampled_softmax_loss(
    query_MD: Tensor,
    target_MD: Tensor,
    target_M: Tensor,
    target_bias_M: Tensor,
    negative_ND: Tensor,
    negative_N: Tensor,
    negative_bias_N: Tensor,
    target_log_q_M: Tensor,
    negative_log_q_N: Tensor,
) -> Tensor:
    """Return the mean cross-entropy of each target among itself and negatives shared by all positions.

    Logits are corrected by -log q (Bengio & Senécal, 2008; Yi et al., 2019), so that with many negatives the loss
    tends to the full softmax's up to a constant. A negative that is the position's own target is masked.
    """
    positive_M = (query_MD * target_MD).sum(-1) + target_bias_M - target_log_q_M
    negatives_MN = torch.addmm(negative_bias_N - negative_log_q_N, query_MD, negative_ND.T)
    negatives_MN = negatives_MN.masked_fill(target_M[:, None] == negative_N, -torch.inf)
    everything_M = torch.logaddexp(negatives_MN.logsumexp(-1), positive_M)
    return (everything_M - positive_M).mean()


def window_loss(logits_QV: Tensor, target_query_n: Tensor, target_item_n: Tensor) -> Tensor:
    """Return the mean over queries of the mean over a query's targets of -log softmax(logits)[target].

    Args:
        logits_QV: scores over the catalogue, padding included (it takes no probability).
        target_query_n: (n,) int64 query of each target; every query has at least one.
        target_item_n: (n,) int64 item_index of each target.
    """
    n_queries = len(logits_QV)
    counts_Q = torch.bincount(target_query_n, minlength=n_queries)
    weight_n = 1 / (counts_Q[target_query_n] * n_queries)
    picked_n = logits_QV[target_query_n, target_item_n]
    normaliser_Q = logits_QV[:, 1:].logsumexp(-1)
    return (weight_n * (normaliser_Q[target_query_n] - picked_n)).sum()


def sampled_window_loss(
    own_logit_P: Tensor,
    own_query_P: Tensor,
    target_own_n: Tensor,
    negative_QN: Tensor,
) -> Tensor:
    """Return :func:`window_loss` with the catalogue's normaliser estimated from shared negatives.

    A customer's own past items and targets, which hold most of the mass, enter exactly; all other items through
    importance sampling (Bengio & Senécal, 2008).

    Args:
        own_logit_P: logits of (query, own item) pairs, every target among them.
        own_query_P: (P,) int64 query of each pair.
        target_own_n: (n,) int64 pair of each target; every query has at least one.
        negative_QN: logits of the negatives minus the log of their expected number of draws; -inf where a negative is
            one of the query's own items.
    """
    n_queries = len(negative_QN)
    top_Q = negative_QN.detach().amax(-1).scatter_reduce(0, own_query_P, own_logit_P.detach(), "amax")
    own_Q = torch.zeros_like(top_Q).index_add(0, own_query_P, (own_logit_P - top_Q[own_query_P]).exp())
    normaliser_Q = (own_Q + (negative_QN - top_Q[:, None]).exp().sum(-1)).log() + top_Q
    target_query_n = own_query_P[target_own_n]
    counts_Q = torch.bincount(target_query_n, minlength=n_queries)
    weight_n = 1 / (counts_Q[target_query_n] * n_queries)
    return (weight_n * (normaliser_Q[target_query_n] - own_logit_P[target_own_n])).sum()
