"""Temperatures of the components, fitted to the validation window: what was learned by heart weighs less.

Components trained for many epochs on the same windows become overconfident. Each term of the logit therefore gets one
factor, and past items one shift, by which the held-out purchases become most likely: temperature scaling (Guo et al.,
2017) with a temperature a component, or stacked generalisation (Wolpert, 1992) of the components. The factors are then
folded into the weights of the model, so nothing that asks it needs to know of them.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.data.purchases import Histories
from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.components import SEQUENCE, Component
from recsys.modeling.decoder.losses import WindowLoss
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.decoder.scores import CategoryScores, DayScores, PairScores, ProductScores, Scores
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.modeling.training.negatives import QueryPositives

#: How far each may move with one user to learn from: with a handful of them nothing moves far.
_PRIOR_DEVIATION = 1.0
_MOST_QUERIES = 1024
_FEWEST_QUERIES = 256
#: Numbers of a (query, item) table at most, some 256 MiB; three of them are held.
_MOST_ENTRIES = 1 << 26
_CHUNK = 128
#: So many queries' rows of such a table fit into a core's cache while a dozen passes go over them.
_BLOCK = 8


def temperature_names(model: PurchaseModel) -> tuple[str, ...]:
    """Return what each temperature is of: the terms of the logit, and the shift of past items."""
    return (*model.term_names, "past_shift")


def fit_temperatures(
    decoder: DecoderRecommender, histories: Histories, fold: Fold, seed: int, *, exclude_seen: bool = False
) -> Tensor:
    """Return the logarithms of the factors, and the shift, that make the targets of ``fold`` most likely.

    They are in the order of :func:`temperature_names`, float32; zeros change nothing. Of many users some are drawn by
    ``seed``. With ``exclude_seen``, where lists leave out past items and no target is one, these are in nobody's way.
    """
    model = decoder.model
    n_queries = max(min(_MOST_QUERIES, _MOST_ENTRIES // model.n_items), _FEWEST_QUERIES)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(fold.user_index))[:n_queries])
    was_training = model.training
    model.eval()
    with torch.no_grad():
        parts = (chosen[begin : begin + _CHUNK] for begin in range(0, len(chosen), _CHUNK))
        chunks = [_Chunk.from_users(decoder, histories.of(rows), fold.of_users(rows)) for rows in parts]
    model.train(was_training)
    fitted = torch.zeros(len(temperature_names(model)), device=model.item_bias.device)
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
    result = fitted.detach()
    return result if bool(torch.isfinite(result).all()) else torch.zeros_like(result)


@torch.no_grad()
def fold_in(model: PurchaseModel, fitted: Tensor, state: dict[str, Tensor] | None = None) -> PurchaseModel:
    """Return a copy of ``model``, of the weights ``state`` if given, with the ``fitted`` factors multiplied in."""
    model = copy.deepcopy(model)
    if state is not None:
        model.load_state_dict(state)
    names = temperature_names(model)
    factor = dict(zip(names[:-1], fitted[:-1].exp().tolist(), strict=True))
    model.item_bias.mul_(factor["bias"])
    if model.decoder is not None:
        model.decoder.norm.weight.mul_(factor[SEQUENCE])
        model.decoder.norm.bias.mul_(factor[SEQUENCE])
    for name, component in model.components.items():
        if isinstance(component, Component):
            component.scale_(factor[name])
    if model.past_items is not None:
        model.past_items.unscale_query_(factor.get(SEQUENCE, 1.0))
        model.past_items.shift_(float(fitted[-1]))
    model.train(model.training)  # forgets the vectors that it kept
    return model


@dataclass(frozen=True)
class _Chunk:
    """Terms of the logits at Q queries of a fold: T terms, I items without padding, P own items, past ones first."""

    own: QueryPositives
    n_queries: int
    flat_TI: Tensor  # bias and sales: the same for all queries, since a fold asks at one day; 0 for other terms
    tables: dict[int, Tensor]  # term → (Q, I)
    pairs: dict[int, PairScores]  # term → scores of those items that get any
    past_P: Tensor | None  # (past,) logits of the past items' own component

    @classmethod
    def from_users(cls, decoder: DecoderRecommender, histories: Histories, fold: Fold) -> Self:
        model = decoder.model
        reading = decoder.read(histories)
        queries, device = reading.queries, model.item_bias.device
        query_n = np.repeat(np.arange(len(fold.user_index)), np.diff(fold.target_offsets))
        target_query_n, target_item_n = (
            torch.from_numpy(part.astype(np.int64)).to(device) for part in (query_n, fold.target_item)
        )
        place = {name: number for number, name in enumerate(model.term_names)}
        flat_TI = torch.zeros(len(place), model.n_items, device=device)
        flat_TI[place["bias"]] = model.item_bias[1:]
        tables, pairs = {}, {}
        for name, scores in model.terms(reading.query_QD, queries).items():
            if isinstance(scores, DayScores):
                flat_TI[place[name]] = scores.score_SV[0, 1:]
            elif isinstance(scores, PairScores):
                pairs[place[name]] = scores
            else:
                tables[place[name]] = _table(scores, len(queries), model.n_items)
        return cls(
            own=QueryPositives.from_targets(queries, target_query_n, target_item_n, model.n_items + 1),
            n_queries=len(queries),
            flat_TI=flat_TI,
            tables=tables,
            pairs=pairs,
            past_P=None if model.past_items is None else model.past_items.logits(queries, reading.query_QD),
        )

    def loss(self, fitted: Tensor, *, exclude_seen: bool) -> Tensor:
        """Return the loss of the targets with terms scaled by ``fitted``: joint, or of new ones among new."""
        factors = fitted[:-1].exp()
        query_P, item_P = self.own.query_P, self.own.item_P - 1
        terms_TP = self.flat_TI[:, item_P]
        for term, table_QI in self.tables.items():
            terms_TP[term] = table_QI[query_P, item_P]
        for term, scores in self.pairs.items():
            terms_TP[term] = scores.of_pairs(query_P, self.own.item_P)
        own_P = factors @ terms_TP
        if self.past_P is not None:
            own_P = torch.cat([factors[-1] * self.past_P + fitted[-1], own_P[self.own.n_past :]])
        other_Q, slope_TQ = self._others(factors.detach())
        other_Q = other_Q + (factors - factors.detach()) @ slope_TQ
        window = WindowLoss.from_logits(own_P, query_P, self.own.n_past, self.own.target_n, other_Q)
        return window.discoveries if exclude_seen else window.joint

    @torch.no_grad()
    def _others(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log of the sum of exp(logit) (Q,) over all items but the own ones, and its slopes (T, Q).

        A slope is the mean of a term under the softmax. By hand: automatic differentiation would pass over tables of
        users and items three times as often.
        """
        flat_I = factors @ self.flat_TI
        other, slope = [], []
        for block in self._blocks:
            logits_BI = flat_I.expand(block.rows.stop - block.rows.start, -1)
            for number, (term, table_QI) in enumerate(self.tables.items()):
                # The first makes a table of its own, to which the others are added in place.
                add = logits_BI.addcmul_ if number else logits_BI.addcmul
                logits_BI = add(factors[term], table_QI[block.rows])
            logits_BI = logits_BI if self.tables else logits_BI.clone()
            for term, (place, score_C) in block.pairs.items():
                logits_BI[place] += factors[term] * score_C
            logits_BI[block.own] = -torch.inf
            # Of a small catalogue a user may own everything: the log of nothing is then very low, but has a slope.
            highest_B1 = logits_BI.amax(-1, keepdim=True).clamp(min=torch.finfo(logits_BI.dtype).min)
            weight_BI = logits_BI.sub_(highest_B1).exp_()
            total_B = weight_BI.sum(-1).clamp(min=torch.finfo(weight_BI.dtype).tiny)
            slope_TB = self.flat_TI @ weight_BI.T
            for term, table_QI in self.tables.items():
                slope_TB[term] = torch.linalg.vecdot(weight_BI, table_QI[block.rows])
            for term, (place, score_C) in block.pairs.items():
                slope_TB[term].index_add_(0, place[0], weight_BI[place] * score_C)
            other.append(total_B.log() + highest_B1.squeeze(-1))
            slope.append(slope_TB / total_B)
        return torch.cat(other), torch.cat(slope, dim=-1)

    @cached_property
    def _blocks(self) -> list["_Block"]:
        blocks = []
        for first in range(0, self.n_queries, _BLOCK):
            rows, own = slice(first, min(first + _BLOCK, self.n_queries)), self.own.query_P // _BLOCK == first // _BLOCK
            pairs = {}
            for term, scores in self.pairs.items():
                here = scores.query_C // _BLOCK == first // _BLOCK
                pairs[term] = (scores.query_C[here] - first, scores.item_C[here] - 1), scores.score_C[here]
            blocks.append(_Block(rows, (self.own.query_P[own] - first, self.own.item_P[own] - 1), pairs))
        return blocks


@dataclass(frozen=True)
class _Block:
    """At most ``_BLOCK`` queries; an own item, or a single pair, is a row of the block and a column, int64 each."""

    rows: slice
    own: tuple[Tensor, Tensor]
    pairs: dict[int, tuple[tuple[Tensor, Tensor], Tensor]]


def _table(scores: Scores, n_queries: int, n_items: int) -> Tensor:
    """Return the scores (Q, I) of the catalogue without padding."""
    if isinstance(scores, ProductScores):
        return scores.table()[:, 1:]
    device = scores.score_UQ.device if isinstance(scores, CategoryScores) else None
    return scores.of_items(torch.arange(1, n_items + 1, device=device)).expand(n_queries, -1).contiguous()
