"""Two rules of the literature on next baskets: the most frequent items, and counts mixed with those of neighbours."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.sparse import csr_matrix

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates
from recsys.modeling.recommenders.rules.baskets import baskets_back, baskets_of, highest, pairs_of, summed
from recsys.modeling.recommenders.rules.choice import choose
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import Popularity, fit_popularity, fit_popularity_week
from recsys.modeling.recommenders.scored_pairs import Pairs

#: Groups into which a customer's baskets are cut, in time order, and how they decay: what was best for groceries.
N_GROUPS, GROUP_DECAY = 7, 0.7
#: Nearest customers whose mean is taken; customers among whom they are searched, evenly drawn where there are more.
N_NEIGHBOURS, MAX_SEARCHED = 300, 8_192
#: Items of a neighbour that are read: the rest weighs nothing in a list, and takes most of the time.
MAX_VECTOR_ITEMS = 50
#: Shares of the customer's own vector that are tried on validation.
TRIED: Final = {"share": (0.5, 0.7, 0.9)}


@dataclass(frozen=True)
class TopFrequent(PersonalRecommender):
    """Own items by the number of baskets that hold them, of equals what sold best, then the best sellers of all time.

    GP-TopFreq (Li et al. 2023, "A Next Basket Recommendation Reality Check").
    """

    fallback: Popularity
    name: str = "gp_topfreq"

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        held, owner = baskets_of(histories, len(candidates.allowed))
        bought = summed(np.ones(len(owner)), owner, np.arange(len(owner)), len(histories), held)
        sold = np.zeros(len(candidates.allowed), dtype=np.int64)
        sold[: self.fallback.counts.shape[1]] = self.fallback.counts[0]
        return pairs_of(bought, sold[bought.indices])


@dataclass(frozen=True)
class TifuKnn(PersonalRecommender):
    """Own counts that decay by group of baskets, mixed with the mean of the nearest customers, then what sells.

    TIFU-KNN (Hu et al. 2020, "Modeling Personalized Item Frequency Information for Next-basket Recommendation") without
    its second decay, within a group; groups are as equal as can be, and a customer may be a neighbour of himself.
    """

    vectors: csr_matrix  # (N, V) float32 of the customers among whom neighbours are searched
    fallback: Popularity
    share: float = 0.7
    name: str = "tifu_knn"
    max_events = 20_000

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        mine, n_near = user_vectors(histories, self.vectors.shape[1]), min(N_NEIGHBOURS, self.vectors.shape[0])
        squares = self.vectors.power(2).sum(axis=1).A1
        distance = squares - 2 * (mine @ self.vectors.T).toarray()
        near = np.argpartition(distance, n_near - 1, axis=1)[:, :n_near].ravel()
        weight = np.full(len(near), (1 - self.share) / n_near)
        mean = summed(weight, np.repeat(np.arange(len(histories)), n_near), near, len(histories), self.vectors)
        return pairs_of(self.share * mine + mean)


def user_vectors(histories: Histories, n_rows: int) -> csr_matrix:
    """Return the mean over groups of ``GROUP_DECAY ** groups after it`` times the mean of its baskets, (Q, n_rows)."""
    held, owner = baskets_of(histories, n_rows)
    age, n_baskets = baskets_back(owner)
    n_groups = np.minimum(n_baskets, N_GROUPS)
    group = age * n_groups // n_baskets  # 0 is the latest
    size = np.bincount(owner * N_GROUPS + group)[owner * N_GROUPS + group]
    weight = GROUP_DECAY**group / (size * n_groups)
    return summed(weight, owner, np.arange(len(owner)), len(histories), held)


def _top_frequent(known: Histories, config: Config, validation: Fold | None) -> TopFrequent:
    return TopFrequent(fit_popularity(known, config))


def _tifu_knn(known: Histories, config: Config, validation: Fold | None) -> TifuKnn:
    return replace(_with_vectors(known, config), **choose(_with_vectors, known.log, config, validation, TRIED))


def _with_vectors(known: Histories, config: Config) -> TifuKnn:
    buyers = np.flatnonzero(known.n_events)
    searched = known.of(buyers[:: 1 + len(buyers) // MAX_SEARCHED])
    vectors = highest(user_vectors(searched, known.log.n_items + 1), MAX_VECTOR_ITEMS)
    return TifuKnn(vectors, fit_popularity_week(known, config))


SYSTEMS: Final = {"gp_topfreq": _top_frequent, "tifu_knn": _tifu_knn}
