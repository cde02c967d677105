"""Histories as tensors: sequences for the decoder, and queries at dates for the components."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.config import ModelConfig
from recsys.data.purchases import Purchases
from recsys.signals.co_purchases import no_co_purchases
from recsys.signals.history import category_history, co_purchases_of, past_items


@dataclass
class Sequences:
    """Input of the decoder; shapes as in :mod:`recsys.modeling.decoder.layers`."""

    item_BT: Tensor  # int64 item_index; n_items + 1 marks the start of a history, 0 pads on the right
    gap_days_BT: Tensor  # int64 days since the event before
    customer_BC: Tensor  # int64 codes, see recsys.signals.user_codes; C is 0 where the model does not read them


@dataclass
class Queries:
    """Queries at dates about states of a batch: what will be bought in the window that begins then?"""

    row_Q: Tensor  # int64 sequence of the batch
    position_Q: Tensor  # int64 position of the last known event
    days_until_query_Q: Tensor  # int64 days from that event to the date
    day_Q: Tensor  # int64 date, days since 1970-01-01
    past_query_P: Tensor  # int64 query of each past item, ascending
    past_item_P: Tensor  # int64
    past_features_PF: Tensor  # float32, see features.PastItems
    category_query_R: Tensor  # int64 query of each kind of past items, ascending
    category_code_R: Tensor  # int64
    category_features_RF: Tensor  # float32, see features.CATEGORY_FEATURES
    co_purchase_query_C: Tensor  # int64 query of each item that goes with past ones, ascending
    co_purchase_item_C: Tensor  # int64
    co_purchase_features_CF: Tensor  # float32, see co_purchases.CO_PURCHASE_FEATURES

    def take(self, query_R: Tensor) -> "Queries":
        """Return the queries ``query_R`` (R,) int64, which may repeat and leave out, in that order."""
        row_N, pair_N = _rows_of(self.past_query_P, query_R, len(self.row_Q))
        row_M, kind_M = _rows_of(self.category_query_R, query_R, len(self.row_Q))
        row_C, pair_C = _rows_of(self.co_purchase_query_C, query_R, len(self.row_Q))
        return Queries(
            row_Q=self.row_Q[query_R],
            position_Q=self.position_Q[query_R],
            days_until_query_Q=self.days_until_query_Q[query_R],
            day_Q=self.day_Q[query_R],
            past_query_P=row_N,
            past_item_P=self.past_item_P[pair_N],
            past_features_PF=self.past_features_PF[pair_N],
            category_query_R=row_M,
            category_code_R=self.category_code_R[kind_M],
            category_features_RF=self.category_features_RF[kind_M],
            co_purchase_query_C=row_C,
            co_purchase_item_C=self.co_purchase_item_C[pair_C],
            co_purchase_features_CF=self.co_purchase_features_CF[pair_C],
        )


def _rows_of(query_P: Tensor, query_R: Tensor, n_queries: int) -> tuple[Tensor, Tensor]:
    """Return for the rows of each of ``query_R`` its place there and the place of the row in ``query_P``, ascending."""
    count_Q = torch.bincount(query_P, minlength=n_queries)
    first_Q = count_Q.cumsum(0) - count_Q
    count_R = count_Q[query_R]
    place_N = torch.repeat_interleave(torch.arange(len(query_R), device=query_R.device), count_R)
    begin_R = count_R.cumsum(0) - count_R
    return place_N, torch.arange(len(place_N), device=query_R.device) - begin_R[place_N] + first_Q[query_R][place_N]


def assemble(
    data: Purchases,
    user_index: np.ndarray,
    first: np.ndarray,
    length: np.ndarray,
    at_start: np.ndarray,
    reads: ModelConfig,
) -> tuple[Sequences, np.ndarray]:
    """Return sequences of events ``first:first + length`` padded to the longest, and their days (B, T).

    Beside items and gaps they hold what a model of the settings ``reads`` reads.
    Where ``at_start`` (B,) holds, position 0 is the start mark instead of the event at ``first``.
    """
    steps = np.arange(int(length.max()))
    position_BT = np.clip(first[:, None] + steps, 0, data.n_events - 1)
    real_BT = steps < length[:, None]
    item_BT = np.where(real_BT, data.item[position_BT], 0).astype(np.int64)
    item_BT[at_start, 0] = data.n_items + 1
    day_BT = np.where(real_BT, data.day[position_BT], 0).astype(np.int64)
    gap_BT = np.zeros_like(day_BT)
    gap_BT[:, 1:] = np.where(real_BT[:, 1:], day_BT[:, 1:] - day_BT[:, :-1], 0)
    if gap_BT.shape[1] > 1:
        gap_BT[at_start, 1] = 0
    customer_BC = user_features(data, reads)[user_index].astype(np.int64)
    parts = (torch.from_numpy(part) for part in (item_BT, gap_BT, customer_BC))
    return Sequences(*parts), day_BT


def user_features(data: Purchases, reads: ModelConfig) -> np.ndarray:
    """Return the codes (U, C) of customers that a model of the settings ``reads`` reads, possibly none."""
    return data.user_codes if reads.customer else np.zeros((data.n_users, 0), dtype=np.int32)


def ask(
    data: Purchases,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    reads: ModelConfig,
    counted: np.ndarray | None = None,
) -> Queries:
    """Return queries about histories that end at flat positions ``end`` (Q,), asked at ``day`` (Q,).

    They hold what a model of the settings ``reads`` reads. What goes with past items is known up to ``counted`` (Q,),
    by default the very ``day``.

    Row and position say that query q is about the last event of sequence q, as :func:`newest_events` lays them out;
    a caller with another layout sets both.
    """
    past = past_items(data, user_index, end, day)
    categories = category_history(past, data.categories, data.category_sales, np.asarray(day))
    co_purchases = no_co_purchases()
    if reads.companion_head:
        co_purchases = co_purchases_of(past, data.baskets, np.asarray(day if counted is None else counted))
    known = end > data.offsets[user_index]
    last_day = data.day[np.maximum(end - 1, 0)]
    wait = np.where(known, np.maximum(day - last_day, 0), 0)
    return Queries(
        row_Q=torch.arange(len(user_index)),
        position_Q=torch.zeros(len(user_index), dtype=torch.int64),
        days_until_query_Q=torch.from_numpy(wait.astype(np.int64)),
        day_Q=torch.from_numpy(np.asarray(day, dtype=np.int64)),
        past_query_P=torch.from_numpy(past.query),
        past_item_P=torch.from_numpy(past.item.astype(np.int64)),
        past_features_PF=torch.from_numpy(past.features),
        category_query_R=torch.from_numpy(categories.query),
        category_code_R=torch.from_numpy(categories.code),
        category_features_RF=torch.from_numpy(categories.features),
        co_purchase_query_C=torch.from_numpy(co_purchases.query),
        co_purchase_item_C=torch.from_numpy(co_purchases.item),
        co_purchase_features_CF=torch.from_numpy(co_purchases.features),
    )


def newest_events(
    data: Purchases,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    reads: ModelConfig,
    max_length: int | None = None,
) -> tuple[Sequences, Queries]:
    """Return the newest events of each history as a model of the settings ``reads`` reads them.

    With them comes a query at each's end. They have at most ``max_length`` positions, by default as many as it
    reads.
    """
    max_length = reads.max_length if max_length is None else max_length
    begin = data.offsets[user_index]
    whole = end - begin < max_length  # room for the start mark too
    first = np.where(whole, begin - 1, end - max_length)
    sequences, _ = assemble(data, user_index, first, end - first, whole, reads)
    queries = ask(data, user_index, end, day, reads)
    queries.position_Q = torch.from_numpy(end - first - 1)
    return sequences, queries
