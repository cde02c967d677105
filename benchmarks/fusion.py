"""Lists of several systems as one: what the benchmarks compare with beside each system alone."""

import numpy as np

from recsys.modeling.recommenders.scored_pairs import sum_pairs, top_k

#: Added to every rank in a fusion, so that first ranks do not decide alone (60 in the paper).
FUSION_OFFSET = 60


def fuse_reciprocal_ranks(lists: tuple[np.ndarray, ...], k: int) -> np.ndarray:
    """Return the ``k`` best items (Q, k) int32 of several lists per user, each (Q, any length) padded with 0.

    An item's score is the sum over the lists that hold it of ``1 / (60 + rank)`` (Cormack, Clarke and Büttcher 2009,
    "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods"). Of equal scores the item that
    stands in an earlier list comes first, then the smaller item_index. Rows with fewer distinct items end in 0.

    >>> fuse_reciprocal_ranks((np.array([[1, 2]]), np.array([[3, 2]])), 3)
    array([[2, 1, 3]], dtype=int32)
    """
    parts = []
    for number, items in enumerate(lists):
        row, rank = np.nonzero(items)
        parts.append((row, items[row, rank], 1 / (FUSION_OFFSET + 1 + rank), np.full(len(row), -number)))
    together = sum_pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return top_k(together, len(lists[0]), k)[0]
