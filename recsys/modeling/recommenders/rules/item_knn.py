"""Items that are bought with what a customer bought: co-visitation counts, and item-kNN from `implicit`."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from implicit.nearest_neighbours import all_pairs_knn, bm25_weight
from scipy.sparse import csr_matrix

from recsys.config import Config
from recsys.data.order import rank_in_row
from recsys.data.purchases import Histories
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates
from recsys.modeling.recommenders.rules.baskets import pairs_of
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import WEEK_DAYS, Popularity, fit_popularity_week
from recsys.modeling.recommenders.scored_pairs import Pairs, sum_pairs

N_THREADS = 2
#: Window of the pair counts: a quarter, so that what goes together is of the season.
COVISITATION_DAYS: Final = 90
#: Similar items kept for each item: many times the length of a list, and the memory stays linear in the catalogue.
N_NEIGHBOURS: Final = 100
#: Distinct items of one user and week that are paired: bounds the work, which grows with their square.
MAX_VISIT_ITEMS = 100
#: Latest events of a user whose neighbours are looked up: bounds the work of very long histories.
MAX_QUERY_EVENTS = 300


@dataclass(frozen=True)
class Neighbours(PersonalRecommender):
    """Σ over events of ``days`` of 2 ** (-age_days / half_life_days) · similarity, then what sold last week."""

    name: str
    similarity: csr_matrix  # (V, V) float32 at the fit, row i holds the items that go with item i
    fallback: Popularity
    half_life_days: float = np.inf
    days: float = np.inf
    max_events = 50_000

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        row, position = histories.events()
        item = histories.log.item[position]
        age_days = np.maximum(histories.day - histories.log.day[position], 0)
        n_rows = self.similarity.shape[0]
        counted = (histories.end[row] - position <= MAX_QUERY_EVENTS) & (item < n_rows) & (age_days <= self.days)
        weight = np.exp2(-age_days[counted] / self.half_life_days).astype(np.float32)
        weights = csr_matrix((weight, (row[counted], item[counted])), shape=(len(histories), n_rows))
        return pairs_of(csr_matrix(weights @ self.similarity))


def _covisitation(known: Histories, config: Config, validation: Fold | None) -> Neighbours:
    """Return co-visitation: items that the same users buy in the same week.

    A visit is one user's purchases of one of the last weeks, seven days each, counted back from ``known.day``. With
    ``n_ij`` visits that hold both i and j and ``n_i`` that hold i, the similarity is the cosine ``n_ij / sqrt(n_i
    n_j)``. An item is similar to itself (cosine 1), so that repeat purchases count.
    """
    similarity = _nearest(_cosine_weights(_visits(known, COVISITATION_DAYS)), N_NEIGHBOURS)
    fallback = fit_popularity_week(known, config)
    return Neighbours("covisitation", similarity, fallback, COVISITATION_DAYS / 3, COVISITATION_DAYS)


def _item_knn(known: Histories, config: Config, validation: Fold | None) -> Neighbours:
    """Return item-kNN by `implicit`: products of BM25-weighted columns of the user × item counts of all time."""
    counts = count_matrix(known, known.log.n_items + 1)
    weighted = bm25_weight(counts.T, K1=1.2, B=0.75).T.tocsr()
    return Neighbours("item_knn", _nearest(weighted, N_NEIGHBOURS), fit_popularity_week(known, config))


def count_matrix(histories: Histories, n_rows: int) -> csr_matrix:
    """Return how often each user bought each item below ``n_rows``, as a sparse (Q, n_rows) float32 matrix."""
    row, position = histories.events()
    item = histories.log.item[position]
    inside = item < n_rows
    ones = np.ones(np.count_nonzero(inside), dtype=np.float32)
    counts = csr_matrix((ones, (row[inside], item[inside])), shape=(len(histories), n_rows))
    counts.sum_duplicates()
    return counts


def _visits(known: Histories, days: int) -> csr_matrix:
    """Return which of the latest items each visit holds, as a sparse (visits, V) matrix of ones."""
    log = known.log
    row, position = known.events()
    recent = log.day[position] >= known.day - days
    row, position = row[recent], position[recent]
    # The last day before the one asked ends a week. Without dates, events of the very day asked belong to it as well.
    weeks_ago = np.maximum(known.day - 1 - log.day[position], 0) // WEEK_DAYS
    visit = np.unique(row * (int(weeks_ago.max(initial=0)) + 1) + weeks_ago, return_inverse=True)[1]
    held = sum_pairs(visit, log.item[position], np.ones(len(visit)), position)
    held = held.where(np.lexsort((-held.last, held.row)))
    held = held.where(rank_in_row(held.row) < MAX_VISIT_ITEMS)
    shape = (int(visit.max(initial=0)) + 1, log.n_items + 1)
    return csr_matrix((np.ones(len(held.row), dtype=np.float32), (held.row, held.item)), shape=shape)


def _cosine_weights(held: csr_matrix) -> csr_matrix:
    """Return a matrix with entry (r, i) ``1 / sqrt(n_i)`` where ``held`` has one: products of columns are cosines."""
    n_holders = np.bincount(held.indices, minlength=held.shape[1])
    return csr_matrix((1 / np.sqrt(n_holders[held.indices]), held.indices, held.indptr), shape=held.shape)


def _nearest(weighted: csr_matrix, n_neighbours: int) -> csr_matrix:
    """Return the ``n_neighbours`` largest products of each column with all columns, itself included."""
    nearest = all_pairs_knn(weighted.astype(np.float64), n_neighbours, show_progress=False, num_threads=N_THREADS)
    return nearest.tocsr().astype(np.float32)


SYSTEMS: Final = {"covisitation": _covisitation, "item_knn": _item_knn}
