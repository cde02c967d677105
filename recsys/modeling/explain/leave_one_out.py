"""Histories without one of their items: what the decoder asks of them, and what heads give them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys.config import ModelConfig
from recsys.modeling.decoder.inputs import Queries, Sequences, user_features
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import History
from recsys.signals.history import PAST_FEATURES, PastItems, category_history, co_purchases_of

#: Positions that are read at once while items are left out.
_MOST_POSITIONS = 32_768


@dataclass(frozen=True)
class AblatedHistories:
    """A history as the decoder reads it, once for each of its P distinct items, without that item."""

    item: np.ndarray  # (P,) int32 what is left out
    item_PT: np.ndarray  # int64 what is read, as in batches.Sequences
    gap_days_PT: np.ndarray  # int64
    customer_PC: np.ndarray  # int64
    position_P: np.ndarray  # int64 of the last event
    days_until_query_P: np.ndarray  # int64 from that event to the date

    @classmethod
    def each(
        cls, history: History, user: int, reads: ModelConfig, promise_V: np.ndarray, at_most: int
    ) -> "AblatedHistories":
        """Leave out each item of the newest events of ``user``: positions close up, as if it had never been bought.

        Of more than ``at_most`` items, those with the largest ``promise_V``.
        """
        data, begin, end = history.data, int(history.data.offsets[user]), int(history.end[user])
        whole = end - begin < reads.max_length
        first = begin if whole else end - reads.max_length
        item_T, day_T = np.asarray(data.item[first:end]), np.asarray(data.day[first:end])
        distinct = np.unique(item_T)
        if len(distinct) > at_most:
            distinct = np.sort(distinct[np.argsort(-promise_V[distinct], kind="stable")[:at_most]])
        kept_PT = item_T != distinct[:, None]
        order_PT = np.argsort(~kept_PT, axis=1, kind="stable")
        n_kept_P = kept_PT.sum(1)
        real_PT = np.arange(len(item_T)) < n_kept_P[:, None]
        read_PT = np.where(real_PT, item_T[order_PT], 0).astype(np.int64)
        day_PT = day_T[order_PT].astype(np.int64)
        gap_PT = np.zeros_like(read_PT)
        gap_PT[:, 1:] = np.where(real_PT[:, 1:], day_PT[:, 1:] - day_PT[:, :-1], 0)
        last_day_P = day_PT[np.arange(len(distinct)), np.maximum(n_kept_P - 1, 0)]
        wait_P = np.where(n_kept_P > 0, np.maximum(history.day - last_day_P, 0), 0)
        customer_PC = user_features(data, reads)[np.full(len(distinct), user)].astype(np.int64)
        if whole:
            read_PT = np.pad(read_PT, ((0, 0), (1, 0)), constant_values=data.n_items + 1)
            gap_PT = np.pad(gap_PT, ((0, 0), (1, 0)))
        # Of a window full of one item nothing is left: it is read like a history that only begins.
        read_PT[n_kept_P == 0, 0] = data.n_items + 1
        position_P = np.maximum(n_kept_P - (0 if whole else 1), 0)
        return cls(distinct, read_PT, gap_PT, customer_PC, position_P, wait_P)


def queries_without(model: PurchaseModel, left: list[AblatedHistories]) -> Tensor:
    """Return the query (P, D) of each history of ``left``, in order, some positions at a time."""
    device = model.item_bias.device
    length = max((one.item_PT.shape[1] for one in left), default=0)

    def padded(parts: list[np.ndarray]) -> Tensor:
        rows = [np.pad(part, [(0, 0), (0, length - part.shape[1])]) for part in parts]
        return torch.from_numpy(np.concatenate(rows)).to(device)

    item_PT, gap_PT = padded([one.item_PT for one in left]), padded([one.gap_days_PT for one in left])
    customer_PC = torch.from_numpy(np.concatenate([one.customer_PC for one in left])).to(device)
    position_P = torch.from_numpy(np.concatenate([one.position_P for one in left])).to(device)
    wait_P = torch.from_numpy(np.concatenate([one.days_until_query_P for one in left])).to(device)
    rows = max(_MOST_POSITIONS // max(length, 1), 1)
    queries = [model.item_vectors_VD[:0]]
    for begin in range(0, len(position_P), rows):
        some = slice(begin, begin + rows)
        longest = int(position_P[some].max()) + 1
        sequences = Sequences(item_PT[some, :longest], gap_PT[some, :longest], customer_PC[some])
        states_BTD = model.states(sequences)
        last_BD = states_BTD[torch.arange(len(states_BTD), device=device), position_P[some]]
        queries.append(model.decoder.ask(last_BD, wait_P[some]))
    return torch.cat(queries)


def kinds_of_listed(model: PurchaseModel, queries: Queries, item_QK: Tensor) -> Tensor:
    """Return what the kind head gives to each of the items (Q, K) int64 that are listed for a query."""
    categories = model.kind_scores(queries)
    if categories is None:
        return model.item_bias.new_zeros(item_QK.shape)
    query_n = torch.arange(len(item_QK), device=item_QK.device).repeat_interleave(item_QK.shape[1])
    return categories.of_pairs(query_n, model.categories_VC[item_QK.flatten()]).view(item_QK.shape)


def kinds_without(
    model: PurchaseModel, history: History, queries: Queries, row_P: Tensor, left_P: Tensor, item_QK: Tensor
) -> Tensor:
    """Return the same (P, K) as if the customer of query ``row_P`` (P,) had never bought ``left_P`` (P,).

    Of the whole history, not of the newest events alone. What is said of the customer (``user_events`` and the like
    among ``features.CATEGORY_FEATURES``) stays as it was: a purchase less, nothing else.
    """
    without = queries.take(row_P)
    kept_N = without.past_item_P != left_P[without.past_query_P]
    query_N, item_N = without.past_query_P[kept_N], without.past_item_P[kept_N]
    # Of all categories, those of what is listed for the customer: a tenth of the work.
    wanted_QC = torch.zeros(len(item_QK), model.n_codes, dtype=torch.bool, device=row_P.device)
    wanted_QC[torch.arange(len(item_QK), device=row_P.device)[:, None], model.categories_VC[item_QK].flatten(1)] = True
    code_NC = model.categories_VC[item_N]
    code_NC = torch.where(wanted_QC[row_P[query_N][:, None], code_NC], code_NC, 0)
    past = PastItems(query_N.cpu().numpy(), np.arange(len(query_N)), without.past_features_PF[kept_N].cpu().numpy())
    left = category_history(past, code_NC.cpu().numpy(), history.data.category_sales, without.day_Q.cpu().numpy())
    query_R, code_R, features_RF = (torch.from_numpy(part).to(row_P.device) for part in vars(left).values())
    without = replace(without, category_query_R=query_R, category_code_R=code_R, category_features_RF=features_RF)
    return kinds_of_listed(model, without, item_QK[row_P])


def companions_of_listed(model: PurchaseModel, queries: Queries, item_QK: Tensor) -> Tensor:
    """Return what the co_purchase head gives to each of the items (Q, K) int64 that are listed for a query."""
    co_purchases = model.companion_scores(queries)
    if co_purchases is None:
        return model.item_bias.new_zeros(item_QK.shape)
    query_n = torch.arange(len(item_QK), device=item_QK.device).repeat_interleave(item_QK.shape[1])
    return co_purchases.of_pairs(query_n, item_QK.flatten()).view(item_QK.shape)


def companions_without(
    model: PurchaseModel, history: History, queries: Queries, row_P: Tensor, left_P: Tensor, item_QK: Tensor
) -> Tensor:
    """Return the same (P, K) as if the customer of query ``row_P`` (P,) had never bought ``left_P`` (P,)."""
    without = queries.take(row_P)
    kept_N = without.past_item_P != left_P[without.past_query_P]
    if model.companion_head is None:
        query_N, item_N, features_NF = (part[kept_N] for part in _past_of(without))
        without = replace(without, past_query_P=query_N, past_item_P=item_N, past_features_PF=features_NF)
        return companions_of_listed(model, without, item_QK[row_P])
    past = PastItems(*(part[kept_N].cpu().numpy() for part in _past_of(without)))
    left = co_purchases_of(past, history.data.baskets, without.day_Q.cpu().numpy())
    query_C, item_C, features_CF = (torch.from_numpy(part).to(row_P.device) for part in vars(left).values())
    without = replace(
        without, co_purchase_query_C=query_C, co_purchase_item_C=item_C, co_purchase_features_CF=features_CF
    )
    return companions_of_listed(model, without, item_QK[row_P])


def _past_of(queries: Queries) -> tuple[Tensor, Tensor, Tensor]:
    return queries.past_query_P, queries.past_item_P, queries.past_features_PF


def co_purchase_attribution(model: PurchaseModel, history: History, queries: Queries, item_QK: Tensor) -> Tensor:
    """Return about what each past item (P,) gives to all listed items (Q, K) together as what goes with it.

    What the head gives to an item, shared among the past items that it goes with by their lift, or as its neighbours.
    """
    score_QK = companions_of_listed(model, queries, item_QK).cpu().numpy()
    query_P, item_P = queries.past_query_P.cpu().numpy(), queries.past_item_P.cpu().numpy()
    promise_P = np.zeros(len(query_P), dtype=np.float32)
    if model.gives_companions:
        listed_QK, lift_VV = item_QK.cpu().numpy(), _strength_of_pairs(model, history)
        for query, (listed_K, score_K) in enumerate(zip(listed_QK, score_QK, strict=True)):
            begin, end = np.searchsorted(query_P, [query, query + 1])
            lift_PK = lift_VV[item_P[begin:end]][:, listed_K].toarray()
            promise_P[begin:end] = lift_PK @ (score_K / np.maximum(lift_PK.sum(0), 1e-9))
    return torch.from_numpy(promise_P).to(item_QK.device)


def _strength_of_pairs(model: PurchaseModel, history: History) -> sparse.csr_array:
    """Return how much each item speaks for each other (V, V): the lift at the date, or the cosine of neighbours."""
    head = model.neighbour_head
    if head is None:
        return history.data.baskets.at(history.day)
    n_rows, n_neighbours = head.cosine_VK.shape
    begins = np.arange(n_rows + 1) * n_neighbours
    cosine, item = head.cosine_VK.cpu().numpy().ravel(), head.neighbour_VK.cpu().numpy().ravel()
    return sparse.csr_array((cosine, item, begins), shape=(n_rows, n_rows))


def category_attribution(model: PurchaseModel, queries: Queries, item_QK: Tensor) -> Tensor:
    """Return about what each past item (P,) gives to all listed items (Q, K) together through the kind head.

    A kind's score, shared among its past items as they were bought lately, with a half-life of 60 days.
    """
    query_P, code_PC = queries.past_query_P, model.categories_VC[queries.past_item_P]
    categories = model.kind_scores(queries)
    if categories is None:
        return model.item_bias.new_zeros(len(query_P))
    lately_P = queries.past_features_PF[:, PAST_FEATURES.index("decayed_60")].expm1()
    total_QC = lately_P.new_zeros(len(item_QK), model.n_codes)
    listed_QC = torch.zeros_like(total_QC)
    row_Q = torch.arange(len(item_QK), device=query_P.device)
    place = query_P[:, None].expand_as(code_PC), code_PC
    total_QC.index_put_(place, lately_P[:, None].expand(code_PC.shape), accumulate=True)
    code_QL = model.categories_VC[item_QK].flatten(1)
    listed_QC.index_put_((row_Q[:, None].expand_as(code_QL), code_QL), total_QC.new_ones(()), accumulate=True)
    share_PC = lately_P[:, None] / total_QC[place].clamp(min=1e-9)
    score_PC = categories.score_UQ[categories.row_of_code[code_PC], query_P[:, None]]
    return (score_PC * listed_QC[place] * share_PC).sum(-1)
