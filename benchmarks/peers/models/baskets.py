"""A next-basket method of Cornac: UP-CF."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
from scipy import sparse

from benchmarks.peers.files import Budget, Events, matrix
from benchmarks.peers.models.peer import ScoringPeer, Settings, n_threads


class Baskets:
    """The baskets of every user in time order, as lists of items (each item once a basket)."""

    def __init__(self, events: Events, n_users: int) -> None:
        new = np.ones(len(events.user), dtype=bool)
        new[1:] = (events.user[1:] != events.user[:-1]) | (events.basket[1:] != events.basket[:-1])
        bounds = np.append(np.flatnonzero(new), len(events.user))
        self.of_user: list[list[list[int]]] = [[] for _ in range(n_users)]
        for begin, end in pairwise(bounds):
            self.of_user[events.user[begin]].append(np.unique(events.item[begin:end]).tolist())


class UpCf(ScoringPeer):
    """UP-CF@r (Faggioli et al. 2020): shares of the last r baskets that hold the item, weighted by similarity of users.

    The library's formulas for all users asked at once, instead of one call each.
    """

    library = "cornac"
    #: What comparisons chose for grocery data, then the library's defaults, then longer and shorter windows.
    grid: ClassVar[tuple[Settings, ...]] = (
        {"recency": 25, "locality": 5, "asymmetry": 0.25},
        {"recency": 1, "locality": 1, "asymmetry": 0.25},
        {"recency": 100, "locality": 5, "asymmetry": 0.25},
        {"recency": 25, "locality": 50, "asymmetry": 0.25},
        {"recency": 5, "locality": 5, "asymmetry": 0.25},
    )

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Count each user's last baskets."""
        from cornac.models import UPCF

        class OfOwnItems(UPCF):  # type: ignore[misc]
            total_items = self.n_items

        self.model = OfOwnItems(**settings)
        popularity = [
            self.model._get_user_wise_popularity(baskets) if baskets else sparse.csr_matrix((1, self.n_items))
            for baskets in Baskets(events, self.n_users).of_user
        ]
        self.popularity = sparse.vstack(popularity, format="csr").astype(np.float32)
        self.bought = matrix(events, self.n_users, self.n_items)
        self.bought.data[:] = 1

    def score(self, history: Events, users: np.ndarray) -> np.ndarray:
        """Return the users' shares weighted by their similarity to the one asked."""
        import similaripy

        similarity = similaripy.asymmetric_cosine(
            self.bought,
            alpha=self.model.asymmetry,
            k=self.n_users,
            target_rows=users,
            verbose=False,
            format_output="csr",
            num_threads=n_threads(),
        )
        weight = similarity.tocsr()[users].power(self.model.locality)
        scores: np.ndarray = (weight @ self.popularity).toarray().astype(np.float32)
        return np.where(scores > 0, scores, -np.inf)
