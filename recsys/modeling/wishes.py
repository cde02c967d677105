"""Lists for histories of which each is asked for something else: other items, another length, no repeats."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.data.purchases import Histories
from recsys.modeling.decoder.scores import among
from recsys.modeling.recommenders.decoder import DecoderRecommender

Repeats = Literal["keep", "only", "none"]
#: Sets of candidates whose places are kept.
_MAX_KEPT: Final = 3


class Wish(NamedTuple):
    """What one history is asked for."""

    k: int
    repeats: Repeats = "keep"  # of what was bought before: with them, these alone, or none
    added: np.ndarray | None = None  # (V,) float32 added to the scores; -inf rules an item out
    whole: bool = False  # all allowed items with their scores, in no order


class Scored(NamedTuple):
    """Items (n,) int64 of one list with their scores (n,) float32, best first."""

    item: np.ndarray
    score: np.ndarray


class WishDecoder:
    """A decoder that is asked for lists of unlike wishes at one day, in one batch."""

    def __init__(self, decoder: DecoderRecommender) -> None:
        self.decoder = decoder
        self._places: list[tuple[np.ndarray, Tensor]] = []

    def lists(self, histories: Histories, allowed: np.ndarray, wishes: Sequence[Wish]) -> list[Scored]:
        """Return for each of ``histories`` (Q) the best of the ``allowed`` items (V,) bool that its wish leaves."""
        item_N, found = self._items(allowed), [Scored(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(wishes)
        if not len(item_N):
            return found
        with self.decoder.asking():
            for rows, reading in self.decoder.readings(histories, len(item_N)):
                logits_QN = self.decoder.model.listed_logits(reading.query_QD, reading.queries, item_N)
                asked = [wishes[row] for row in rows.tolist()]
                self._rule_out(logits_QN, item_N, asked, reading.queries.past_query_P, reading.queries.past_item_P)
                n_best = min(max(wish.k for wish in asked), len(item_N))
                top = logits_QN.topk(n_best, dim=-1)
                score_QK, item_QK = top.values.cpu().numpy(), item_N[top.indices].cpu().numpy()
                for place, (row, wish) in enumerate(zip(rows.tolist(), asked, strict=True)):
                    if wish.whole:
                        scored = Scored(item_N.cpu().numpy(), logits_QN[place].cpu().numpy())
                    else:
                        scored = Scored(item_QK[place, : wish.k], score_QK[place, : wish.k])
                    left = np.isfinite(scored.score)
                    found[row] = scored if left.all() else Scored(scored.item[left], scored.score[left])
        return found

    def _rule_out(
        self, logits_QN: Tensor, item_N: Tensor, wishes: Sequence[Wish], query_P: Tensor, item_P: Tensor
    ) -> None:
        """Change logits in place as the wishes have it."""
        if any(wish.repeats != "keep" for wish in wishes):
            query_p, column_p, _ = among(item_N, query_P, item_P, self.decoder.model.n_items + 1)
            is_past_QN = torch.zeros_like(logits_QN, dtype=torch.bool)
            is_past_QN[query_p, column_p] = True
            for repeats, is_out_QN in (("none", is_past_QN), ("only", ~is_past_QN)):
                rows = [row for row, wish in enumerate(wishes) if wish.repeats == repeats]
                logits_QN[rows] = logits_QN[rows].masked_fill(is_out_QN[rows], -torch.inf)
        for row, wish in enumerate(wishes):
            if wish.added is not None:
                logits_QN[row] += torch.from_numpy(wish.added).to(logits_QN.device)[item_N]

    def _items(self, allowed: np.ndarray) -> Tensor:
        """Return the item_index (N,) int64 of a mask; for the same array the same tensor, by which vectors are kept."""
        for mask, item_N in self._places:
            if mask is allowed:
                return item_N
        item_N = torch.from_numpy(np.flatnonzero(allowed)).to(self.decoder.model.item_bias.device)
        self._places = [(allowed, item_N), *self._places[: _MAX_KEPT - 1]]
        return item_N


def on_one_thread() -> None:
    """Let the calling thread compute by itself: several that share two cores wait for each other."""
    torch.set_num_threads(1)
