"""Items that go with what a customer bought: co-visitation counts, and item-kNN from `implicit`."""

from dataclasses import dataclass

import numpy as np
from implicit.nearest_neighbours import all_pairs_knn, bm25_weight
from scipy.sparse import csr_matrix

from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates
from recsys.modeling.recommenders.personal import PersonalRecommender
from recsys.modeling.recommenders.popularity import Popularity
from recsys.modeling.recommenders.scored_pairs import Pairs, known_events, sum_pairs

N_THREADS = 2
WEEK_DAYS = 7
#: Distinct items of one customer and week that are paired: bounds the work, which grows with their square.
MAX_VISIT_ITEMS = 100
#: Latest events of a customer that ask for neighbours: bounds the work of very long histories.
MAX_QUERY_EVENTS = 300


@dataclass(frozen=True)
class Neighbours(PersonalRecommender):
    """Scores ``sum over the customer's events of weight × similarity[item, ·]``, then what sold last week.

    The weight of an event is ``2 ** (-age_days / half_life_days)``; events older than ``days`` days have none. Only the
    customer's 300 latest events ask.
    """

    name: str
    similarity: csr_matrix  # (V, V) float32, row i holds the items that go with item i
    fallback: Popularity
    half_life_days: float = np.inf
    days: int | None = None
    max_events = 50_000

    def score(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Pairs:
        """Return every item that goes with one of the customer's."""
        row, position = known_events(history, user_index)
        age_days = np.maximum(history.day - history.data.day[position], 0)
        asks = history.end[user_index][row] - position <= MAX_QUERY_EVENTS
        if self.days is not None:
            asks &= age_days <= self.days
        weight = np.exp2(-age_days[asks] / self.half_life_days).astype(np.float32)
        shape = (len(user_index), self.similarity.shape[0])
        asked = csr_matrix((weight, (row[asks], history.data.item[position[asks]])), shape=shape)
        scores = csr_matrix(asked @ self.similarity)
        scored_row = np.repeat(np.arange(len(user_index), dtype=np.int64), np.diff(scores.indptr))
        return Pairs(scored_row, scores.indices, scores.data, np.zeros(len(scored_row), dtype=np.int64))


def fit_covisitation(history: History, days: int, n_neighbours: int, fallback: Popularity) -> Neighbours:
    """Return co-visitation: items that the same customers buy in the same week.

    A visit is one customer's purchases of one calendar week among the last ``days`` days; it counts at most 100
    distinct items, the latest. With ``n_ij`` visits that hold both i and j and ``n_i`` that hold i, the similarity is
    the cosine ``n_ij / sqrt(n_i n_j)``, kept for the ``n_neighbours`` largest of each item. An item goes with itself
    (cosine 1), so that repeat purchases count. Order and distance inside a visit do not matter.
    """
    visits = _visits(history, days)
    n_visits = np.bincount(visits.indices, minlength=visits.shape[1])
    visits.data = 1 / np.sqrt(n_visits[visits.indices])
    similarity = _nearest(visits, n_neighbours)
    return Neighbours("covisitation", similarity, fallback, half_life_days=days / 3, days=days)


def fit_item_knn(history: History, n_neighbours: int, fallback: Popularity) -> Neighbours:
    """Return item-kNN by `implicit`: products of BM25-weighted columns of the customer × item counts of all time."""
    counts = count_matrix(history, np.arange(history.data.n_users))
    weighted = bm25_weight(counts.T, K1=1.2, B=0.75).T.tocsr()
    return Neighbours("item_knn", _nearest(weighted, n_neighbours), fallback)


def nearest_by_cosine(history: History, n_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the items (V, K) int32 whose customers are most like those of each, and the cosines (V, K) float32.

    With ``n_ij`` customers who bought both and ``n_i`` who bought i, each counted once: ``n_ij / sqrt(n_i n_j)``. 0
    where fewer than ``n_neighbours`` K were bought with an item.
    """
    bought = count_matrix(history, np.arange(history.data.n_users))
    n_buyers = np.bincount(bought.indices, minlength=bought.shape[1])
    bought.data = 1 / np.sqrt(n_buyers[bought.indices])
    found = _nearest(bought, n_neighbours + 1).tocoo()
    others = np.flatnonzero(found.row != found.col)
    order = others[np.lexsort((found.col[others], -found.data[others], found.row[others]))]
    row = found.row[order]
    place = np.arange(len(order)) - np.searchsorted(row, row)
    shape = (bought.shape[1], n_neighbours)
    item, cosine = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    fits = place < n_neighbours  # where an item is not the nearest to itself
    item[row[fits], place[fits]], cosine[row[fits], place[fits]] = found.col[order][fits], found.data[order][fits]
    return item, cosine


def count_matrix(history: History, user_index: np.ndarray) -> csr_matrix:
    """Return how often each of ``user_index`` bought each item, as a sparse (Q, V) float32 matrix."""
    row, position = known_events(history, user_index)
    ones = np.ones(len(row), dtype=np.float32)
    shape = (len(user_index), history.data.n_items + 1)
    counts = csr_matrix((ones, (row, history.data.item[position])), shape=shape)
    counts.sum_duplicates()
    return counts


def _visits(history: History, days: int) -> csr_matrix:
    """Return which of the latest items each visit holds, as a sparse (visits, V) matrix of ones."""
    data = history.data
    user, position = known_events(history, np.arange(data.n_users))
    recent = data.day[position] >= history.day - days
    user, position = user[recent], position[recent]
    weeks_ago = (history.day - data.day[position]) // WEEK_DAYS
    visit = np.unique(user * (int(weeks_ago.max(initial=0)) + 1) + weeks_ago, return_inverse=True)[1]
    held = sum_pairs(visit, data.item[position], np.ones(len(visit)), position)
    order = np.lexsort((-held.last, held.row))
    rank = np.arange(len(order)) - np.searchsorted(held.row[order], held.row[order])
    keep = order[rank < MAX_VISIT_ITEMS]
    shape = (int(visit.max(initial=0)) + 1, data.n_items + 1)
    return csr_matrix((np.ones(len(keep), dtype=np.float32), (held.row[keep], held.item[keep])), shape=shape)


def _nearest(weighted: csr_matrix, n_neighbours: int) -> csr_matrix:
    """Return the ``n_neighbours`` largest products of each column with all columns, itself included."""
    nearest = all_pairs_knn(weighted.astype(np.float64), n_neighbours, show_progress=False, num_threads=N_THREADS)
    similarity: csr_matrix = nearest.tocsr().astype(np.float32)
    return similarity
