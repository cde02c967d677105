"""What tables of a day are counted as: sums over users, of whom some can be taken out and put in anew."""

from typing import Any, Final, TypeAlias

import numpy as np
from scipy import sparse

#: Name → counts, of items (V, …) or of pairs of items (V, V) sparse. ``first_day`` is the least over users, no sum.
Counts: TypeAlias = dict[str, Any]
#: Later than any day.
NEVER: Final = np.iinfo(np.int32).max


def recounted(counts: Counts, before: Counts, after: Counts) -> Counts:
    """Return ``counts`` once some users' part of it is not ``before`` but ``after``, which may know newer items."""
    return {
        name: np.minimum(_longer(counts[name], one, NEVER), one)
        if name == "first_day"
        else _longer(counts[name], one) - _longer(before[name], one) + one
        for name, one in after.items()
    }


def _longer(counts: Any, like: Any, fill: int = 0) -> Any:  # noqa: ANN401 - dense or sparse
    """Return ``counts`` with rows, and columns where it is of pairs, for the items that ``like`` has besides."""
    if sparse.issparse(counts):
        longer = counts.copy()
        longer.resize(like.shape)
        return longer
    missing = [(0, new - old) for old, new in zip(np.shape(counts), np.shape(like), strict=True)]
    return np.pad(counts, missing, constant_values=fill)
