"""Weights of the parts of a logit, fitted to the validation window: what was learned by heart weighs less.

A part that has seen the training windows again and again is surer of them than of the next one. Each part of a logit
(query · vector, bias, sales, categories, co_purchases, repeat head) therefore gets one factor, and past items one shift, by
which the held-out purchases become most likely: temperature scaling (Guo et al., 2017) with a temperature a part, or
stacked generalisation (Wolpert, 1992) of the parts. The factors are then multiplied into the weights of the model, so
nothing that asks it needs to know of them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.losses import WindowLoss
from recsys.modeling.decoder.model import CompanionScores, PurchaseModel
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.training.negatives import QueryPositives
from recsys.signals.sales import ItemSales

#: What is fitted, in order: logarithms of factors, and the shift of past items that have a head of their own.
COMPONENTS = ("query", "bias", "sales", "categories", "co_purchases", "past", "past_shift")
#: How far each may move with one customer to learn from: with a handful of them nothing moves far.
_PRIOR_DEVIATION = 1.0
_MOST_QUERIES = 1024
_FEWEST_QUERIES = 256
#: Numbers of a (query, item) table at most, some 256 MiB; three of them are held.
_MOST_ENTRIES = 1 << 26
_CHUNK = 128
#: So many queries' rows of such a table fit into a core's cache while a dozen passes go over them.
_BLOCK = 8


def fit_temperatures(
    model: PurchaseModel, sales: ItemSales, history: History, fold: Fold, seed: int, *, exclude_seen: bool = False
) -> Tensor:
    """Return what makes the targets of ``fold`` most likely, (7,) float32 as in ``COMPONENTS``; zeros change nothing.

    Of many customers some are drawn, by ``seed``: at most 1,024, fewer where the catalogue is large. With
    ``exclude_seen``, where lists leave out past items and no target is one, these are in the way of none.
    """
    n_queries = max(min(_MOST_QUERIES, _MOST_ENTRIES // model.n_items), _FEWEST_QUERIES)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(fold.user_index))[:n_queries])
    was_training = model.training
    model.eval()
    with torch.no_grad():
        chunks = [
            _Chunk.of(model, sales, history, fold.of_users(chosen[begin : begin + _CHUNK]))
            for begin in range(0, len(chosen), _CHUNK)
        ]
    model.train(was_training)
    fitted = torch.zeros(len(COMPONENTS), device=model.item_bias.device)
    with torch.inference_mode(False), torch.enable_grad():
        fitted.requires_grad_()
        optimizer = torch.optim.LBFGS(
            [fitted], max_iter=20, tolerance_grad=1e-5, tolerance_change=1e-6, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimizer.zero_grad()
            losses = [fitted.square().sum() / (2 * _PRIOR_DEVIATION**2 * len(chosen))]
            losses[0].backward()  # type: ignore[no-untyped-call]
            for chunk in chunks:
                losses.append(chunk.loss(fitted, exclude_seen=exclude_seen) * (chunk.n_queries / len(chosen)))
                losses[-1].backward()  # type: ignore[no-untyped-call]
            return float(sum(loss.item() for loss in losses))

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = fitted.detach()
    return found if bool(torch.isfinite(found).all()) else torch.zeros_like(found)


@torch.no_grad()
def fold_in(model: PurchaseModel, fitted: Tensor) -> None:
    """Multiply the factors ``fitted`` (7,), as :func:`fit_temperatures` returns them, into the weights of ``model``."""
    query, bias, sales, categories, co_purchases, past = fitted[:-1].exp().tolist()
    model.decoder.norm.weight.mul_(query)
    model.decoder.norm.bias.mul_(query)
    model.item_bias.mul_(bias)
    if model.sales_head is not None:
        model.sales_head.multiply(sales)
    if model.kind_head is not None:
        model.kind_head.multiply(categories)
    if model.companion_head is not None:
        model.companion_head.multiply(co_purchases)
    if model.neighbour_head is not None:
        model.neighbour_head.multiply(co_purchases)
    if model.repeat_head is not None:
        model.repeat_head.from_query.weight.div_(query)  # it goes on to read the query as it was learned
        model.repeat_head.multiply(past, float(fitted[-1]))
    model.train(model.training)  # forgets the vectors that it kept


@dataclass(frozen=True)
class _Chunk:
    """The parts of the logits at some queries of a fold.

    Shapes: Q queries, I items of the catalogue without padding; P own items, past ones first, then new targets.
    """

    own: QueryPositives
    query_QI: Tensor
    flat_2I: Tensor  # bias and sales: the same for all queries, since a fold asks at one day
    kinds_QI: Tensor | None
    co_purchases: CompanionScores | None  # of those items that go with something
    past_P: Tensor | None  # (past,) of the repeat head

    @property
    def n_queries(self) -> int:
        """Number of queries Q."""
        return len(self.query_QI)

    @classmethod
    def of(cls, model: PurchaseModel, sales: ItemSales, history: History, fold: Fold) -> Self:
        """Ask for the users of ``fold``."""
        query_QD, queries = DecoderRecommender(model, sales).ask(history, fold.user_index)
        device = query_QD.device
        query_n = np.repeat(np.arange(len(fold.user_index)), np.diff(fold.target_offsets))
        target_query_n, target_item_n = (
            torch.from_numpy(part.astype(np.int64)).to(device) for part in (query_n, fold.target_item)
        )
        own = QueryPositives.of(queries, target_query_n, target_item_n, model.n_items + 1)
        categories = model.kind_scores(queries)
        return cls(
            own=own,
            query_QI=query_QD @ model.item_vectors_VD[1:].T,
            flat_2I=torch.stack([model.item_bias[1:], model.sales_scores(sales, history.day)[1:]]),
            kinds_QI=None if categories is None else categories.of_items(model.categories_VC[1:]).contiguous(),
            co_purchases=model.companion_scores(queries),
            past_P=None if model.repeat_head is None else model.past_logits(query_QD, queries, sales),
        )

    def loss(self, fitted: Tensor, *, exclude_seen: bool) -> Tensor:
        """Return the loss of the targets with parts weighed by ``fitted`` (7,): joint, or of new ones among new."""
        factors = fitted[:-1].exp()
        place = self.own.query_P, self.own.item_P - 1
        query_P, flat_2P = self.query_QI[place], self.flat_2I[:, place[1]]
        kinds_P = torch.zeros_like(query_P) if self.kinds_QI is None else self.kinds_QI[place]
        with_P = torch.zeros_like(query_P)
        if self.co_purchases is not None:
            with_P = self.co_purchases.of_pairs(self.own.query_P, self.own.item_P)
        own_P = factors[:-1] @ torch.stack([query_P, *flat_2P, kinds_P, with_P])
        if self.past_P is not None:
            own_P = torch.cat([factors[-1] * self.past_P + fitted[-1], own_P[self.own.n_past :]])
        other_Q, slope_5Q = self._others(factors.detach())
        other_Q = other_Q + (factors - factors.detach())[:-1] @ slope_5Q
        window = WindowLoss.of(own_P, self.own.query_P, self.own.n_past, self.own.target_n, other_Q)
        return window.discoveries if exclude_seen else window.joint

    @torch.no_grad()
    def _others(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log of the sum of exp(logit) (Q,) over all items but the own ones, and its slopes (5, Q).

        A slope is the mean of a part under the softmax. By hand: automatic differentiation would pass over tables of
        customers and items three times as often.
        """
        flat_I = factors[1:3] @ self.flat_2I
        other, slope = [], []
        for block in self._blocks:
            query_BI, kinds_BI = self.query_QI[block.rows], None if self.kinds_QI is None else self.kinds_QI[block.rows]
            logits_BI = torch.addcmul(flat_I, factors[0], query_BI)
            if kinds_BI is not None:
                logits_BI.addcmul_(factors[3], kinds_BI)
            logits_BI[block.given] += factors[4] * block.given_score_C
            logits_BI[block.own] = -torch.inf
            # Of a small catalogue a customer may own everything: the log of nothing is then very low, but has a slope.
            highest_B1 = logits_BI.amax(-1, keepdim=True).clamp(min=torch.finfo(logits_BI.dtype).min)
            weight_BI = logits_BI.sub_(highest_B1).exp_()
            total_B = weight_BI.sum(-1).clamp(min=torch.finfo(weight_BI.dtype).tiny)
            query_B, kinds_B = (
                torch.zeros_like(total_B) if part is None else torch.linalg.vecdot(weight_BI, part)
                for part in (query_BI, kinds_BI)
            )
            given_B = torch.zeros_like(total_B)
            given_B.index_add_(0, block.given[0], weight_BI[block.given] * block.given_score_C)
            other.append(total_B.log() + highest_B1.squeeze(-1))
            slope.append(torch.stack([query_B, *(self.flat_2I @ weight_BI.T), kinds_B, given_B]) / total_B)
        return torch.cat(other), torch.cat(slope, dim=-1)

    @cached_property
    def _blocks(self) -> list["_Block"]:
        own_query, own_item = self.own.query_P, self.own.item_P - 1
        none = own_query.new_zeros(0)
        given_query, given_item, given_score = none, none, self.query_QI.new_zeros(0)
        if self.co_purchases is not None:
            given_query, given_item = self.co_purchases.query_C, self.co_purchases.item_C - 1
            given_score = self.co_purchases.score_C
        blocks = []
        places = (_places_by_block(query, self.n_queries) for query in (own_query, given_query))
        for first, own, given in zip(range(0, self.n_queries, _BLOCK), *places, strict=True):
            blocks.append(
                _Block(
                    rows=slice(first, first + _BLOCK),
                    own=(own_query[own] - first, own_item[own]),
                    given=(given_query[given] - first, given_item[given]),
                    given_score_C=given_score[given],
                )
            )
        return blocks


@dataclass(frozen=True)
class _Block:
    """Some of a chunk's queries, at most ``_BLOCK``; their own items, and those given something for going with these.

    A pair is the query's row in the block (n,) int64 and the item's column (n,) int64.
    """

    rows: slice
    own: tuple[Tensor, Tensor]
    given: tuple[Tensor, Tensor]
    given_score_C: Tensor


def _places_by_block(query_P: Tensor, n_queries: int) -> tuple[Tensor, ...]:
    """Return for each ``_BLOCK`` queries the places of their pairs, given the query (P,) int64 of each pair."""
    n_blocks = -(-n_queries // _BLOCK)
    counts = torch.bincount(query_P // _BLOCK, minlength=n_blocks).tolist()
    return torch.split(torch.argsort(query_P, stable=True), counts)
