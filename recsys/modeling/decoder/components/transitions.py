"""Score of every item that was bought soon after the user's past items, whenever that was."""

import torch
from torch import Tensor, nn

from recsys.modeling.decoder.components.base import Component, Sizes
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.scores import PairScores
from recsys.signals.past_items import PAST_FEATURES


class TransitionComponent(Component):
    """The rule ``transitions`` beside the decoder, where no date is asked.

    The score is log(1 + 10 s), where s sums over the latest past items how often an item followed each, the less the
    older the past item is. No loss reads it: each pair that training asks for is in the counts itself, by the very user
    asked, and would be learned as sure. Held-out purchases say what it weighs. K followers of each item.
    """

    name = "transitions"
    needs = "no_dates"
    position = 50
    #: Followers of an item that are kept, and of all items together.
    max_followers, max_entries = 100, 1 << 23
    #: Past items that ask, and what is left of the weight of one with each day of purchases since.
    max_past, recency = 32, 0.7
    sharpness = 10.0

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        n_rows = len(sizes.codes.groups)
        n_followers = min(self.max_followers, n_rows, max(self.max_entries // n_rows, 1))
        self.weight = nn.Buffer(torch.ones(()))
        self.follower_VK = nn.Buffer(torch.zeros(n_rows, n_followers, dtype=torch.int32))
        self.strength_VK = nn.Buffer(torch.zeros(n_rows, n_followers))

    def set_followers(self, follower_VK: Tensor, strength_VK: Tensor) -> None:
        """Take the followers of each item, int32, and how strongly they follow; 0 where there are fewer."""
        self.follower_VK.copy_(follower_VK)
        self.strength_VK.copy_(strength_VK)

    def score(self, queries: QueryTensors) -> PairScores | None:
        """Return the scores of all followers that are not past items."""
        age_P = queries.past_features_PF[:, PAST_FEATURES.index("age_last")]
        query_C, item_C, score_C = self.of_past(queries.past_query_P, queries.past_item_P, age_P)
        return PairScores(query_C, item_C, score_C, len(queries), len(self.follower_VK)) if len(query_C) else None

    def scale_(self, factor: float) -> None:
        self.weight.mul_(factor)

    def of_past(self, query_P: Tensor, item_P: Tensor, age_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, item and score (C,) of all followers that are not past items, sorted; ``query_P`` ascends."""
        n_rows = len(self.follower_VK)
        order_P = torch.argsort(age_P, stable=True)
        order_P = order_P[torch.argsort(query_P[order_P], stable=True)]
        first_P = torch.searchsorted(query_P, query_P)
        is_older_P = age_P[order_P].diff(prepend=age_P[:0].new_full((1,), -torch.inf)) > 0
        days_P = is_older_P.cumsum(0)  # what was bought on one day is of one age
        asks_P = torch.arange(len(order_P), device=order_P.device) - first_P < self.max_past
        asking_P, back_P = order_P[asks_P], (days_P - days_P[first_P])[asks_P]
        strength_PK = (self.recency**back_P)[:, None] * self.strength_VK[item_P[asking_P]]
        key_PK = query_P[asking_P, None] * n_rows + self.follower_VK[item_P[asking_P]]
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
