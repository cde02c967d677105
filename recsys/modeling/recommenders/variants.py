"""The repeat rule, and other variants of what was bought: the same trousers in another colour."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.purchases import Purchases, event_positions
from recsys.errors import DataError
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates
from recsys.modeling.recommenders.personal import PersonalRecommender
from recsys.modeling.recommenders.popularity import Popularity
from recsys.modeling.recommenders.repeat import Repeat
from recsys.modeling.recommenders.scored_pairs import Pairs, sum_pairs, unseen


@dataclass(frozen=True)
class Variants(PersonalRecommender):
    """Own past items as the repeat rule orders them, then other variants of these products, then what sold last week.

    Variants are ordered by the sum of the repeat rule's scores of their product, those of one product by what sold last
    week; variants that nobody bought that week are left to the filling.

    Shapes: V = n_items + 1, G products, n items that have one.
    """

    repeat: Repeat
    product: np.ndarray  # (V,) int64 product of each item, from 1; 0 where there is none
    item: np.ndarray  # (n,) int64 item_index by product
    bounds: np.ndarray  # (G+2,) items of product g are item[bounds[g]:bounds[g + 1]]
    fallback: Popularity
    name: str = "variants"

    @classmethod
    def fit(cls, data: Purchases, column: str, repeat: Repeat) -> Self:
        """Return the rule for products that ``column`` of the items tells apart.

        Raises:
            DataError: the items have no such column.
        """
        if not has_variants(data, column):
            known = ", ".join(data.items.columns)
            raise DataError(
                f"{data.folder}: the items have no column {column!r} that tells variants of one product, they have "
                f"{known}; name one as baselines.variant_column, or leave variants out of baselines.systems"
            )
        codes = pc.dictionary_encode(data.items[column].to_arrow().cast(pa.string())).indices
        product = np.concatenate([[0], np.asarray(pc.fill_null(codes, -1)).astype(np.int64) + 1])
        item = np.argsort(product, kind="stable")
        bounds = np.searchsorted(product[item], np.arange(int(product.max()) + 2))
        bounds[0] = bounds[1]  # padding and items without a product are nobody's variants
        return cls(repeat, product, item, bounds, repeat.fallback)

    def score(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Pairs:
        """Return the customer's own items as the repeat rule scores them, and below them their variants."""
        own = self.repeat.score(history, user_index, k, candidates)
        if not len(own.row):
            return own
        liked = sum_pairs(own.row, self.product[own.item], own.score, own.last)
        place, position = event_positions(self.bounds[liked.item], self.bounds[liked.item + 1])
        item = self.item[position]
        lowest = np.full(len(user_index), np.inf)
        np.minimum.at(lowest, own.row, own.score)
        share = liked.score / (1 + liked.score)
        # What sold last week stands where the last purchase does: it decides between variants of one product.
        sold = self.fallback.counts[0][item]
        row = liked.row[place]
        variants = Pairs(row, item, lowest[row] * share[place], sold)
        variants = variants.where((sold > 0) & unseen(variants, own.row, own.item))
        return _united(own, variants)


def has_variants(data: Purchases, column: str) -> bool:
    """Return whether the items have the column that tells variants of one product."""
    return column in data.items.columns


def _united(first: Pairs, second: Pairs) -> Pairs:
    row = np.concatenate([first.row, second.row])
    order = np.argsort(row, kind="stable")
    item, score, last = (
        np.concatenate([getattr(first, name), getattr(second, name)])[order] for name in ("item", "score", "last")
    )
    return Pairs(row[order], item, score, last)
