"""Ranks of channels and baskets: what a code becomes once it is known which values occur."""

import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.encode import missing_code
from recsys.errors import DataError

MAX_CHANNELS = 127


def ranked(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 1-based rank (E,) of ``codes`` (E,) among those that occur, and these, ascending.

    The rank is 0 where the code is missing; it has the codes' own dtype.

    >>> [array.tolist() for array in ranked(np.array([7, 3, 7, missing_code(np.dtype("int64"))]))]
    [[2, 1, 2, 0], [3, 7]]
    """
    if codes.dtype == np.int8:
        return _ranked_bytes(codes)
    values = np.unique(codes)
    values = values[values != missing_code(codes.dtype)]
    return np.searchsorted(values, codes, side="right").astype(codes.dtype), values


def _ranked_bytes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`ranked` does for int8, by a table of the 256 values instead of a sort."""
    occurs = np.zeros(256, dtype=bool)
    occurs[codes.view(np.uint8)] = True
    every = np.arange(256, dtype=np.uint8).view(np.int8)
    values = np.sort(every[occurs & (every != missing_code(codes.dtype))])
    return np.searchsorted(values, every, side="right").astype(np.int8)[codes.view(np.uint8)], values


def channel_ranks(codes: np.ndarray | None, texts: pa.Array | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the channels (E,) int8 of ``codes`` (E,), and the names of those from 1 on.

    Args:
        codes: of each event; None where the source has no channels.
        texts: whose positions the codes are, where channels are text; else the codes are the channels.

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
    """Refuse more channels than int8 can number.

    Raises:
        DataError: it is so.
    """
    if n_channels > MAX_CHANNELS:
        raise DataError(
            f"column {schema.CHANNEL} has {n_channels:,} different values, at most {MAX_CHANNELS} are expected; "
            "is it the right column? Leave it out, or group its values"
        )
