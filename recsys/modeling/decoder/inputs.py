"""Sequences and queries as tensors on a device: what the model reads. Shapes as in :mod:`recsys.signals.queries`."""

from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from recsys.signals.queries import Queries, Sequences


class OnDevice:
    """A frozen dataclass of tensors, of tuples of tensors, or of others of its kind."""

    @classmethod
    def from_arrays(cls, arrays: Sequences | Queries, device: torch.device | str = "cpu") -> Self:
        """Return ``arrays``, whose fields, or theirs, stand in the same order, on ``device``; copied only if needed."""
        parts = (vars(part).values() if is_dataclass(part) else [part] for part in vars(arrays).values())
        return cls(*(_tensors(one, device) for part in parts for one in part))

    def to(self, device: torch.device | str) -> Self:
        moved = {
            name: tuple(one.to(device) for one in part) if isinstance(part, tuple) else part.to(device)
            for name, part in vars(self).items()
        }
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class SequenceTensors(OnDevice):
    """Input of the decoder."""

    item_BT: Tensor  # int64 item_index; n_items + 1 marks the start of a history, 0 pads on the right
    gap_days_BT: Tensor  # int64 days since the event before
    user_codes_BK: Tensor  # int64 codes; K is 0 where the model does not read them


@dataclass(frozen=True)
class QueryTensors(OnDevice):
    """Queries at days, each at the end of a sequence: what will be bought in the window that begins then?"""

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

    def __len__(self) -> int:
        return len(self.position_Q)

    def past_item_features(self) -> Tensor:
        """Return the item features (P, F) of each past item at its query's day."""
        return rows_at(self.item_features, self.day_place_Q[self.past_query_P], self.past_item_P)


def rows_at(tables: tuple[Tensor, ...], table_P: Tensor, row_P: Tensor) -> Tensor:
    """Return rows (P, F) of several tables (V, F): of the ``table_P``-th (P,) int64 the ``row_P``-th."""
    if len(tables) == 1:
        return tables[0][row_P]
    rows_PF = tables[0].new_empty(len(row_P), tables[0].shape[1])
    for number, table in enumerate(tables):
        place = (table_P == number).nonzero().squeeze(-1)
        rows_PF[place] = table[row_P[place]]
    return rows_PF


def _tensors(part: Any, device: torch.device | str) -> Any:  # noqa: ANN401 - an array or a tuple of arrays
    if isinstance(part, tuple):
        return tuple(_tensors(one, device) for one in part)
    # A table that was opened from a file cannot be written to; torch would warn of that, and nothing here writes.
    return torch.from_numpy(part if part.flags.writeable else np.array(part)).to(device)
