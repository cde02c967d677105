"""Sequences and queries as tensors on a device: what the model reads. Shapes as in :mod:`recsys.signals.queries`."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.signals.queries import Queries, Sequences


@dataclass(frozen=True)
class SequenceTensors:
    """Input of the decoder."""

    item_BT: Tensor  # int64 item_index; n_items + 1 marks the start of a history, 0 pads on the right
    gap_days_BT: Tensor  # int64 days since the event before
    user_codes_BK: Tensor  # int64 codes; K is 0 where the model does not read them

    @classmethod
    def from_arrays(cls, sequences: Sequences, device: torch.device | str = "cpu") -> Self:
        """Return ``sequences`` as tensors on ``device``."""
        return cls(*(_tensor(part, device) for part in (sequences.item, sequences.gap_days, sequences.user_codes)))

    def to(self, device: torch.device | str) -> Self:
        """Return the same on ``device``."""
        return type(self)(self.item_BT.to(device), self.gap_days_BT.to(device), self.user_codes_BK.to(device))


@dataclass(frozen=True)
class QueryTensors:
    """Queries at days about states of a batch: what will be bought in the window that begins then?"""

    row_Q: Tensor  # int64 sequence of the batch
    position_Q: Tensor  # int64 position of the last known event
    days_until_query_Q: Tensor  # int64 days from that event to the day
    day_place_Q: Tensor  # int64 place of the day among the S tables of item features
    item_features: tuple[Tensor, ...]  # S times (V, F) float32
    past_query_P: Tensor  # int64 query of each past item, ascending
    past_item_P: Tensor  # int64
    past_features_PF: Tensor  # float32
    category_query_R: Tensor  # int64 query of each category of past items, ascending
    category_code_R: Tensor  # int64
    category_features_RF: Tensor  # float32
    co_purchase_query_C: Tensor  # int64 query of each item bought together with past ones, ascending
    co_purchase_item_C: Tensor  # int64
    co_purchase_features_CF: Tensor  # float32

    @classmethod
    def from_arrays(cls, queries: Queries, device: torch.device | str = "cpu") -> Self:
        """Return ``queries`` as tensors on ``device``; what lies there already is not copied."""
        return cls(
            row_Q=_tensor(queries.row, device),
            position_Q=_tensor(queries.position, device),
            days_until_query_Q=_tensor(queries.days_until_query, device),
            day_place_Q=_tensor(queries.day_place, device),
            item_features=tuple(_tensor(table, device) for table in queries.item_features),
            past_query_P=_tensor(queries.past_query, device),
            past_item_P=_tensor(queries.past_item, device),
            past_features_PF=_tensor(queries.past_features, device),
            category_query_R=_tensor(queries.category_query, device),
            category_code_R=_tensor(queries.category_code, device),
            category_features_RF=_tensor(queries.category_features, device),
            co_purchase_query_C=_tensor(queries.co_purchase_query, device),
            co_purchase_item_C=_tensor(queries.co_purchase_item, device),
            co_purchase_features_CF=_tensor(queries.co_purchase_features, device),
        )

    def __len__(self) -> int:
        return len(self.row_Q)

    def to(self, device: torch.device | str) -> Self:
        """Return the same on ``device``."""
        moved = {
            field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "item_features"
        }
        return type(self)(item_features=tuple(table.to(device) for table in self.item_features), **moved)

    def features_at(self, place_P: Tensor, item_P: Tensor) -> Tensor:
        """Return the features (P, F) of items at the days ``place_P`` (P,) int64, places among ``item_features``."""
        if len(self.item_features) == 1:
            return self.item_features[0][item_P]
        return torch.stack(self.item_features)[place_P, item_P]

    def past_item_features(self) -> Tensor:
        """Return the item features (P, F) of each past item at its query's day."""
        return self.features_at(self.day_place_Q[self.past_query_P], self.past_item_P)

    def take(self, query_R: Tensor) -> "QueryTensors":
        """Return the queries ``query_R`` (R,) int64, which may repeat and leave out, in that order."""
        row_N, pair_N = _rows_of(self.past_query_P, query_R, len(self))
        row_M, category_M = _rows_of(self.category_query_R, query_R, len(self))
        row_C, pair_C = _rows_of(self.co_purchase_query_C, query_R, len(self))
        return QueryTensors(
            row_Q=self.row_Q[query_R],
            position_Q=self.position_Q[query_R],
            days_until_query_Q=self.days_until_query_Q[query_R],
            day_place_Q=self.day_place_Q[query_R],
            item_features=self.item_features,
            past_query_P=row_N,
            past_item_P=self.past_item_P[pair_N],
            past_features_PF=self.past_features_PF[pair_N],
            category_query_R=row_M,
            category_code_R=self.category_code_R[category_M],
            category_features_RF=self.category_features_RF[category_M],
            co_purchase_query_C=row_C,
            co_purchase_item_C=self.co_purchase_item_C[pair_C],
            co_purchase_features_CF=self.co_purchase_features_CF[pair_C],
        )


def _tensor(array: np.ndarray, device: torch.device | str) -> Tensor:
    # A table that was opened from a file cannot be written to; torch would warn of that, and nothing here writes.
    writable = array if array.flags.writeable else np.array(array)
    return torch.from_numpy(writable).to(device)


def _rows_of(query_P: Tensor, query_R: Tensor, n_queries: int) -> tuple[Tensor, Tensor]:
    """Return for the rows of each of ``query_R`` its place there and the place of the row in ``query_P``, ascending."""
    count_Q = torch.bincount(query_P, minlength=n_queries)
    first_Q = count_Q.cumsum(0) - count_Q
    count_R = count_Q[query_R]
    place_N = torch.repeat_interleave(torch.arange(len(query_R), device=query_R.device), count_R)
    begin_R = count_R.cumsum(0) - count_R
    return place_N, torch.arange(len(place_N), device=query_R.device) - begin_R[place_N] + first_Q[query_R][place_N]
