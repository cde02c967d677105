"""Next-basket methods of Cornac: GP-TopFreq, TIFU-KNN, UP-CF."""

from collections import OrderedDict
from itertools import pairwise
from typing import Any, ClassVar

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


class _Cornac(ScoringPeer):
    library = "cornac"
    model: Any  # of cornac

    def _fit_model(self, events: Events) -> None:
        """Fit ``self.model`` on baskets with the rows of users and items as they are."""
        from cornac.data import BasketDataset

        self.baskets = Baskets(events, self.n_users)
        rows, number = [], 0
        for user, baskets in enumerate(self.baskets.of_user):
            for basket in baskets:
                rows += [(user, number, item) for item in basket]
                number += 1
        same = [OrderedDict((code, code) for code in range(n)) for n in (self.n_users, self.n_items)]
        self.model.fit(BasketDataset.build(rows, fmt="UBI", global_uid_map=same[0], global_iid_map=same[1]))


class GpTop(_Cornac):
    """GP-TopFreq: how many of a user's baskets hold the item, then how many of everybody's."""

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Count."""
        from cornac.models import GPTop

        self.model = GPTop(**settings)
        self._fit_model(events)

    def score(self, history: Events, users: np.ndarray) -> np.ndarray:
        """Return the library's scores."""
        return np.stack([self.model.score(user, self.baskets.of_user[user]) for user in users])


class TifuKnn(_Cornac):
    """TIFU-KNN (Hu et al. 2020): counts that decay by basket and by group of baskets, mixed with those of neighbours.

    The vector of a user is the library's. Neighbours are searched exactly on sparse vectors, and their mean is taken
    item by item (equation 6 of the paper): the library takes one mean over all entries, by which neighbours would not
    count, and leaves out everybody's last basket, which here is known.
    """

    #: The library's defaults (Ta-Feng), the paper's for Dunnhumby, Instacart and ValuedShopper, then near the last.
    grid: ClassVar[tuple[Settings, ...]] = (
        {"n_neighbors": 300, "within_decay_rate": 0.9, "group_decay_rate": 0.7, "alpha": 0.7, "n_groups": 7},
        {"n_neighbors": 900, "within_decay_rate": 0.9, "group_decay_rate": 0.6, "alpha": 0.2, "n_groups": 3},
        {"n_neighbors": 900, "within_decay_rate": 0.9, "group_decay_rate": 0.7, "alpha": 0.9, "n_groups": 3},
        {"n_neighbors": 300, "within_decay_rate": 1.0, "group_decay_rate": 0.6, "alpha": 0.7, "n_groups": 7},
        {"n_neighbors": 300, "within_decay_rate": 1.0, "group_decay_rate": 0.6, "alpha": 0.9, "n_groups": 7},
        {"n_neighbors": 300, "within_decay_rate": 1.0, "group_decay_rate": 0.8, "alpha": 0.9, "n_groups": 7},
    )

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Make the vector of every user."""
        from cornac.models import TIFUKNN

        # The library fills a dense vector of the catalogue for each basket; a catalogue of the user's own items gives
        # the same numbers.
        class OfOwnItems(TIFUKNN):  # type: ignore[misc]
            total_items = 0

        self.model = OfOwnItems(**settings)
        vectors = [self._vector(baskets) for baskets in Baskets(events, self.n_users).of_user]
        self.vectors = sparse.vstack(vectors, format="csr")
        self.squares = np.asarray(self.vectors.multiply(self.vectors).sum(axis=1)).ravel()
        self.n_neighbours = min(self.model.n_neighbors, self.n_users)

    def _vector(self, baskets: list[list[int]]) -> sparse.csr_matrix:
        if not baskets:
            return sparse.csr_matrix((1, self.n_items), dtype=np.float32)
        own = np.unique(np.concatenate(baskets))
        self.model.total_items = len(own)
        values = self.model._compute_user_vector([np.searchsorted(own, basket) for basket in baskets])
        return sparse.csr_matrix((values.astype(np.float32), own, [0, len(own)]), shape=(1, self.n_items))

    def score(self, history: Events, users: np.ndarray) -> np.ndarray:
        """Return the mixture of a user's vector and the mean of the nearest ones."""
        mine = self.vectors[users]
        distance = self.squares[users][:, None] + self.squares - 2 * (mine @ self.vectors.T).toarray()
        near = np.argpartition(distance, self.n_neighbours - 1, axis=1)[:, : self.n_neighbours]
        bounds = np.arange(len(users) + 1) * self.n_neighbours
        share = np.full(near.size, 1 / self.n_neighbours, dtype=np.float32)
        mean = sparse.csr_matrix((share, near.ravel(), bounds), shape=(len(users), self.n_users)) @ self.vectors
        mixed = self.model.alpha * mine + (1 - self.model.alpha) * mean
        scores: np.ndarray = mixed.toarray().astype(np.float32)
        return np.where(scores > 0, scores, -np.inf)


class UpCf(_Cornac):
    """UP-CF@r (Faggioli et al. 2020): shares of the last r baskets that hold the item, weighted by similarity of users.

    The library's formulas for all users asked at once, instead of one call each.
    """

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
