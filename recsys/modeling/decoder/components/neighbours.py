"""Score of every item that users bought who bought the user's past items too, whenever that was."""

import torch
from torch import Tensor, nn

from recsys.modeling.decoder.components.base import Component, Sizes
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.scores import PairScores
from recsys.signals.past_items import PAST_FEATURES


class NeighbourComponent(Component):
    """Item-kNN (Sarwar et al., 2001; Deshpande and Karypis, 2004) beside the decoder, where no date is asked.

    The score is log(1 + 1000 s), where s sums over past items, the newest first, the cosine of the sets of users of the
    two in the training part. No loss reads it: each pair that training asks for is in the counts itself, by the very
    user asked, and would be learned as sure. Held-out purchases say what it weighs. K neighbours of each item.
    """

    name = "neighbours"
    needs = "no_dates"
    position = 50
    begins_as_rule = False
    #: Neighbours of an item that are kept, and of all items together.
    max_neighbours, max_entries = 512, 1 << 23
    #: Past items that ask, and the number of newer ones by which a past item weighs half.
    max_past, half_life = 32, 4.0
    sharpness = 1000.0

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        n_rows = len(sizes.codes.groups)
        n_neighbours = min(self.max_neighbours, n_rows, max(self.max_entries // n_rows, 1))
        self.weight = nn.Buffer(torch.ones(()))
        self.neighbour_VK = nn.Buffer(torch.zeros(n_rows, n_neighbours, dtype=torch.int32))
        self.cosine_VK = nn.Buffer(torch.zeros(n_rows, n_neighbours))

    def set_neighbours(self, neighbour_VK: Tensor, cosine_VK: Tensor) -> None:
        """Take the neighbours of each item, int32, and their cosines; 0 where there are fewer."""
        self.neighbour_VK.copy_(neighbour_VK)
        self.cosine_VK.copy_(cosine_VK)

    def score(self, queries: QueryTensors, query_QD: Tensor | None) -> PairScores | None:
        """Return the scores of all neighbours that are not past items."""
        age_P = queries.past_features_PF[:, PAST_FEATURES.index("age_last")]
        query_C, item_C, score_C = self.of_past(queries.past_query_P, queries.past_item_P, age_P)
        return PairScores(query_C, item_C, score_C, len(queries), len(self.neighbour_VK)) if len(query_C) else None

    def scale_(self, factor: float) -> None:
        self.weight.mul_(factor)

    def of_past(self, query_P: Tensor, item_P: Tensor, age_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, item and score (C,) of all neighbours that are not past items, sorted; ``query_P`` ascends."""
        n_rows = len(self.neighbour_VK)
        order_P = torch.argsort(age_P, stable=True)
        order_P = order_P[torch.argsort(query_P[order_P], stable=True)]
        rank_P = torch.arange(len(order_P), device=order_P.device) - torch.searchsorted(query_P, query_P)
        asks_P = rank_P < self.max_past
        asking_P, rank_P = order_P[asks_P], rank_P[asks_P]
        strength_PK = torch.exp2(-rank_P / self.half_life)[:, None] * self.cosine_VK[item_P[asking_P]]
        key_PK = query_P[asking_P, None] * n_rows + self.neighbour_VK[item_P[asking_P]]
        n_queries = int(query_P[-1]) + 1 if len(query_P) else 0
        key_C, strength_C = _added_up(key_PK.flatten(), strength_PK.flatten(), n_queries * n_rows)
        past_P = (query_P * n_rows + item_P).sort().values
        if len(key_C):
            is_new_C = past_P[torch.searchsorted(past_P, key_C).clamp(max=len(past_P) - 1)] != key_C
            key_C, strength_C = key_C[is_new_C], strength_C[is_new_C]
        return key_C // n_rows, key_C % n_rows, self.weight * torch.log1p(self.sharpness * strength_C)


def _added_up(key_N: Tensor, strength_N: Tensor, n_keys: int) -> tuple[Tensor, Tensor]:
    """Return the keys below ``n_keys`` with any strength, ascending, and the sums of their strengths, all >= 0."""
    if n_keys <= 8 * len(key_N):  # ten times as fast as sorting
        table = strength_N.new_zeros(n_keys).index_add_(0, key_N, strength_N)
        key_C = table.nonzero().squeeze(-1)
        return key_C, table[key_C]
    has_any_N = strength_N > 0
    key_C, place_n = torch.unique(key_N[has_any_N], return_inverse=True)
    return key_C, strength_N.new_zeros(len(key_C)).index_add_(0, place_n, strength_N[has_any_N])
