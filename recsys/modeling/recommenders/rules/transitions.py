"""What is bought after what: a directed graph of transitions whose counts fall with the distance, nothing trained.

Items of one basket have no order, so pairs within a basket are not counted: co-visitation counts those. In a sequence
without dates each item is a basket.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import sparse

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates
from recsys.modeling.recommenders.rules.baskets import baskets_back, baskets_of, highest, pairs_of, summed
from recsys.modeling.recommenders.rules.choice import choose
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import Popularity, fit_popularity_week
from recsys.modeling.recommenders.scored_pairs import Pairs, top_k

#: Baskets between two items that are counted, and how fast the count falls: chosen on validation windows of four logs.
MAX_DISTANCE, DISTANCE_DECAY = 6, 0.7
#: Latest baskets of a customer that are followed.
N_BASKETS: Final = 10
#: Days whose purchases are counted, where there are dates: a season.
WINDOW_DAYS: Final = 90
#: Items kept after each item, and pairs that are counted at a time: together they bound memory.
N_FOLLOWERS, MAX_PAIRS = 100, 20_000_000
#: What is tried on validation, one number after the other.
TRIED: Final = {"source": (0.0, 0.5, 1.0), "recency": (0.3, 0.5, 0.7, 0.9), "target": (0.0, 0.25, 0.5)}


@dataclass(frozen=True)
class Transitions(PersonalRecommender):
    """What followed the items i of the last baskets, then what sold last week.

    The score of j is ``Σ_i recency ** age(i) · n_i ** -source · n_j ** -target · Σ_d 0.7 ** (d - 1) · count(i → j, d
    baskets later)`` with ``age`` in baskets and ``n`` baskets that hold an item.
    """

    followers: sparse.csr_matrix  # (V, V) float32 at the fit, row i holds the decayed counts of what followed item i
    n_baskets: np.ndarray  # (V,) int64
    fallback: Popularity
    recency: float = 0.7
    source: float = 0.5
    target: float = 0.0
    name: str = "transitions"
    max_events = 200_000

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        held, owner = baskets_of(histories, len(self.n_baskets))
        age, _ = baskets_back(owner)
        latest = np.flatnonzero(age < N_BASKETS)
        weights = summed(self.recency ** age[latest], owner[latest], latest, len(histories), held)
        n_V = np.maximum(self.n_baskets, 1).astype(np.float32)
        weights.data *= n_V[weights.indices] ** -self.source
        scores = weights @ self.followers
        scores.data *= n_V[scores.indices] ** -self.target
        return pairs_of(scores, self.n_baskets[scores.indices])


def count_transitions(known: Histories, since: int | None = None) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return what followed each item, and how many baskets held it (V,) int64, ``since`` a day.

    The former (V, V) float32 are decayed counts, of each item the ``N_FOLLOWERS`` highest.
    """
    held, owner = baskets_of(known, known.log.n_items + 1, since)
    return count_followers(held, owner), np.bincount(held.indices, minlength=held.shape[1])


def count_followers(held: sparse.csr_matrix, owner: np.ndarray) -> sparse.csr_matrix:
    """Return the decayed counts (V, V) float32 of what followed each item, of each the ``N_FOLLOWERS`` highest."""
    places = [np.flatnonzero(owner[d:] == owner[:-d]) for d in range(1, MAX_DISTANCE + 1)]
    place, further = np.concatenate(places), np.repeat(np.arange(MAX_DISTANCE), [len(part) for part in places])
    later = summed(DISTANCE_DECAY**further, place, place + 1 + further, len(owner), held)
    holders = held.T.tocsr()
    return sparse.vstack([highest(holders[part] @ later, N_FOLLOWERS) for part in _parts(holders, later)], format="csr")


def follower_table(known: Histories, n_followers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items (V, K) int32 that followed each one most strongly, and how strongly, float32; 0 after the last.

    The strength is that of :class:`Transitions` before any number is chosen; all of ``known`` counts.
    """
    followers, n_baskets = count_transitions(known)
    n_V = np.maximum(n_baskets, 1).astype(np.float32)
    pairs = pairs_of(followers)
    score = pairs.score * n_V[pairs.row] ** -Transitions.source * n_V[pairs.item] ** -Transitions.target
    return top_k(pairs._replace(score=score), len(n_V), n_followers)


def _parts(holders: sparse.csr_matrix, later: sparse.csr_matrix) -> Iterator[slice]:
    """Yield slices of the items that have about ``MAX_PAIRS`` pairs each."""
    n_pairs = np.cumsum(holders @ np.diff(later.indptr))
    bounds = np.searchsorted(n_pairs, np.arange(MAX_PAIRS, n_pairs[-1], MAX_PAIRS), side="right")
    bounds = np.unique([0, *bounds, len(n_pairs)])
    yield from map(slice, bounds[:-1], bounds[1:])


def _counted(known: Histories, config: Config) -> Transitions:
    since = known.day - WINDOW_DAYS if config.split.protocol == "weekly" else None
    return Transitions(*count_transitions(known, since), fit_popularity_week(known, config))


def _transitions(known: Histories, config: Config, validation: Fold | None) -> Transitions:
    return replace(_counted(known, config), **choose(_counted, known.log, config, validation, TRIED))


SYSTEMS: Final = {"transitions": _transitions}
