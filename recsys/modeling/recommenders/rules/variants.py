"""The repeat rule, and other variants of what was bought: the same trousers in another colour."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Config
from recsys.data.purchases import Histories, event_positions
from recsys.errors import DataError
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.modeling.recommenders.rules.repeat import Repeat, fit_repeat
from recsys.modeling.recommenders.scored_pairs import Pairs, sum_pairs, united, unseen


@dataclass(frozen=True)
class Variants(PersonalRecommender):
    """Own past items as the repeat rule orders them, then other variants of these products, then what sold last week.

    Variants are ordered by the sum of the repeat rule's scores of their product, those of one product by what sold last
    week. V = n_items + 1 at the fit, G products, n items that have one.
    """

    repeat: Repeat
    product: np.ndarray  # (V,) int64 product of each item, from 1; 0 where there is none
    item: np.ndarray  # (n,) int64 item_index by product
    bounds: np.ndarray  # (G+2,) items of product g are item[bounds[g]:bounds[g + 1]]
    fallback: Popularity
    name: str = "variants"

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        own = self.repeat.score(histories, k, candidates)
        fitted = own.where(own.item < len(self.product))
        liked = sum_pairs(fitted.row, self.product[fitted.item], fitted.score, fitted.last)
        place, position = event_positions(self.bounds[liked.item], self.bounds[liked.item + 1])
        item = self.item[position]
        lowest = np.full(len(histories), np.inf)
        np.minimum.at(lowest, own.row, own.score)
        share = liked.score / (1 + liked.score)
        # What sold last week stands where the last purchase does: it decides between variants of one product.
        sold = self.fallback.counts[0][item]
        row = liked.row[place]
        variants = Pairs(row, item, lowest[row] * share[place], sold)
        return united(own, variants.where((sold > 0) & unseen(variants, own.row, own.item)))


def _variants(known: Histories, config: Config, validation: Fold | None) -> Variants:
    log, column = known.log, config.baselines.variant_column
    if column not in log.items.columns:
        raise DataError(
            f"{log.origin}: the items have no column {column!r} that tells variants of one product, they have "
            f"{', '.join(log.items.columns)}; name one as baselines.variant_column, or leave variants out of "
            "baselines.systems"
        )
    codes = pc.dictionary_encode(log.items[column].to_arrow().cast(pa.string())).indices
    product = np.concatenate([[0], np.asarray(pc.fill_null(codes, -1)).astype(np.int64) + 1])
    item = np.argsort(product, kind="stable")
    bounds = np.searchsorted(product[item], np.arange(int(product.max()) + 2))
    bounds[0] = bounds[1]  # padding and items without a product are nobody's variants
    repeat = fit_repeat(known, config, validation)
    return Variants(repeat, product, item, bounds, repeat.fallback)


SYSTEMS: Final = {"variants": _variants}
