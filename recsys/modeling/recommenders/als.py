"""Matrix factorisation by alternating least squares, from `implicit`."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates
from recsys.modeling.recommenders.item_knn import N_THREADS, count_matrix
from recsys.modeling.recommenders.personal import PersonalRecommender
from recsys.modeling.recommenders.popularity import Popularity
from recsys.modeling.recommenders.scored_pairs import Pairs


@dataclass(frozen=True)
class LeastSquares(PersonalRecommender):
    """Scores ``user_factor · item_factor``; a customer's factor is the one fitted, whatever was bought since.

    Weighted matrix factorisation for implicit feedback (Hu, Koren and Volinsky 2008) on ``log(1 + count)``.
    Customers without history at the fit get what sold last week.
    """

    model: Any  # implicit.cpu.als.AlternatingLeastSquares
    fallback: Popularity
    name: str = "als"

    @classmethod
    def fit(cls, history: History, factors: int, iterations: int, seed: int, fallback: Popularity) -> Self:
        """Return the factors of everybody's purchases known at ``history.day``."""
        counts = count_matrix(history, np.arange(history.data.n_users))
        counts.data = np.log1p(counts.data)
        # implicit runs its own threads: BLAS threads beneath them would slow it down, and it warns about them
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(factors, iterations=iterations, num_threads=N_THREADS, random_state=seed)
            model.fit(counts, show_progress=False)
        return cls(model, fallback)

    def score(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Pairs:
        """Return the best ``k`` allowed items of each customer that has a factor."""
        has_history = history.end[user_index] > history.data.offsets[user_index]
        rows = np.flatnonzero(has_history & self.model.user_factors[user_index].any(axis=1))
        if not len(rows):
            return Pairs(rows, rows, np.zeros(0), rows)
        with threadpool_limits(1, "blas"):
            item, score = self.model.recommend(
                user_index[rows],
                count_matrix(history, user_index[rows]),
                N=k,
                filter_already_liked_items=candidates.exclude_seen,
                items=np.flatnonzero(candidates.allowed),
            )
        filled = score > np.finfo(np.float32).min  # where fewer than k are left, the rest is marked so
        row = np.repeat(rows, item.shape[1])[filled.ravel()]
        return Pairs(row, item[filled], score[filled], np.zeros(len(row), dtype=np.int64))
