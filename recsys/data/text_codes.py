"""Columns of text as codes: each distinct text is held once, whatever engine read the rows."""

from typing import NamedTuple, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_BLOCK = 1 << 18  # rows


class Texts(NamedTuple):
    """A column of text, each distinct text held once."""

    codes: np.ndarray  # (E,) int32 position in ``values``, -1 where there is no text; to be written over
    values: pa.Array  # (n,) string, without repetition: the texts known beforehand, then others in no particular order

    @classmethod
    def of_column(cls, column: pa.ChunkedArray, known: pa.Array) -> Self:
        """Return a column (E,) of string, whose values begin with ``known``."""
        met = column.dictionary_encode().combine_chunks()
        place = places_in(known, met.dictionary)
        is_new = place < 0
        place[is_new] = len(known) + np.arange(np.count_nonzero(is_new))
        codes = np.append(place, np.int32(-1))[np.asarray(met.indices.fill_null(-1))]
        return cls(codes, pa.concat_arrays([known, met.dictionary.cast(pa.string()).filter(pa.array(is_new))]))


def look_up(numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the one of ``numbers`` (n,) int32 at each of ``codes`` (E,) int32, the last at -1, written over the codes.

    Some are looked up at a time: NumPy takes eight bytes more for each.
    """
    for begin in range(0, len(codes), _BLOCK):
        some = codes[begin : begin + _BLOCK]
        some[:] = numbers.take(some, mode="wrap")
    return codes


class TextCoder:
    """Codes of texts that come a block at a time, by a hash of 64 bits: comparing the texts would take far longer.

    Among ten million texts the chance that any two have one hash is 3 in a million.
    """

    def __init__(self, known: pa.Array) -> None:
        self.seed = 0  # of the hash; with it no two known texts have the same
        texts = pl.Series(known, dtype=pl.String)
        while (hashes := texts.hash(self.seed)).n_unique() < len(texts):
            self.seed += 1
        self.texts = [texts]  # in the order of their codes
        self._n, self._hash_K, self._code_K = 0, np.zeros(1, np.uint64), np.zeros(1, np.int32)
        self._add(hashes.to_numpy())

    def codes(self, hash_B: np.ndarray, texts: pl.Series) -> np.ndarray:
        """Return the codes (B,) int32 of a block of ``texts`` with these hashes (B,) uint64."""
        code_B = self._found(hash_B)
        absent_B = texts.is_null().to_numpy() if texts.null_count() else np.False_
        new = np.flatnonzero((code_B < 0) & ~absent_B)
        if len(new):
            hashes, first, place = np.unique(hash_B[new], return_index=True, return_inverse=True)
            code_B[new] = self._n + place
            self.texts.append(texts.gather(new[first]))
            self._add(hashes)
        code_B[absent_B] = -1
        return code_B

    def values(self) -> pa.Array:
        """Return the distinct texts (n,), string, in the order of their codes."""
        return pa.concat_arrays([texts.to_arrow().cast(pa.string()) for texts in self.texts])

    def _add(self, hashes: np.ndarray) -> None:
        """Give the new ``hashes`` (n,) the next codes, in their order."""
        codes = np.arange(self._n, self._n + len(hashes), dtype=np.int32)
        self._n += len(hashes)
        # The last hash is where a search that finds nothing ends.
        hash_K, code_K = np.append(self._hash_K[:-1], hashes), np.append(self._code_K[:-1], codes)
        order = np.argsort(hash_K, kind="stable")  # of two sorted runs, which it merges
        self._hash_K = np.append(hash_K[order], np.uint64(2**64 - 1))
        self._code_K = np.append(code_K[order], np.int32(-1))
        # Where the hashes of the same leading bits begin: two places a hash or more, so that most hold one or none.
        bits = max(2 * self._n, 2).bit_length()
        self._shift = np.uint64(64 - bits)
        begin = np.cumsum(np.bincount((self._hash_K[:-1] >> self._shift).astype(np.int64), minlength=1 << bits))
        self._begin = np.append(0, begin).astype(np.int32)

    def _found(self, hash_B: np.ndarray) -> np.ndarray:
        begin = np.flatnonzero(np.append(True, hash_B[1:] != hash_B[:-1]))
        if 2 * len(begin) < len(hash_B):  # rows that lie together are often of one text
            return np.repeat(self._looked_up(hash_B[begin]), np.diff(begin, append=len(hash_B)))
        return self._looked_up(hash_B)

    def _looked_up(self, hash_B: np.ndarray) -> np.ndarray:
        place_B = self._begin.take(hash_B >> self._shift)
        met_B = self._hash_K.take(place_B)
        behind = np.flatnonzero(met_B < hash_B)
        while len(behind):
            place_B[behind] += 1
            met_B[behind] = self._hash_K.take(place_B[behind])
            behind = behind[met_B[behind] < hash_B[behind]]
        code_B = self._code_K.take(place_B)
        code_B[met_B != hash_B] = -1
        return code_B


def places_in(known: pa.Array, ids: pa.Array) -> np.ndarray:
    """Return the position (n,) int32 in ``known`` of each of ``ids`` (n,); -1 where it is not there."""
    return np.asarray(pc.fill_null(pc.index_in(ids.cast(pa.string()), value_set=known), -1)).astype(np.int32)
