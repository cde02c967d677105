"""Samplers of negatives: item indices shared by a batch, and the log of the probability of each."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recsys.modeling.decoder.inputs import QueryTensors


class MixedSampler:
    """Draw items with replacement, half by popularity, half uniformly; ``log_q`` corrects for it (Yi et al., 2019)."""

    def __init__(self, counts_V: Tensor, *, only_sold: bool = False) -> None:
        """Take how often each item was sold, (V,) with 0 at padding; ``only_sold`` never draws what was not."""
        allowed = (counts_V > 0).double() if only_sold else torch.ones_like(counts_V, dtype=torch.float64)
        allowed[0] = 0
        probability = (allowed / allowed.sum() + counts_V.double() / counts_V.sum().clamp(min=1)) / 2
        probability /= probability.sum()
        self._cumulative = probability.cumsum(0)
        self._log_q = probability.clamp(min=1e-30).log().float()

    def sample(self, n_negatives: int, generator: torch.Generator | None = None) -> Tensor:
        """Return (N,) int64 item indices, never padding."""
        draws = torch.rand(n_negatives, dtype=torch.float64, generator=generator, device=self._cumulative.device)
        items = torch.searchsorted(self._cumulative, draws * self._cumulative[-1], right=True)
        return items.clamp(1, len(self._cumulative) - 1)

    def log_q(self, items: Tensor) -> Tensor:
        """Return the log-probability of drawing each of ``items``, same shape, float32."""
        return self._log_q[items]


@dataclass(frozen=True)
class QueryPositives:
    """The items of each query that are never negatives: first its past items, then targets not among them."""

    query_P: Tensor  # int64
    item_P: Tensor  # int64
    target_n: Tensor  # int64 pair of each target
    n_past: int  # so many pairs, the first, are past items

    @classmethod
    def from_targets(cls, queries: QueryTensors, target_query_n: Tensor, target_item_n: Tensor, n_rows: int) -> Self:
        """Join past items and targets; ``n_rows`` is the number of rows of the catalogue, padding included."""
        past_key_P = queries.past_query_P * n_rows + queries.past_item_P  # ascending
        target_key_n = target_query_n * n_rows + target_item_n
        target_n = torch.searchsorted(past_key_P, target_key_n)
        is_past_n = torch.zeros_like(target_key_n, dtype=torch.bool)
        if len(past_key_P):
            is_past_n = past_key_P[target_n.clamp(max=len(past_key_P) - 1)] == target_key_n
        query_P = torch.cat([queries.past_query_P, target_query_n[~is_past_n]])
        item_P = torch.cat([queries.past_item_P, target_item_n[~is_past_n]])
        target_n[~is_past_n] = torch.arange(len(past_key_P), len(item_P), device=target_n.device)
        return cls(query_P, item_P, target_n, len(past_key_P))

    def contains(self, item_N: Tensor, n_queries: int) -> Tensor:
        """Return (Q, N) bool: whether ``item_N`` are own items of each query."""
        drawn_U, draw_of_N = torch.unique(item_N, return_inverse=True)
        place_P = torch.searchsorted(drawn_U, self.item_P).clamp(max=len(drawn_U) - 1)
        hit_P = drawn_U[place_P] == self.item_P
        own_QU = torch.zeros(n_queries, len(drawn_U), dtype=torch.bool, device=item_N.device)
        own_QU[self.query_P[hit_P], place_P[hit_P]] = True
        return own_QU[:, draw_of_N]
