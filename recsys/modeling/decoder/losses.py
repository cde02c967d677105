"""Losses as pure functions of tensors. Shapes as in :mod:`recsys.modeling.decoder.layers`."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

#: Logits that are held at a time, 32 MB of them: few enough to stay near the processor, enough for fast products.
_CHUNK_LOGITS = 8_000_000


def full_softmax_loss(
    query_MD: Tensor, items_VD: Tensor, target_M: Tensor, bias_V: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of ``target_M`` (M,) int64 under a softmax over all V rows of items.

    logit(m, v) = query_m · item_v + bias_v; a row of bias -inf takes no probability. Loss and gradients are summed over
    chunks of queries, so memory grows with M + V. Under autocast the products are in its precision, sums and softmax in
    single precision. ``label_smoothing`` (Szegedy et al., 2016, section 7) needs finite biases.
    """
    tensors = query_MD, items_VD, bias_V, target_M
    return _ChunkedSoftmax.apply(*tensors, label_smoothing)  # type: ignore[no-untyped-call]


class _ChunkedSoftmax(torch.autograd.Function):
    """The gradients are made together with the loss, while the logits of a chunk are at hand."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query_MD: Tensor, items_VD: Tensor, bias_V: Tensor, target_M: Tensor, smoothing: float
    ) -> Tensor:
        n_queries, n_items = len(query_MD), len(items_VD)
        device = query_MD.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else items_VD.dtype
        query_MD, items_VD = query_MD.to(dtype), items_VD.to(dtype)
        loss = bias_V.new_zeros(())
        by_query_MD = torch.empty_like(query_MD, dtype=bias_V.dtype)
        by_item_VD = torch.zeros_like(items_VD, dtype=bias_V.dtype)
        by_bias_V = torch.zeros_like(bias_V)
        with torch.autocast(device, enabled=False):
            size = max(_CHUNK_LOGITS // n_items, 1)
            for begin in range(0, n_queries, size):
                chunk = slice(begin, begin + size)
                chunk_CD, target_C1 = query_MD[chunk], target_M[chunk, None]
                log_p_CV = (chunk_CD @ items_VD.T).to(bias_V.dtype).add_(bias_V).log_softmax(-1)
                loss -= (1 - smoothing) * log_p_CV.gather(1, target_C1).sum()
                if smoothing:
                    loss -= smoothing / n_items * log_p_CV.sum()
                slope_CV = log_p_CV.exp_()
                if smoothing:
                    slope_CV -= smoothing / n_items
                slope_CV.scatter_add_(1, target_C1, slope_CV.new_full(target_C1.shape, smoothing - 1))
                by_bias_V += slope_CV.sum(0)
                slope_CV = slope_CV.to(dtype)
                by_query_MD[chunk] = slope_CV @ items_VD
                by_item_VD += slope_CV.T @ chunk_CD
        ctx.save_for_backward(by_query_MD, by_item_VD, by_bias_V)
        ctx.n_queries = n_queries  # type: ignore[attr-defined]
        return loss / n_queries

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        by_query_MD, by_item_VD, by_bias_V = ctx.saved_tensors  # type: ignore[attr-defined]
        each = slope / ctx.n_queries  # type: ignore[attr-defined]
        return by_query_MD * each, by_item_VD * each, by_bias_V * each, None, None


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

    Logits are corrected by -log q (Bengio & Senécal, 2008; Yi et al., 2019). A position's own target is no negative.
    """
    positive_M = (query_MD * target_MD).sum(-1) + target_bias_M - target_log_q_M
    negatives_MN = torch.addmm(negative_bias_N - negative_log_q_N, query_MD, negative_ND.T)
    negatives_MN = negatives_MN.masked_fill(target_M[:, None] == negative_N, -torch.inf)
    everything_M = torch.logaddexp(negatives_MN.logsumexp(-1), positive_M)
    return (everything_M - positive_M).mean()


@dataclass(frozen=True)
class WindowLoss:
    """What was bought in the windows asked about, each target against all that was not bought in its window; and apart.

    Targets of one query do not compete: under a softmax over all, what a customer is sure to buy could not get more
    than its share among ten others. Each loss is a mean over queries of the mean over their targets.
    """

    joint: Tensor  # of all targets, against everything that was not bought
    repeats: Tensor  # of targets bought before, against the customer's other past items
    discoveries: Tensor  # of targets never bought before, against all other items never bought before
    n_repeats: Tensor  # queries that have the one
    n_discoveries: Tensor  # and the other

    @classmethod
    def from_logits(
        cls, logit_P: Tensor, query_P: Tensor, n_past: int, target_n: Tensor, other_Q: Tensor
    ) -> "WindowLoss":
        """Return the losses of targets among the own items of each query and all others.

        Own items (P,) are ``n_past`` past items, then targets not among them; ``target_n`` (n,) int64 are places among
        them. Every query has a target. ``other_Q`` is the log of the sum of exp(logit) over all items not its own.
        """
        logit_n, query_n, is_past_n, n_queries = logit_P[target_n], query_P[target_n], target_n < n_past, len(other_Q)
        other_P = torch.ones(n_past, dtype=torch.bool, device=target_n.device)
        other_P[target_n[is_past_n]] = False
        past_other_Q = log_sum_exp(logit_P[:n_past][other_P], query_P[:n_past][other_P], n_queries)
        everything_Q = torch.logaddexp(past_other_Q, other_Q)
        joint_n = functional.softplus(everything_Q[query_n] - logit_n)
        apart_n = functional.softplus(torch.where(is_past_n, past_other_Q[query_n], other_Q[query_n]) - logit_n)
        joint, _ = _mean_of_queries(joint_n, query_n, n_queries)
        repeats, n_repeats = _mean_of_queries(apart_n[is_past_n], query_n[is_past_n], n_queries)
        discoveries, n_discoveries = _mean_of_queries(apart_n[~is_past_n], query_n[~is_past_n], n_queries)
        return cls(joint, repeats, discoveries, n_repeats, n_discoveries)


#: Length of the lists whose order :func:`ranking_loss` is about, and how soft its ranks and its end are, in logits and
#: ranks. With ranks as soft as 1 it is worth less on Complete Journey's earlier weeks; others were not compared.
RANKED = 12
_SOFTNESS, _SOFT_END = 0.3, 2.0


def ranking_loss(logit_P: Tensor, query_P: Tensor, target_n: Tensor, n_targets_Q: Tensor) -> Tensor:
    """Return 1 - average precision at ``RANKED`` of each query's past items in the order of their logits, smoothed.

    Smooth-AP (Brown et al., 2020): in the ranks a step between two logits is a sigmoid, so that the metric by which
    lists are judged has a gradient. Unlike theirs it ends, softly, at ``RANKED``, and divides as MAP does: who bought
    new items too (``n_targets_Q`` counts them) cannot reach 0.

    ``query_P`` (P,) int64 ascends; ``target_n`` (n,) int64 are places in it. Mean over queries that have one, else 0.
    """
    n_queries = len(n_targets_Q)
    counts_Q = torch.bincount(query_P, minlength=n_queries)
    query_n = query_P[target_n]
    first_n, length_n = (counts_Q.cumsum(0) - counts_Q)[query_n], counts_Q[query_n]
    rank_n, hits_n = _SoftRanks.apply(logit_P, target_n, first_n, length_n)  # type: ignore[no-untyped-call]
    precision_n = hits_n / rank_n * torch.sigmoid((RANKED + 0.5 - rank_n) / _SOFT_END)
    average_Q = logit_P.new_zeros(n_queries).index_add(0, query_n, precision_n) / n_targets_Q.clamp(1, RANKED)
    n_with_target = torch.count_nonzero(torch.bincount(query_n, minlength=n_queries))
    return (n_with_target - average_Q.sum()) / n_with_target.clamp(min=1)


class _SoftRanks(torch.autograd.Function):
    """Ranks of targets among items, and among targets alone, an item above another by a sigmoid of their logits.

    The gradients are made by hand: there are many more pairs than items, and few passes over them suffice.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, logit_P: Tensor, target_n: Tensor, first_n: Tensor, length_n: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take the ``length_n`` items from ``first_n`` on (n,) int64 with which each target is compared."""
        # R pairs of a target and each item.
        row_R = torch.repeat_interleave(length_n)
        item_R = torch.arange(len(row_R), device=row_R.device) + (first_n - length_n.cumsum(0) + length_n)[row_R]
        is_target_P = torch.zeros_like(logit_P)
        is_target_P[target_n] = 1
        above_R = logit_P[item_R].sub_(logit_P[target_n][row_R]).div_(_SOFTNESS).sigmoid_()
        hit_R = is_target_P[item_R]
        ctx.save_for_backward(above_R, hit_R, row_R, item_R, target_n)
        ctx.shape = logit_P.shape  # type: ignore[attr-defined]
        # An item is half above itself: half more makes its own rank 1.
        half_n = above_R.new_full((len(target_n),), 0.5)
        return half_n.index_add(0, row_R, above_R), half_n.index_add(0, row_R, above_R * hit_R)

    @staticmethod
    def backward(ctx: FunctionCtx, by_rank_n: Tensor, by_hits_n: Tensor) -> tuple[Tensor, None, None, None]:
        above_R, hit_R, row_R, item_R, target_n = ctx.saved_tensors  # type: ignore[attr-defined]
        slope_R = by_hits_n[row_R].mul_(hit_R).add_(by_rank_n[row_R]).mul_(above_R).mul_(1 - above_R).div_(_SOFTNESS)
        by_logit_P = slope_R.new_zeros(ctx.shape).index_add_(0, item_R, slope_R)  # type: ignore[attr-defined]
        own_n = torch.zeros_like(by_rank_n).index_add_(0, row_R, slope_R)
        return by_logit_P.index_add_(0, target_n, own_n, alpha=-1), None, None, None


def _mean_of_queries(loss_n: Tensor, query_n: Tensor, n_queries: int) -> tuple[Tensor, Tensor]:
    """Return the mean over the queries that have a row of the mean over a query's rows, and how many they are.

    Without any the mean is 0.
    """
    counts_Q = torch.bincount(query_n, minlength=n_queries)
    n_with_target = torch.count_nonzero(counts_Q)
    return (loss_n / (counts_Q[query_n] * n_with_target.clamp(min=1))).sum(), n_with_target


def log_sum_exp(logit_P: Tensor, query_P: Tensor, n_queries: int) -> Tensor:
    """Return the log of the sum of exp(logit) (Q,) of each query's rows, finite ones; -inf for a query without any."""
    top_Q = logit_P.new_zeros(n_queries).scatter_reduce(0, query_P, logit_P.detach(), "amax", include_self=False)
    sum_Q = torch.zeros_like(top_Q).index_add(0, query_P, (logit_P - top_Q[query_P]).exp())
    empty_Q = torch.bincount(query_P, minlength=n_queries) == 0
    return torch.where(empty_Q, -torch.inf, sum_Q.masked_fill(empty_Q, 1).log() + top_Q)
