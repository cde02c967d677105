"""Temperatures of the components, fitted to the validation window: what was learned by heart weighs less.

Components trained for many epochs on the same windows become overconfident. Each term of the logit therefore gets one
factor, and past items one shift, by which the held-out purchases become most likely: temperature scaling (Guo et al.,
2017) with a temperature a component, or stacked generalisation (Wolpert, 1992) of the components. The factors are then
folded into the weights of the model, so nothing that asks it needs to know of them.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.evaluation.splits import Fold
from recsys.modeling.decoder.components import SEQUENCE, Component
from recsys.modeling.decoder.losses import WindowLoss
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.decoder import Reading
from recsys.modeling.training.negatives import MixedSampler, QueryPositives

#: How far each may move with one user to learn from: with a handful of them nothing moves far.
_PRIOR_DEVIATION = 1.0
#: Items over which the catalogue is summed, drawn where it holds more.
_MOST_ITEMS = 2048


def temperature_names(model: PurchaseModel) -> tuple[str, ...]:
    """Return what each temperature is of: the terms of the logit, and the shift of past items."""
    return (*model.term_names, "past_shift")


def fit_temperatures(
    model: PurchaseModel,
    read: Sequence[tuple[Reading, Fold]],
    sampler: MixedSampler,
    seed: int,
    *,
    exclude_seen: bool = False,
) -> Tensor:
    """Return the logarithms of the factors, and the shift, that make the targets of users that were ``read`` likeliest.

    They are in the order of :func:`temperature_names`, float32; zeros change nothing. Of a large catalogue some items
    are drawn by ``seed``. With ``exclude_seen``, where lists leave out past items and no target is one, these are in
    nobody's way.
    """
    device, n_queries = model.item_bias.device, sum(len(fold.user_index) for _, fold in read)
    item_N, expected_N = torch.arange(1, model.n_items + 1), torch.zeros(model.n_items)
    if model.n_items > _MOST_ITEMS:
        item_N = sampler.sample(_MOST_ITEMS, torch.Generator().manual_seed(seed))
        expected_N = sampler.log_q(item_N) + math.log(_MOST_ITEMS)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        chunks = [_Chunk.from_reading(model, *one, item_N.to(device), expected_N.to(device)) for one in read]
    model.train(was_training)
    fitted = torch.zeros(len(temperature_names(model)), device=device)
    with torch.inference_mode(False), torch.enable_grad():
        fitted.requires_grad_()
        optimizer = torch.optim.LBFGS(
            [fitted], max_iter=20, tolerance_grad=1e-5, tolerance_change=1e-6, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimizer.zero_grad()
            losses = [fitted.square().sum() / (2 * _PRIOR_DEVIATION**2 * n_queries)]
            losses[0].backward()  # type: ignore[no-untyped-call]
            for chunk in chunks:
                losses.append(chunk.loss(fitted, exclude_seen=exclude_seen) * (chunk.n_queries / n_queries))
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
        model.past_items.shift_(float(fitted[-1]))
    model.train(model.training)  # forgets the vectors that it kept
    return model


@dataclass(frozen=True)
class _Chunk:
    """Terms of the logits at Q queries of a fold: T terms, N items, P own items, past ones first."""

    own: QueryPositives
    terms_TQN: Tensor
    terms_TP: Tensor  # of own items
    past_P: Tensor | None  # (past,) logits of the past items' own component
    blocked_QN: Tensor  # bool, own items
    expected_N: Tensor  # log of how often each item is drawn

    @property
    def n_queries(self) -> int:
        return self.terms_TQN.shape[1]

    @classmethod
    def from_reading(
        cls, model: PurchaseModel, reading: Reading, fold: Fold, item_N: Tensor, expected_N: Tensor
    ) -> Self:
        queries, device = reading.queries, item_N.device
        query_n = np.repeat(np.arange(len(fold.user_index)), np.diff(fold.target_offsets))
        targets = torch.from_numpy(np.stack([query_n, fold.target_item]).astype(np.int64)).to(device)
        own = QueryPositives.from_targets(queries, targets[0], targets[1], model.n_items + 1)
        terms = model.terms(reading.query_QD, queries)
        terms_TQN = torch.zeros(len(model.term_names), len(queries), len(item_N), device=device)
        terms_TP = torch.zeros(len(model.term_names), len(own.item_P), device=device)
        for number, name in enumerate(model.term_names):
            if name == "bias":
                terms_TQN[number], terms_TP[number] = model.item_bias[item_N], model.item_bias[own.item_P]
            elif name in terms:
                terms_TQN[number] = terms[name].of_items(item_N)
                terms_TP[number] = terms[name].of_pairs(own.query_P, own.item_P)
        past_P = None if model.past_items is None else model.past_items.logits(queries)
        return cls(own, terms_TQN, terms_TP, past_P, own.contains(item_N, len(queries)), expected_N)

    def loss(self, fitted: Tensor, *, exclude_seen: bool) -> Tensor:
        """Return the loss of the targets with terms scaled by ``fitted``: joint, or of new ones among new."""
        factors, own = fitted[:-1].exp(), self.own
        own_P = factors @ self.terms_TP
        if self.past_P is not None:
            own_P = torch.cat([factors[-1] * self.past_P + fitted[-1], own_P[own.n_past :]])
        logits_QN = torch.tensordot(factors, self.terms_TQN, 1) - self.expected_N
        # Of a small catalogue a user may own everything: the log of nothing is then very low, but has a slope.
        others_Q = logits_QN.masked_fill(self.blocked_QN, torch.finfo(logits_QN.dtype).min / 2).logsumexp(-1)
        window = WindowLoss.from_logits(own_P, own.query_P, own.n_past, own.target_n, others_Q)
        return window.discoveries if exclude_seen else window.joint
