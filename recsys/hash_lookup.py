"""A table from 64-bit hashes to numbers, in plain NumPy: several threads may look up at once."""

import numpy as np

MISSING = -(2**31)  # for a hash that the table does not hold


class HashTable:
    """Finds the number of a hash; hashes must spread evenly over 64 bits to be found fast, and be distinct."""

    def __init__(self, hashes: np.ndarray, values: np.ndarray) -> None:
        """Take ``hashes`` (n,) uint64 and their ``values`` (n,) int32."""
        order = np.argsort(hashes)
        # The entry at the end stops the search for what is greater than all.
        self._hashes = np.append(hashes[order], np.uint64(2**64 - 1))
        self._values = np.append(values[order], np.int32(MISSING))
        n_bits = len(self._hashes).bit_length() + 1
        self._shift = np.uint64(64 - n_bits)
        per_bucket = np.bincount((self._hashes[:-1] >> self._shift).astype(np.int64), minlength=1 << n_bits)
        self._first = (np.cumsum(per_bucket) - per_bucket).astype(np.int32)  # by leading bits: where they begin

    def values_of(self, hashes: np.ndarray) -> np.ndarray:
        """Return the values (m,) int32 of ``hashes`` (m,) uint64, MISSING where there is none."""
        position = self._first.take((hashes >> self._shift).astype(np.int64))
        smaller = np.flatnonzero(self._hashes.take(position) < hashes)
        while len(smaller):
            position[smaller] += 1
            smaller = smaller[self._hashes.take(position[smaller]) < hashes[smaller]]
        values = self._values.take(position)
        values[self._hashes.take(position) != hashes] = MISSING
        return values
