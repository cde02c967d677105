"""Ranks of channels and baskets: what a code becomes once it is known which values occur."""

import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.encode import missing_code
from recsys.errors import DataError


def ranked(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 1-based rank (E,) of ``codes`` (E,) among those that occur, and these, ascending.

    The rank is 0 where the code is missing; it has the codes' own dtype.

    >>> [array.tolist() for array in ranked(np.array([7, 3, 7, missing_code(np.dtype("int64"))]))]
    [[2, 1, 2, 0], [3, 7]]
    """
    missing = missing_code(codes.dtype)
    if codes.dtype == np.int8:  # by a table of the 256 values instead of a sort
        occurs = np.zeros(256, dtype=bool)
        occurs[codes.view(np.uint8)] = True
        every = np.arange(256, dtype=np.uint8).view(np.int8)
        values = np.sort(every[occurs & (every != missing)])
        return np.searchsorted(values, every, side="right").astype(np.int8)[codes.view(np.uint8)], values
    values = np.unique(codes)
    values = values[values != missing]
    return np.searchsorted(values, codes, side="right").astype(codes.dtype), values


def channel_ranks(codes: np.ndarray | None, texts: pa.Array | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the channels (E,) int8 of ``codes`` (E,), and the names of those from 1 on.

    Where channels are text, the codes are positions in ``texts``; else they are the channels.

    Raises:
        DataError: there are more channels than int8 can number.
    """
    if codes is None:
        return None, ()
    ranks, values = ranked(codes)
    require_few_channels(len(values))
    names = values.astype(str).tolist() if texts is None else texts.take(pa.array(values)).to_pylist()
    return ranks.astype(np.int8, copy=False), tuple(names)


def require_few_channels(n_channels: int) -> None:
    """Raise a DataError where there are more channels than int8 can number."""
    if n_channels > 127:
        raise DataError(
            f"column {schema.CHANNEL} has {n_channels:,} different values, at most 127 are expected; "
            "is it the right column? Leave it out, or group its values"
        )
