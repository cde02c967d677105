"""Numbers of ids, of which any number may come later."""

import numpy as np
import pyarrow as pa


class IdIndex:
    """Gives each id its number, and each number its id; new ids get the next numbers.

    Known ids stay where they are; beside them stands a hash of eight bytes each, sorted. A dictionary of a million ids
    of 64 letters would take a quarter of a gigabyte.
    """

    def __init__(self, known: pa.Array) -> None:
        self._known = known
        hashes = np.fromiter((hash(text) for text in known.to_pylist()), np.int64, len(known))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._new: dict[str, int] = {}
        self._removed: set[int] = set()

    def __len__(self) -> int:
        return len(self._known) + len(self._new)

    def get(self, text: str | None) -> int | None:
        """Return the number of an id; None where it was never met."""
        if text is None:
            return None
        begin, end = np.searchsorted(self._hashes, hash(text)), np.searchsorted(self._hashes, hash(text), side="right")
        found = (int(place) for place in self._order[begin:end] if self._known[int(place)].as_py() == text)
        number = next(found, self._new.get(text))
        return None if number in self._removed else number

    def remove(self, text: str) -> int | None:
        """Know an id no more; return the number that it had, which stays unused."""
        number = self.get(text)
        if number is not None:
            self._removed.add(number)
        return number

    def removed(self) -> np.ndarray:
        """Return (n,) bool, which numbers had an id that was removed."""
        gone = np.zeros(len(self), dtype=bool)
        gone[list(self._removed)] = True
        return gone

    def add(self, text: str) -> int:
        """Return the number of an id, which is the next one where it is new."""
        number = self.get(text)
        if number is None:
            number = self._new[text] = len(self)
        return number

    def id_of(self, number: int) -> str:
        """Return the id that has a number."""
        if number < len(self._known):
            return str(self._known[number].as_py())
        return list(self._new)[number - len(self._known)]

    def new_ids(self) -> list[str]:
        """Return the ids that came later, in the order of their numbers."""
        return list(self._new)
