"""The forms in which a component scores items at some queries.

Each adds those of the whole catalogue to logits (``add_to``, (Q, V)), and gives those of the same items at every query
(``of_items``, (Q, N), or added in place where nothing is learned, ``add_items_``), of single pairs (``of_pairs``,
(P,)), and their mean over the catalogue (``mean_Q``, (Q,)).

Shapes: Q queries, V rows of the catalogue with padding, N items, P pairs of query and item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from recsys.modeling.decoder.inputs import rows_at

#: Items whose scores are summed up at a time: they are turned from columns to rows in the processor's cache.
_BLOCK = 4096


@dataclass(frozen=True)
class ProductScores:
    """Products of queries and item vectors, which are made when they are asked for: of few items, only theirs."""

    query_QD: Tensor
    vectors_of: Callable[[Tensor], Tensor]  # items (…) int64 to vectors (…, D)
    item_vectors: Callable[..., Tensor]  # items (N,), or all of them, to vectors (N, D), which it may keep

    def add_to(self, logits_QV: Tensor) -> Tensor:
        return self.table() + logits_QV

    def table(self) -> Tensor:
        """Return the scores (Q, V) of the catalogue, float32 under autocast too."""
        return (self.query_QD @ self.item_vectors().T).float()

    def of_items(self, item_N: Tensor) -> Tensor:
        return (self.query_QD @ self.item_vectors(item_N).T).float()

    def add_items_(self, logits_QN: Tensor, item_N: Tensor) -> None:
        logits_QN.addmm_(self.query_QD, self.item_vectors(item_N).T)

    def of_pairs(self, query_P: Tensor, item_P: Tensor) -> Tensor:
        # Far fewer items than pairs: each vector is made once.
        item_I, place_P = torch.unique(item_P, return_inverse=True)
        return (self.query_QD[query_P] * self.vectors_of(item_I)[place_P]).sum(-1)

    def mean_Q(self) -> Tensor:
        return self.query_QD @ self.item_vectors()[1:].mean(0)


@dataclass(frozen=True)
class DayScores:
    """A score of each item on each of S days, the same for all queries of a day; made of the items asked for alone."""

    score_of: Callable[[Tensor], Tensor]  # item features (n, F) to scores (n,)
    item_features: tuple[Tensor, ...]  # S times (V, F)
    day_place_Q: Tensor  # (Q,) int64
    kept_SV: Tensor | None = None  # scores of the catalogue on each day, where they are at hand

    @cached_property
    def score_SV(self) -> Tensor:
        """The scores of the catalogue on each day."""
        if self.kept_SV is not None:
            return self.kept_SV
        return torch.stack([self.score_of(table) for table in self.item_features])

    def add_to(self, logits_QV: Tensor) -> Tensor:
        return logits_QV + self.score_SV[self.day_place_Q]

    def of_items(self, item_N: Tensor) -> Tensor:
        if self.kept_SV is not None:
            return self.kept_SV[:, item_N][self.day_place_Q]
        return torch.stack([self.score_of(table[item_N]) for table in self.item_features])[self.day_place_Q]

    def add_items_(self, logits_QN: Tensor, item_N: Tensor) -> None:
        logits_QN += self.of_items(item_N)

    def of_pairs(self, query_P: Tensor, item_P: Tensor) -> Tensor:
        n_rows = len(self.item_features[0])
        key_U, place_P = torch.unique(self.day_place_Q[query_P] * n_rows + item_P, return_inverse=True)
        return self.score_of(rows_at(self.item_features, key_U // n_rows, key_U % n_rows))[place_P]

    def mean_Q(self) -> Tensor:
        return self.score_SV[:, 1:].mean(1)[self.day_place_Q]


@dataclass(frozen=True)
class CategoryScores:
    """A score of each of U categories that somebody bought, by query; an item gets the sum over its C categories."""

    score_UQ: Tensor  # row 0 is 0: a category that is in nobody's past
    row_of_code: Tensor  # (codes,) int64 row of each category's code
    categories_VC: Tensor  # (V, C) int64

    def add_to(self, logits_QV: Tensor) -> Tensor:
        return logits_QV + self._of(self.categories_VC)

    def of_items(self, item_N: Tensor) -> Tensor:
        return self._of(self.categories_VC[item_N])

    def add_items_(self, logits_QN: Tensor, item_N: Tensor) -> None:
        for begin in range(0, len(item_N), _BLOCK):
            items = slice(begin, begin + _BLOCK)
            logits_QN[:, items] += self._of(self.categories_VC.index_select(0, item_N[items]))

    def of_pairs(self, query_P: Tensor, item_P: Tensor) -> Tensor:
        return self.score_UQ[self.row_of_code[self.categories_VC[item_P]], query_P[:, None]].sum(-1)

    def mean_Q(self) -> Tensor:
        return self._of(self.categories_VC[1:]).mean(1)

    def _of(self, code_NC: Tensor) -> Tensor:
        row_NC = self.row_of_code.index_select(0, code_NC.flatten()).view_as(code_NC)  # twice as fast as [code_NC]
        return functional.embedding_bag(row_NC, self.score_UQ, mode="sum").T


@dataclass(frozen=True)
class PairScores:
    """Scores of single items, C pairs sorted by query, then item; all others get nothing."""

    query_C: Tensor
    item_C: Tensor
    score_C: Tensor
    n_queries: int
    n_rows: int  # V

    def add_to(self, logits_QV: Tensor) -> Tensor:
        return logits_QV.index_put((self.query_C, self.item_C), self.score_C, accumulate=True)

    def of_items(self, item_N: Tensor) -> Tensor:
        item_U, place_N = torch.unique(item_N, return_inverse=True)
        place_C = torch.searchsorted(item_U, self.item_C).clamp(max=len(item_U) - 1)
        met_C = item_U[place_C] == self.item_C
        table_QU = self.score_C.new_zeros(self.n_queries, len(item_U))
        table_QU = table_QU.index_put((self.query_C[met_C], place_C[met_C]), self.score_C[met_C])
        return table_QU[:, place_N]

    def add_items_(self, logits_QN: Tensor, item_N: Tensor) -> None:
        query_c, column_c, place_c = among(item_N, self.query_C, self.item_C, self.n_rows)
        logits_QN[query_c, column_c] += self.score_C[place_c]

    def of_pairs(self, query_P: Tensor, item_P: Tensor) -> Tensor:
        if not len(self.query_C):
            return self.score_C.new_zeros(len(query_P))
        key_C = self.query_C * self.n_rows + self.item_C
        wanted_P = query_P * self.n_rows + item_P
        place_P = torch.searchsorted(key_C, wanted_P).clamp(max=len(key_C) - 1)
        return torch.where(key_C[place_P] == wanted_P, self.score_C[place_P], 0)

    def mean_Q(self) -> Tensor:
        total_Q = self.score_C.new_zeros(self.n_queries)
        return total_Q.index_add(0, self.query_C, self.score_C / (self.n_rows - 1))


def among(item_N: Tensor, query_P: Tensor, item_P: Tensor, n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return those of P pairs whose item is among distinct ``item_N``: query, place in ``item_N`` and in P, (p,)."""
    column_V = torch.full((n_rows,), -1, device=item_N.device)
    column_V[item_N] = torch.arange(len(item_N), device=item_N.device)
    column_P = column_V[item_P]
    place_p = (column_P >= 0).nonzero().squeeze(-1)
    return query_P[place_p], column_P[place_p], place_p


Scores: TypeAlias = ProductScores | DayScores | CategoryScores | PairScores
