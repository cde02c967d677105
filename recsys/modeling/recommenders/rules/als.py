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
from recsys.modeling.recommenders.base import Candidates
from recsys.modeling.recommenders.rules.item_knn import N_THREADS, count_matrix
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import Popularity, fit_popularity_week
from recsys.modeling.recommenders.scored_pairs import Pairs, united


@dataclass(frozen=True)
class LeastSquares(PersonalRecommender):
    """Scores ``user_factor · item_factor``; the factor of a fitted user stays, whatever was bought since.

    Weighted matrix factorisation for implicit feedback (Hu, Koren and Volinsky 2008) on ``log(1 + count)``. Users who
    were not fitted get the factor that solves their own history against the item factors.
    """

    model: Any  # implicit.cpu.als.AlternatingLeastSquares
    fallback: Popularity
    name: str = "als"

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        n_rows = len(self.model.item_factors)
        items = np.flatnonzero(candidates.allowed[:n_rows])
        has_factor = np.zeros(len(histories), dtype=bool)  # whether the user had a history at the fit
        row = histories.known_as
        old = (row >= 0) & (row < len(self.model.user_factors))
        has_factor[old] = self.model.user_factors[row[old]].any(axis=1)
        nothing = np.zeros(0, dtype=np.int64)
        parts = [Pairs(nothing, nothing, np.zeros(0), nothing)]
        for is_fitted in (True, False):
            rows = np.flatnonzero((histories.n_events > 0) & (has_factor == is_fitted))
            if not len(rows) or not len(items):
                continue
            some = histories.of(rows)
            options = {"N": k, "filter_already_liked_items": candidates.exclude_seen, "items": items}
            with threadpool_limits(1, "blas"):
                item, score = self.model.recommend(
                    some.known_as, _log_counts(some, n_rows), recalculate_user=not is_fitted, **options
                )
            filled = score > np.finfo(np.float32).min  # where fewer than k are left, the rest is marked so
            row = np.repeat(rows, item.shape[1])[filled.ravel()]
            parts.append(Pairs(row, item[filled], score[filled], np.zeros(len(row), dtype=np.int64)))
        return united(*parts)


def _log_counts(histories: Histories, n_rows: int) -> csr_matrix:
    counts = count_matrix(histories, n_rows)
    counts.data = np.log1p(counts.data)
    return counts


def _als(known: Histories, config: Config, validation: Fold | None) -> LeastSquares:
    counts = _log_counts(known, known.log.n_items + 1)
    factors, seed = config.baselines.als_factors, config.seed
    # implicit runs its own threads: BLAS threads beneath them would slow it down, and it warns about them
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors, iterations=15, num_threads=N_THREADS, random_state=seed)
        model.fit(counts, show_progress=False)
    return LeastSquares(model, fit_popularity_week(known, config))


SYSTEMS: Final = {"als": _als}
