"""Matrix factorisation by alternating least squares, from `implicit`."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.candidates import Candidates
from recsys.modeling.recommenders.rules.item_knn import N_THREADS, count_matrix
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import Popularity, fit_popularity_week
from recsys.modeling.recommenders.scored_pairs import Pairs, united

#: Alternations: the default of `implicit`.
ITERATIONS: Final = 15


@dataclass(frozen=True)
class LeastSquares(PersonalRecommender):
    """Scores ``user_factor · item_factor``; the factor of a fitted user stays, whatever was bought since.

    Weighted matrix factorisation for implicit feedback (Hu, Koren and Volinsky 2008) on ``log(1 + count)``. Users who
    were not fitted get the factor that solves their own history against the item factors. Items that were not fitted
    have no score. Users without history get what sold last week.
    """

    model: Any  # implicit.cpu.als.AlternatingLeastSquares
    fallback: Popularity
    name: str = "als"

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        """Return the best ``k`` allowed items of each user with a history."""
        is_fitted = np.zeros(len(histories), dtype=bool)  # whether the user had a history at the fit
        if not histories.given:
            old = histories.user_index < len(self.model.user_factors)
            is_fitted[old] = self.model.user_factors[histories.user_index[old]].any(axis=1)
        has_history = histories.n_events > 0
        return united(
            self._best(histories, np.flatnonzero(has_history & is_fitted), k, candidates, is_fitted=True),
            self._best(histories, np.flatnonzero(has_history & ~is_fitted), k, candidates, is_fitted=False),
        )

    def _best(
        self, histories: Histories, rows: np.ndarray, k: int, candidates: Candidates, *, is_fitted: bool
    ) -> Pairs:
        """Return the best ``k`` allowed items of the histories at ``rows`` (n,), all of them fitted, or none."""
        n_fitted_items = len(self.model.item_factors)
        items = np.flatnonzero(candidates.allowed[:n_fitted_items])
        if not len(rows) or not len(items):
            nothing = np.zeros(0, dtype=np.int64)
            return Pairs(nothing, nothing, np.zeros(0), nothing)
        some = histories.of(rows)
        with threadpool_limits(1, "blas"):
            item, score = self.model.recommend(
                some.user_index,
                _log_counts(some, n_fitted_items),
                N=k,
                filter_already_liked_items=candidates.exclude_seen,
                recalculate_user=not is_fitted,
                items=items,
            )
        filled = score > np.finfo(np.float32).min  # where fewer than k are left, the rest is marked so
        row = np.repeat(rows, item.shape[1])[filled.ravel()]
        return Pairs(row, item[filled], score[filled], np.zeros(len(row), dtype=np.int64))


def _log_counts(histories: Histories, n_rows: int) -> csr_matrix:
    counts = count_matrix(histories, n_rows)
    counts.data = np.log1p(counts.data)
    return counts


def _als(known: Histories, config: Config, validation: Fold | None) -> LeastSquares:
    """Return the factors of the purchases in ``known``, the histories of everybody."""
    counts = _log_counts(known, known.log.n_items + 1)
    factors, seed = config.baselines.als_factors, config.seed
    # implicit runs its own threads: BLAS threads beneath them would slow it down, and it warns about them
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors, iterations=ITERATIONS, num_threads=N_THREADS, random_state=seed)
        model.fit(counts, show_progress=False)
    return LeastSquares(model, fit_popularity_week(known, config))


SYSTEMS: Final = {"als": _als}
