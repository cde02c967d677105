"""Why the decoder recommends an item: the terms of its logit, and the past purchases that carried it.

    logit = query · vector + bias + sales head + kind head + co_purchase head + repeat head

The kind head's term is the sum of what it gives to the item's categories. Where no date is asked, what neighbours give
stands for the co_purchase head. The last term is what the repeat head puts in the
place of the five others, less these: 0 for what is new to the customer. A softmax does not see what is added to all
items alike, so a term *raises* an item by as much as it lies above its mean over the catalogue.

The kind of a reason is the first that holds:

    repeat       the customer had bought the item
    promoted     something is known of the customer, and what the seller plans for the week asked raised it more than
                 any of the five other terms, the sales head's without it
    rising       of the five other terms the sales head raised it most, and it sold more in the last 7 days than in an
                 average week of the last 28
    variant      it shares its group (``Purchases.groups``) with a purchase that is named
    often_after  a purchase is named
    popular      no purchase raised it, or nothing is known of the customer, who is then shown the week's best sellers

A repeat names the purchases of the item itself. Anything else names the past item without which the item's logit would
be lowest, and others with at least ``LEAST_OF_FIRST`` of that effect, ``N_NAMED`` in all. The effect is found by
leaving out: the decoder is asked again with all events of one past item cut out of the events that it reads (the newest
``max_length``), the gaps and the wait closed over them, and the kind and co_purchase heads with all purchases of the item
cut out of the whole history. What these are told of the customer as a whole (how many purchases and trips, how long
since the last, how far apart) stays as it was. Of more than ``MOST_LEFT_OUT`` items there, as many are tried: those
with the largest product of gradient and input, and share of what these heads give, which costs one pass for all, but
says what an infinitely small change does, not what becomes of the list without the purchase.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.data.purchases import Purchases, event_positions
from recsys.modeling.decoder.inputs import Queries, Sequences, newest_events
from recsys.modeling.explain.leave_one_out import (
    AblatedHistories,
    category_attribution,
    co_purchase_attribution,
    companions_of_listed,
    companions_without,
    kinds_of_listed,
    kinds_without,
    queries_without,
)
from recsys.modeling.recommenders.base import History, on_device
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.schema import REASON_KINDS
from recsys.signals.sales import ITEM_FEATURES

TERMS = ("query · vector", "bias", "sales head", "kind head", "co_purchase head", "repeat head")
_SALES = TERMS.index("sales head")
_NOT_SALES = [TERMS.index(name) for name in ("query · vector", "bias", "kind head", "co_purchase head")]
#: Past items that a reason names at most, and how much of the first one's effect the others have at least.
N_NAMED, LEAST_OF_FIRST = 3, 1 / 3
_REPEAT, _PROMOTED, _RISING, _VARIANT, _OFTEN_AFTER, _POPULAR = range(len(REASON_KINDS))
#: Past items that are left out one by one, at most.
MOST_LEFT_OUT = 24


@dataclass(frozen=True)
class Reasons:
    """Why each of K items is recommended to each of Q users.

    Shapes: J = ``N_NAMED`` past items, those with the largest share first, 0 after the last.
    """

    user_index: np.ndarray  # (Q,) int32
    item: np.ndarray  # (Q, K) int32 item_index
    kind: np.ndarray  # (Q, K) int8 position in schema.REASON_KINDS
    terms: np.ndarray  # (Q, K, 6) float32, as in TERMS: they sum to the logit
    planned: np.ndarray  # (Q, K) float32: what the logit owes to promotions planned for the week asked
    count: np.ndarray  # (Q, K) int64: how often the customer had bought the item
    past_item: np.ndarray  # (Q, K, J) int32 item_index
    past_day: np.ndarray  # (Q, K, J) int32 day of its latest purchase
    #: (Q, K, J) float32. Of a repeat, what the repeat head gave of all that raised the item; else what leaving the past
    #: item out takes from the logit, of what all past items with such an effect take one by one.
    share: np.ndarray


def explain(
    recommender: DecoderRecommender, history: History, user_index: np.ndarray, item: np.ndarray, *, chunk: int = 64
) -> Reasons:
    """Return why ``item`` (Q, K) int32 item_index is recommended to ``user_index`` (Q,) at the history's date.

    What is said of a customer does not depend on who else is asked about, nor of an item on what else is listed.
    """
    model = recommender.model
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        parts = [
            _explain(recommender, history, user_index[begin : begin + chunk], item[begin : begin + chunk])
            for begin in range(0, len(user_index), chunk)
        ]
    model.train(was_training)
    joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Reasons(np.asarray(user_index, dtype=np.int32), item, *joined)


def _explain(
    recommender: DecoderRecommender, history: History, users: np.ndarray, item: np.ndarray
) -> tuple[np.ndarray, ...]:
    data, end = history.data, history.end[users]
    record = _Record.of(data, users, end)
    count, _ = record.find(np.arange(len(users))[:, None], item)
    query_QD, terms, raised, planned, by_plan = _terms(recommender, history, users, item, count > 0)
    past_item, share = _influences(recommender, history, users, item, query_QD)
    is_repeat = count > 0
    past_item[is_repeat], share[is_repeat] = 0, 0
    past_item[..., 0] = np.where(is_repeat, item, past_item[..., 0])
    above = np.maximum(raised, 0)
    repeat_share = above[..., -1] / np.maximum(above.sum(-1), 1e-9)
    share[..., 0] = np.where(is_repeat, repeat_share, share[..., 0])
    past_day = record.find(np.arange(len(users))[:, None, None], past_item)[1]
    known = (end > data.offsets[users])[:, None]
    trend_V = _sales_of(recommender, history)[:, ITEM_FEATURES.index("trend")]
    unplanned = np.maximum(raised[..., _NOT_SALES].max(-1), raised[..., _SALES] - by_plan)
    promoted = known & (planned > 0) & (by_plan > np.maximum(unplanned, 0))
    rising = known & (raised[..., _SALES] > np.maximum(raised[..., _NOT_SALES].max(-1), 0)) & (trend_V[item] > 0)
    of_group = ((data.groups[past_item] == data.groups[item][..., None]) & (past_item > 0)).any(-1)
    kind = np.select(
        [is_repeat, promoted, rising, of_group, past_item[..., 0] > 0],
        [_REPEAT, _PROMOTED, _RISING, _VARIANT, _OFTEN_AFTER],
        _POPULAR,
    )
    return kind.astype(np.int8), terms, planned, count, past_item, past_day, share


def _sales_of(recommender: DecoderRecommender, history: History) -> np.ndarray:
    """Return the sales features (V, F) at the date."""
    tables, row = recommender.sales.tables([history.day])
    sales: np.ndarray = tables[row[0]]
    return sales


@dataclass(frozen=True)
class _Record:
    """What each of some customers bought, item by item. P pairs of customer and item, sorted."""

    key: np.ndarray  # (P,) int64: row · n_rows + item
    count: np.ndarray  # (P,) int64
    last_day: np.ndarray  # (P,) int32
    n_rows: int

    @classmethod
    def of(cls, data: Purchases, users: np.ndarray, end: np.ndarray) -> "_Record":
        """Count the events ``offsets[u]:end`` of each of ``users`` (Q,)."""
        row, position = event_positions(data.offsets[users], end)
        key, place, count = np.unique(
            row * (data.n_items + 1) + data.item[position], return_inverse=True, return_counts=True
        )
        last_day = np.zeros(len(key), dtype=np.int32)
        np.maximum.at(last_day, place, data.day[position])
        return cls(key, count, last_day, data.n_items + 1)

    def find(self, row: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how often the customer at ``row`` bought ``item``, and the day of the last time; 0 for never."""
        wanted = row * self.n_rows + item
        if not len(self.key):
            return np.zeros(wanted.shape, dtype=np.int64), np.zeros(wanted.shape, dtype=np.int32)
        place = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        found = self.key[place] == wanted
        return np.where(found, self.count[place], 0), np.where(found, self.last_day[place], 0)


def _asked(recommender: DecoderRecommender, history: History, users: np.ndarray) -> tuple[Sequences, Queries]:
    model = recommender.model
    day = np.full(len(users), history.day)
    sequences, queries = newest_events(history.data, users, history.end[users], day, model.config)
    device = model.item_bias.device
    return on_device(sequences, device), on_device(queries, device)


def _terms(
    recommender: DecoderRecommender, history: History, users: np.ndarray, item: np.ndarray, is_past: np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the queries (Q, D), the terms (Q, K, 6) of each logit, and by how much each raises the item (Q, K, 6).

    And what the logit owes to promotions planned for the week, and by how much that raises the item, (Q, K) each.
    """
    model = recommender.model
    device = model.item_bias.device
    sequences, queries = _asked(recommender, history, users)
    query_QD = model.query(model.states(sequences), queries)
    item_QK = torch.from_numpy(item.astype(np.int64)).to(device)
    logit_QK = model.catalogue_logits(query_QD, queries, recommender.sales).gather(1, item_QK)
    sales_V = model.sales_scores(recommender.sales, history.day)
    categories = model.kind_scores(queries)
    mean_of_kinds_Q = logit_QK.new_zeros(len(users))
    if categories is not None:
        mean_of_kinds_Q = categories.of_items(model.categories_VC[1:]).mean(1)
    co_purchases = model.companion_scores(queries)
    mean_of_companions_Q = logit_QK.new_zeros(len(users))
    if co_purchases is not None:
        mean_of_companions_Q.index_add_(0, co_purchases.query_C, co_purchases.score_C / model.n_items)
    vectors_VD = model.item_vectors_VD
    columns = [
        torch.einsum("qd,qkd->qk", query_QD, vectors_VD[item_QK]),
        model.item_bias[item_QK],
        sales_V[item_QK],
        kinds_of_listed(model, queries, item_QK),
        companions_of_listed(model, queries, item_QK),
    ]
    rest_QK = logit_QK - torch.stack(columns).sum(0)
    columns.append(torch.where(torch.from_numpy(is_past).to(device), rest_QK, 0))
    means = [
        (query_QD @ vectors_VD[1:].mean(0))[:, None],
        model.item_bias[1:].mean(),
        sales_V[1:].mean(),
        mean_of_kinds_Q[:, None],
        mean_of_companions_Q[:, None],
        torch.zeros((), device=device),
    ]
    raised = torch.stack([column - mean for column, mean in zip(columns, means, strict=True)], dim=-1)
    told_VF = torch.from_numpy(_sales_of(recommender, history)).to(device)
    planned_QV = model.promotion_contribution(query_QD, queries, told_VF)
    planned_QK = planned_QV.gather(1, item_QK)
    parts = (torch.stack(columns, dim=-1), raised, planned_QK, planned_QK - planned_QV[:, 1:].mean(1, keepdim=True))
    terms, raised_by, planned, raised_by_plan = (part.float().cpu().numpy() for part in parts)
    return query_QD, terms, raised_by, planned, raised_by_plan


def _influences(
    recommender: DecoderRecommender, history: History, users: np.ndarray, item: np.ndarray, query_QD: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return the past items (Q, K, J) int32 whose loss would cost each item most, and their shares float32."""
    past_item = np.zeros((*item.shape, N_NAMED), dtype=np.int32)
    share = np.zeros((*item.shape, N_NAMED), dtype=np.float32)
    promising_QV = _promising(recommender, history, users, item)
    left = [
        AblatedHistories.each(history, user, recommender.model.config, promise_V, MOST_LEFT_OUT)
        for user, promise_V in zip(users, promising_QV, strict=True)
    ]
    lost_PK = _losses(recommender, history, users, item, query_QD, left)
    begin = 0
    for row, one in enumerate(left):
        own_PK = lost_PK[begin : begin + len(one.item)]
        begin += len(one.item)
        best_JK = np.argsort(-own_PK, axis=0, kind="stable")[:N_NAMED]
        lost_JK = np.take_along_axis(own_PK, best_JK, axis=0)
        named_JK = (lost_JK > 0) & (lost_JK >= LEAST_OF_FIRST * lost_JK[:1])
        past_item[row, :, : len(best_JK)] = np.where(named_JK, one.item[best_JK], 0).T
        share[row, :, : len(best_JK)] = np.where(named_JK, lost_JK / np.maximum(own_PK.sum(0), 1e-9), 0).T
    return past_item, share


def _losses(
    recommender: DecoderRecommender,
    history: History,
    users: np.ndarray,
    item: np.ndarray,
    query_QD: Tensor,
    left: list[AblatedHistories],
) -> np.ndarray:
    """Return what each listed item loses (P, K) with each past item left out, at least 0; as for new items."""
    model = recommender.model
    device = query_QD.device
    _, queries = _asked(recommender, history, users)
    row_P = torch.from_numpy(np.repeat(np.arange(len(left)), [len(one.item) for one in left])).to(device)
    left_P = torch.from_numpy(np.concatenate([one.item for one in left]).astype(np.int64)).to(device)
    item_QK = torch.from_numpy(item.astype(np.int64)).to(device)
    lost_PD = query_QD[row_P] - queries_without(model, left)
    lost_PK = torch.einsum("pd,pkd->pk", lost_PD, model.item_vectors_VD[item_QK][row_P])
    if model.kind_head is not None:
        whole_QK = kinds_of_listed(model, queries, item_QK)
        lost_PK = lost_PK + whole_QK[row_P] - kinds_without(model, history, queries, row_P, left_P, item_QK)
    if model.gives_companions:
        whole_QK = companions_of_listed(model, queries, item_QK)
        lost_PK = lost_PK + whole_QK[row_P] - companions_without(model, history, queries, row_P, left_P, item_QK)
    lost: np.ndarray = lost_PK.clamp(min=0).float().cpu().numpy()
    return lost


def _promising(recommender: DecoderRecommender, history: History, users: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return about what each item (Q, V + 1) of each user's newest events adds to the sum of the listed logits.

    Gradient · input of its events, and what :func:`category_attribution` and :func:`co_purchase_attribution` say.
    """
    model = recommender.model
    with torch.inference_mode(False), torch.enable_grad():
        sequences, queries = _asked(recommender, history, users)
        listed_QK = torch.from_numpy(item.astype(np.int64)).to(model.item_bias.device)
        target_QD = model.item_vectors_VD[listed_QK].sum(1).detach().clone()
        input_BTD = model.items(sequences.item_BT).detach().requires_grad_()
        query_QD = model.query(model.decoder(input_BTD, sequences.gap_days_BT), queries)
        (gradient_BTD,) = torch.autograd.grad((query_QD * target_QD).sum(), input_BTD)
    promise_BT = (gradient_BTD * input_BTD.detach()).sum(-1)
    promise_QV = promise_BT.new_zeros(len(users), model.n_items + 2)
    promise_QV.scatter_add_(1, sequences.item_BT, promise_BT)  # of the start mark and padding as well: nobody looks
    past = queries.past_query_P, queries.past_item_P
    promise_QV.index_put_(past, category_attribution(model, queries, listed_QK), accumulate=True)
    promise_QV.index_put_(past, co_purchase_attribution(model, history, queries, listed_QK), accumulate=True)
    promise: np.ndarray = promise_QV.float().cpu().numpy()
    return promise
