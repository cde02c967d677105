"""How good vectors (N, D), and a map drawn from them, are: do like items stand together, as Q of them are queried?"""

from collections.abc import Iterator, Mapping

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import normalized_mutual_info_score

N_NEIGHBOURS = 10
#: Rows of distances that are in memory at a time.
_CHUNK = 512


def nearest(points: np.ndarray, queried: np.ndarray, k: int = N_NEIGHBOURS) -> np.ndarray:
    """Return the ``k`` nearest others (Q, k) int64 of the ``queried`` points, nearest first, level ones in order."""
    found = np.zeros((len(queried), k), dtype=np.int64)
    for some, distance in _squared_distances(points, queried, own=np.inf):
        candidates = np.argpartition(distance, min(2 * k, distance.shape[1] - 1), axis=1)[:, : 2 * k]
        candidates.sort(axis=1)
        order = np.argsort(np.take_along_axis(distance, candidates, axis=1), axis=1, kind="stable")[:, :k]
        found[some] = np.take_along_axis(candidates, order, axis=1)
    return found


def _squared_distances(points: np.ndarray, queried: np.ndarray, own: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield squared distances (R, N) of some of ``queried`` (Q,), at least 0, to all ``points``; ``own`` to itself."""
    norms = np.square(points).sum(axis=1)
    for begin in range(0, len(queried), _CHUNK):
        rows = queried[begin : begin + _CHUNK]
        distance = norms[rows][:, None] + norms - 2 * (points[rows] @ points.T)
        np.maximum(distance, 0, out=distance)
        distance[np.arange(len(rows)), rows] = own
        yield slice(begin, begin + len(rows)), distance


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
    for some, distance in _squared_distances(points, queried, own=-1.0):
        theirs = np.take_along_axis(distance, on_map[some], axis=1)
        pairs = zip(np.sort(distance, axis=1), theirs, strict=True)
        rank = np.stack([np.searchsorted(ordered, near) for ordered, near in pairs])
        penalty += int(np.maximum(rank - k, 0).sum())
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
