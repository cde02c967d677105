"""ALS and item-kNN from `implicit`."""

from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from benchmarks.peers.files import Budget, Events, Recommendations, matrix
from benchmarks.peers.models.peer import Peer, Settings, n_threads


class _Implicit(Peer):
    library = "pm-implicit"
    model: Any  # of implicit

    def _recommend(
        self, history: Events, users: np.ndarray, **options: bool
    ) -> tuple[Recommendations, Recommendations]:
        known = self._weighted(matrix(history, self.n_users, self.n_items))[users]
        lists = []
        for without_seen in (False, True):
            item, score = self.model.recommend(
                users, known, N=self.split.k, filter_already_liked_items=without_seen, **options
            )
            some = (item >= 0) & (score > np.finfo(np.float32).min) & ((score != 0) | bool(options))
            lists.append(Recommendations(np.where(some, item, -1).astype(np.int64), np.where(some, score, -np.inf)))
        return lists[0], lists[1]

    def _weighted(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        return counts

    def rank(self, date: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
        """Return the library's own recommendations."""
        return self._recommend(history, users)


class Als(_Implicit):
    """Alternating least squares (Hu, Koren and Volinsky 2008); a user's factor is recalculated at each fold."""

    each_fold = False
    #: The library's defaults; what its tutorial uses; more weight on what was bought (alpha 40 is the paper's).
    grid: ClassVar[tuple[Settings, ...]] = (
        {"weights": "counts", "factors": 100, "regularization": 0.01, "alpha": 1.0},
        {"weights": "bm25", "factors": 64, "regularization": 0.05, "alpha": 2.0},
        {"weights": "counts", "factors": 64, "regularization": 0.01, "alpha": 40.0},
    )

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Learn factors from counts, or counts weighted as in the library's tutorial."""
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.nearest_neighbours import bm25_weight

        settings = dict(settings)
        self.bm25 = bm25_weight if settings.pop("weights") == "bm25" else None
        self.model = AlternatingLeastSquares(
            **settings, iterations=15, num_threads=n_threads(), random_state=self.split.meta["seed"]
        )
        self.model.fit(self._weighted(matrix(events, self.n_users, self.n_items)), show_progress=False)

    def rank(self, date: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
        """Return recommendations by factors that are recalculated from the history."""
        return self._recommend(history, users, recalculate_user=True)

    def _weighted(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        return counts if self.bm25 is None else self.bm25(counts, K1=100, B=0.8).tocsr()


class ItemKnn(_Implicit):
    """Item-based nearest neighbours with BM25 weights."""

    #: The library's defaults; more neighbours; the weights of its tutorial.
    grid: ClassVar[tuple[Settings, ...]] = (
        {"K": 20, "K1": 1.2, "B": 0.75},
        {"K": 200, "K1": 1.2, "B": 0.75},
        {"K": 20, "K1": 100, "B": 0.8},
        {"K": 200, "K1": 100, "B": 0.8},
    )

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Keep the nearest items of each item."""
        from implicit.nearest_neighbours import BM25Recommender

        self.model = BM25Recommender(**settings, num_threads=n_threads())
        self.model.fit(matrix(events, self.n_users, self.n_items), show_progress=False)
