"""Heads: what is added to an item's logit by its sales at the date, and by the customer's own rhythm with it."""

import torch
from torch import Tensor, nn

from recsys.features import ITEM_FEATURES, PAST_FEATURES


class SalesHead(nn.Module):
    """Score of every item from what it sold before a date."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(len(ITEM_FEATURES), hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, sales_VF: Tensor) -> Tensor:
        """Return (V,) scores from ``features.ITEM_FEATURES`` (V, F)."""
        score_V: Tensor = self.mlp(sales_VF).squeeze(-1)
        return score_V


class RepeatHead(nn.Module):
    """Score of a customer's past item from a summary of the whole history, the item's sales, and the decoder's query.

    The score is added to the catalogue's logit of that item, so one softmax covers the catalogue and the own past.
    """

    def __init__(self, width: int, hidden: int = 96, query_hidden: int = 32) -> None:
        super().__init__()
        n_features = len(PAST_FEATURES) + len(ITEM_FEATURES)
        self.from_query = nn.Linear(width, query_hidden)
        self.mlp = nn.Sequential(
            nn.Linear(n_features + query_hidden + 1, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.out = nn.Linear(hidden, 1)

    def forward(
        self, past_PF: Tensor, sales_PF: Tensor, query_QD: Tensor, past_query_P: Tensor, logit_P: Tensor
    ) -> Tensor:
        """Return (P,) scores; ``logit_P`` is what the decoder says of the item without this head."""
        context_P = self.from_query(query_QD)[past_query_P]
        hidden_P = self.mlp(torch.cat([past_PF, sales_PF, context_P, logit_P[:, None]], dim=-1))
        score_P: Tensor = self.out(hidden_P).squeeze(-1)
        return score_P
