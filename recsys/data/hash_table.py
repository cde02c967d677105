"""A table from 64-bit hashes to numbers, in plain NumPy: several threads may look up at once."""

import numpy as np


class HashTable:
    """Finds the number that belongs to a hash, fast where hashes spread evenly over 64 bits."""

    def __init__(self, hashes: np.ndarray, values: np.ndarray, missing: int) -> None:
        """Take ``hashes`` (n,) uint64, their ``values`` (n,) int32, and what to return for any other hash."""
        order = np.argsort(hashes)
        # The entry at the end stops the search for what is greater than all.
        self._hashes = np.append(hashes[order], np.uint64(2**64 - 1))
        self._values = np.append(values[order], np.int32(missing))
        self._missing = missing
        n_bits = len(self._hashes).bit_length() + 1
        self._shift = np.uint64(64 - n_bits)
        per_bucket = np.bincount((self._hashes[:-1] >> self._shift).view(np.int64), minlength=1 << n_bits)
        self._first = (np.cumsum(per_bucket) - per_bucket).astype(np.int32)  # by leading bits: where they begin

    @property
    def collides(self) -> bool:
        """Whether a hash is there twice, so that only one of its values is ever found."""
        return bool((self._hashes[1:-1] == self._hashes[:-2]).any())

    def values_of(self, hashes: np.ndarray) -> np.ndarray:
        """Return the values (m,) int32 of ``hashes`` (m,) uint64; runs of one hash are looked up once."""
        begins = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
        lengths, hashes = np.diff(begins, append=len(hashes)), hashes[begins]
        position = self._first.take((hashes >> self._shift).view(np.int64))
        found = self._hashes.take(position)
        behind = np.flatnonzero(found < hashes)
        while len(behind):
            position[behind] += 1
            found[behind] = self._hashes.take(position[behind])
            behind = behind[found[behind] < hashes[behind]]
        values = self._values.take(position)
        values[found != hashes] = self._missing
        return np.repeat(values, lengths)
