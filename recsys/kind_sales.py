"""How much rarer than the whole catalogue each kind of items sells, at any date. NumPy only."""

import numpy as np

DAYS = 7
#: Days that are kept: an epoch asks at some fifty again and again.
MAX_KEPT = 64


class KindSales:
    """Sales of every kind before any date.

    Shapes: E events, V = n_items + 1 rows, row 0 is padding; C columns of kinds.
    """

    def __init__(self, item: np.ndarray, day: np.ndarray, kinds: np.ndarray) -> None:
        """Take events (E,) in any order, and ``PreparedData.kinds`` (V, C) int64."""
        order = np.argsort(day, kind="stable")
        self._item, self._day, self._kinds = item[order], day[order], kinds
        self._rarity: dict[int, np.ndarray] = {}

    def rarity(self, day: int) -> np.ndarray:
        """Return sales of everything to one of each kind (codes,) float64, in the week before ``day``; 0 of code 0.

        One sale is added to every item, so that a kind of which nothing was sold is as rare as it has few items.
        """
        if day not in self._rarity:
            if len(self._rarity) >= MAX_KEPT:
                self._rarity.clear()
            begin, end = np.searchsorted(self._day, [day - DAYS, day])
            sold = 1.0 + np.bincount(self._item[begin:end], minlength=len(self._kinds))
            sold[0] = 0
            of_kind = np.bincount(self._kinds.ravel(), np.repeat(sold, self._kinds.shape[1]))
            of_kind[:1] = 0
            self._rarity[day] = np.divide(sold.sum(), of_kind, out=np.zeros_like(of_kind), where=of_kind > 0)
        return self._rarity[day]
