"""Why the decoder recommends an item: the terms of its logit, and the past purchases that carried it.

    logit = bias + Σ component(query, item)

The terms are those of ``PurchaseModel.term_names``. That of the past items is what they put in the place of all others,
less these; 0 for what is new to the user. A softmax does not see what is added to all items alike: a term *raises* an
item by as much as it lies above its mean over the catalogue.

The reason is the first that holds (``docs/model.md`` says when). *promoted* and *rising* are said only where something
is known of the user, and compare the terms of items that are new, sales without promotions among them.

A repeat names the purchases of the item itself. Anything else names the past item without which the item's logit would
be lowest, and others with at least ``LEAST_OF_FIRST`` of that effect, ``N_NAMED`` in all: the decoder is asked again
without the item among the events that it reads, all other components without it in the whole history.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recsys.data.purchases import Histories
from recsys.modeling.decoder.components.past_items import PastItemComponent
from recsys.modeling.decoder.components.sales import SalesComponent
from recsys.modeling.decoder.scores import PairScores
from recsys.modeling.explain.leave_one_out import Listed, items_read, lost_logits
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.schema import REASONS

#: Past items that a reason names at most, and how much of the first one's effect the others have at least.
N_NAMED, LEAST_OF_FIRST = 3, 1 / 3


@dataclass(frozen=True)
class Reasons:
    """Why each of K items is recommended to each of Q users, by N terms and J = ``N_NAMED`` past items, 0 for none."""

    item: np.ndarray  # (Q, K) int32 item_index
    reason: np.ndarray  # (Q, K) int8 position in schema.REASONS
    term_names: tuple[str, ...]
    terms: np.ndarray  # (Q, K, N) float32, named in term_names: they sum to the logit
    promotion_contribution: np.ndarray  # (Q, K) float32: what the logit owes to promotions planned for the week asked
    count: np.ndarray  # (Q, K) int64: how often the user had bought the item
    past_item: np.ndarray  # (Q, K, J) int32 item_index
    past_day: np.ndarray  # (Q, K, J) int32 day of its latest purchase
    #: (Q, K, J) float32, falling. Of a repeat, what the component of past items gave of all that raised the item; else
    #: what leaving the past item out takes from the logit, of what all past items take one by one.
    share: np.ndarray


def explain(decoder: DecoderRecommender, histories: Histories, item: np.ndarray, *, chunk: int = 64) -> Reasons:
    """Return why ``item`` (Q, K) int32 item_index is recommended for each of ``histories`` (Q), at their day."""
    model = decoder.model
    # A chunk is as wide as its longest history.
    order = np.argsort(np.minimum(histories.n_events, model.config.max_length), kind="stable")
    chunks = (order[begin : begin + chunk] for begin in range(0, max(len(order), 1), chunk))
    with decoder.asking():
        parts = [_explain(decoder, histories.of(some), item[some]) for some in chunks]
    places = np.argsort(order)
    reason, *others = (np.concatenate(columns)[places] for columns in zip(*parts, strict=True))
    return Reasons(item, reason, model.term_names, *others)


def _explain(decoder: DecoderRecommender, histories: Histories, item: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return what :class:`Reasons` holds from ``reason`` on, but for ``term_names``."""
    model, snapshot, reading = decoder.model, decoder.snapshots.at(histories.day), decoder.read(histories)
    item_QK = torch.from_numpy(item.astype(np.int64)).to(model.item_bias.device)
    listed = Listed(model, histories, snapshot, reading, model.terms(reading.query_QD, reading.queries), item_QK)
    terms, raised = _terms(listed)
    promotion_QV = model.promotion_contribution(reading.queries)
    promotion_QK = promotion_QV.gather(1, item_QK)
    raised_by_promotion = (promotion_QK - promotion_QV[:, 1:].mean(1, keepdim=True)).float().cpu().numpy()
    promotion = promotion_QK.float().cpu().numpy()

    def raised_by(name: str) -> np.ndarray:
        return raised[..., model.term_names.index(name)] if name in model.term_names else np.zeros_like(promotion)

    past_item, share = _influences(listed)
    count, _ = _bought(histories, item)
    is_repeat = count > 0
    above = np.maximum(raised, 0).sum(-1)
    past_item[is_repeat], share[is_repeat] = 0, 0
    past_item[is_repeat, 0] = item[is_repeat]
    share[is_repeat, 0] = (np.maximum(raised_by(PastItemComponent.name), 0) / np.maximum(above, 1e-9))[is_repeat]
    _, past_day = _bought(histories, past_item)

    is_known = (histories.n_events > 0)[:, None]
    by_sales = raised_by(SalesComponent.name)
    not_compared = (SalesComponent.name, PastItemComponent.name)
    by_others = raised[..., [name not in not_compared for name in model.term_names]].max(-1)
    by_all_else = np.maximum(np.maximum(by_others, by_sales - raised_by_promotion), 0)
    sells_more = snapshot.item_features[item, snapshot.feature_names.index("trend")] > 0
    groups = snapshot.codes.groups
    holds = {
        "repeat": is_repeat,
        "promoted": is_known & (promotion > 0) & (raised_by_promotion > by_all_else),
        "rising": is_known & (by_sales > np.maximum(by_others, 0)) & sells_more,
        "variant": ((groups[past_item] == groups[item][..., None]) & (past_item > 0)).any(-1),
        "often_after": past_item[..., 0] > 0,
    }
    first = np.select(list(holds.values()), [REASONS.index(name) for name in holds], REASONS.index("popular"))
    return first.astype(np.int8), terms, promotion, count, past_item, past_day, share


def _terms(listed: Listed) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms (Q, K, N) float32 of the listed items' logits, and by how much each raises its item."""
    model = listed.model
    scores = [listed.terms.get(name) for name in model.term_names]
    given = dict(zip(model.term_names, map(listed.given_by, scores), strict=True))
    given["bias"] = model.item_bias[listed.item_QK]
    if model.past_items is not None:
        others = sum(given.values(), torch.zeros(()))
        given[PastItemComponent.name] = _put_by_past_items(listed, model.past_items, others)
    mean = {name: one.mean_Q()[:, None] for name, one in listed.terms.items()} | {"bias": model.item_bias[1:].mean()}
    raised = [given[name] - mean.get(name, 0) for name in model.term_names]
    terms_QKN, raised_QKN = (torch.stack(parts, dim=-1) for parts in (list(given.values()), raised))
    return terms_QKN.float().cpu().numpy(), raised_QKN.float().cpu().numpy()


def _put_by_past_items(listed: Listed, component: PastItemComponent, replaced_QK: Tensor) -> Tensor:
    """Return what the past items' own logits put in the place of ``replaced_QK``, less these; 0 for other items."""
    queries = listed.reading.queries
    if not len(queries.past_query_P):
        return torch.zeros_like(replaced_QK)
    logit_P = component.logits(queries)
    own = PairScores(queries.past_query_P, queries.past_item_P, logit_P, len(queries), listed.n_rows)
    is_past_QK = listed.given_by(replace(own, score_C=torch.ones_like(logit_P))) > 0
    return torch.where(is_past_QK, listed.given_by(own) - replaced_QK, 0)


def _influences(listed: Listed) -> tuple[np.ndarray, np.ndarray]:
    """Return the past items (Q, K, J) int32 whose loss would cost each item most, and their shares float32."""
    row, left_out = items_read(listed)
    lost_PK = lost_logits(listed, row, left_out).clamp(min=0).float().cpu().numpy()
    past_item = np.zeros((*listed.item_QK.shape, N_NAMED), dtype=np.int32)
    share = np.zeros((*listed.item_QK.shape, N_NAMED), dtype=np.float32)
    for query in range(len(past_item)):
        own = slice(*np.searchsorted(row, [query, query + 1]))
        own_PK = lost_PK[own]
        best_JK = np.argsort(-own_PK, axis=0, kind="stable")[:N_NAMED]
        lost_JK = np.take_along_axis(own_PK, best_JK, axis=0)
        named_JK = (lost_JK > 0) & (lost_JK >= LEAST_OF_FIRST * lost_JK[:1])
        past_item[query, :, : len(best_JK)] = np.where(named_JK, left_out[own][best_JK], 0).T
        share[query, :, : len(best_JK)] = np.where(named_JK, lost_JK / np.maximum(own_PK.sum(0), 1e-9), 0).T
    return past_item, share


def _bought(histories: Histories, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each user bought ``item`` (Q, …) int64, and the day int32 of the last time; 0 for never."""
    log, (row, position) = histories.log, histories.events()
    n_rows = log.n_items + 1
    # The first key, of nobody, keeps the table from being empty.
    keys = np.concatenate([[-1], row * n_rows + log.item[position]])
    key, place, count = np.unique(keys, return_inverse=True, return_counts=True)
    last_day = np.zeros(len(key), dtype=np.int32)
    np.maximum.at(last_day, place[1:], log.day[position])
    wanted = np.arange(len(item)).reshape(-1, *[1] * (item.ndim - 1)) * n_rows + item
    found = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    is_pair = key[found] == wanted
    return np.where(is_pair, count[found], 0), np.where(is_pair, last_day[found], 0)
