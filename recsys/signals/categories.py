"""What categories of items sell: how rarely each sells at any day, and what its items sell on average. NumPy only."""

import numpy as np

DAYS = 7
#: Items at the estimate of the next coarser category that a category is taken to hold beside its own. On days of H&M
#: that are no test days, 1, 2 and 5 place hidden items alike.
PRIOR_ITEMS = 2.0


class CategorySales:
    """Sales of every category before any day.

    Shapes: E events, V = n_items + 1 rows, row 0 is padding; C columns of categories.
    """

    def __init__(self, item: np.ndarray, day: np.ndarray, categories: np.ndarray) -> None:
        """Take events (E,) in any order, and ``ItemCodes.categories`` (V, C) int64."""
        order = np.argsort(day, kind="stable")
        self._item, self._day, self._categories = item[order], day[order], categories

    def rarity(self, day: int) -> np.ndarray:
        """Return sales of everything to one of each category (codes,) float64, in the week before ``day``.

        One sale is added to every item: a category of which nothing was sold is as rare as it has few items. The rarity
        of code 0 is 0.
        """
        begin, end = np.searchsorted(self._day, [day - DAYS, day])
        sold = 1.0 + np.bincount(self._item[begin:end], minlength=len(self._categories))
        sold[0] = 0
        of_category = np.bincount(self._categories.ravel(), np.repeat(sold, self._categories.shape[1])).astype(
            np.float64
        )
        of_category[:1] = 0
        rarity: np.ndarray = np.divide(sold.sum(), of_category, out=np.zeros_like(of_category), where=of_category > 0)
        return rarity


def sold_by_category(sold_V: np.ndarray, categories_VC: np.ndarray) -> np.ndarray:
    """Return what an item of each item's categories sells on average (V,) float64: what a new one may sell.

    From the coarsest category to the finest, each the mean over its items, drawn towards the category before it, the
    coarsest towards the mean of everything. Shrinkage as in "Data analysis using Stein's estimator" (Efron and Morris,
    1975), by a fixed weight and not one estimated from the data. A code of 0 says nothing.

    Args:
        sold_V: sales of each item, row 0 is padding.
        categories_VC: ``ItemCodes.categories`` (V, C) int64, finest first.

    >>> sold_by_category(np.array([0, 6, 0, 0]), np.array([[0], [1], [1], [0]])).round(2).tolist()
    [2.0, 2.5, 2.5, 2.0]
    """
    expected_V = np.full(len(sold_V), sold_V[1:].mean() if len(sold_V) > 1 else 0.0)
    for code_V in categories_VC.T[::-1]:
        n_items = np.bincount(code_V)
        n_sold = np.bincount(code_V, weights=sold_V)
        drawn_V = (n_sold[code_V] + PRIOR_ITEMS * expected_V) / (n_items[code_V] + PRIOR_ITEMS)
        expected_V = np.where(code_V > 0, drawn_V, expected_V)
    return expected_V
