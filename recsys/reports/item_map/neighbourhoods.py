"""How good vectors (N, D), and a map drawn from them, are: do like items stand together, as Q of them are queried?"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import euclidean_distances, normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors

N_NEIGHBOURS = 10
#: Rows of distances that are in memory at a time.
_CHUNK = 512


def nearest(points: np.ndarray, queried: np.ndarray, k: int = N_NEIGHBOURS) -> np.ndarray:
    """Return the ``k`` nearest others (Q, k) int64 of the ``queried`` points, nearest first."""
    index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(points)
    found: np.ndarray = index.kneighbors(points[queried], return_distance=False)
    is_itself = found == queried[:, None]
    is_itself[~is_itself.any(axis=1), -1] = True  # where so many others stand on it that it is not found
    return found[~is_itself].reshape(-1, k)


def purity(neighbour: np.ndarray, queried: np.ndarray, category: np.ndarray) -> float:
    """Return the mean share of each item's neighbours (Q, K) that have its own ``category`` (N,)."""
    return float((category[neighbour] == category[queried][:, None]).mean())


def trustworthiness(points: np.ndarray, layout: np.ndarray, queried: np.ndarray, k: int = N_NEIGHBOURS) -> float:
    """Return how far neighbours on the map are neighbours among the vectors: 1 where all are, 0.5 for chance.

    ``1 - 2 / (Q k (2N - 3k - 1)) · Σ_q Σ_{j near q on the map} max(0, rank_q(j) - k)`` with the rank of j, from 1, by
    distance from q among the vectors (Venna and Kaski, 2001, Neighborhood preservation in nonlinear projection methods,
    equation 1), summed over the items queried instead of over all.
    """
    on_map, n = nearest(layout, queried, k), len(points)
    penalty = 0
    for begin in range(0, len(queried), _CHUNK):
        rows, near = queried[begin : begin + _CHUNK], on_map[begin : begin + _CHUNK]
        distance = euclidean_distances(points[rows], points, squared=True)
        distance[np.arange(len(rows)), rows] = -1  # nothing is nearer than the item itself, whose rank is 0
        rank = rankdata(distance, "min", axis=1) - 1
        penalty += int(np.maximum(np.take_along_axis(rank, near, axis=1) - k, 0).sum())
    return 1 - 2 * penalty / (len(queried) * k * (2 * n - 3 * k - 1))


def clustering_agreement(points: np.ndarray, category: np.ndarray, seed: int) -> float:
    """Return the normalised mutual information of ``category`` (N,) and as many k-means clusters as it has values."""
    n_clusters = min(len(np.unique(category)), len(points))
    means = MiniBatchKMeans(n_clusters, random_state=seed, n_init=3, batch_size=2048).fit(points)
    return float(normalized_mutual_info_score(category, means.labels_))


def measures(
    points: np.ndarray, layout: np.ndarray, categories: Mapping[str, np.ndarray], *, n_queried: int, seed: int
) -> dict[str, float]:
    """Return all measures of ``points`` (N, D) and their ``layout`` (N, 2), on ``n_queried`` items by ``seed``."""
    queried = np.sort(np.random.default_rng(seed).permutation(len(points))[:n_queried])
    near, near_on_map = nearest(points, queried), nearest(layout, queried)
    found = {f"purity_{name}": purity(near, queried, category) for name, category in categories.items()}
    found |= {f"map_purity_{name}": purity(near_on_map, queried, category) for name, category in categories.items()}
    found |= {f"nmi_{name}": clustering_agreement(points, category, seed) for name, category in categories.items()}
    return found | {"trustworthiness": trustworthiness(points, layout, queried)}
