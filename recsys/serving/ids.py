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
        self._later: list[str] = []
        self._number_of_later: dict[str, int] = {}
        self._removed: set[int] = set()

    def __len__(self) -> int:
        return len(self._known) + len(self._later)

    def get(self, text: str | None) -> int | None:
        """Return the number of an id; None where it was never met, or was removed."""
        if text is None:
            return None
        if text in self._number_of_later:
            return self._number_of_later[text]
        places = self._order[slice(*np.searchsorted(self._hashes, [hash(text), hash(text) + 1]))].tolist()
        return next((one for one in places if one not in self._removed and self._known[one].as_py() == text), None)

    def add(self, text: str) -> int:
        """Return the number of an id, which is the next one where it is new."""
        number = self.get(text)
        if number is None:
            number = self._number_of_later[text] = len(self)
            self._later.append(text)
        return number

    def remove(self, text: str) -> int | None:
        """Know an id no more; return the number that it had, which nobody gets again."""
        number = self.get(text)
        if number is not None:
            self._removed.add(number)
            self._number_of_later.pop(text, None)
        return number

    def removed(self) -> np.ndarray:
        """Return (n,) bool, which numbers had an id that was removed."""
        gone = np.zeros(len(self), dtype=bool)
        gone[list(self._removed)] = True
        return gone

    def id_of(self, number: int) -> str:
        """Return the id that has a number."""
        if number < len(self._known):
            return str(self._known[number].as_py())
        return self._later[number - len(self._known)]

    def later_ids(self) -> list[str]:
        """Return the ids that came later, in the order of their numbers."""
        return list(self._later)
