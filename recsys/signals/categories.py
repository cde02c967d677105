"""Categories of items: how rarely each sells at a day, what its items sell, what a user bought of it."""

from collections.abc import Mapping

import numpy as np

from recsys.signals.past_items import PAST_FEATURES, USER_FEATURES, PastItems, Summaries, side_by_side

_SUMS = ("items", *PAST_FEATURES[:5], "discoveries_20", "discoveries_60")
_AGES = ("age_last", "age_first", "age_discovery")
CATEGORY_FEATURES = (*_SUMS, *_AGES, "items_a_purchase", "share", "share_60", "lift", *USER_FEATURES)

#: Items at the next coarser category's estimate that are added to a category's own. On days of H&M that are no test
#: days, 1, 2 and 5 place hidden items alike.
PRIOR_ITEMS = 2.0


def category_rarity(bought_V: np.ndarray, categories_VC: np.ndarray) -> np.ndarray:
    """Return purchases of everything to one of each category (codes,) float64; 0 for code 0 and codes of no item.

    One is added to what was bought of every item: a category of which nothing was is as rare as it has few items.
    """
    weight_V = 1.0 + bought_V
    weight_V[0] = 0
    of_category = np.bincount(categories_VC.ravel(), np.repeat(weight_V, categories_VC.shape[1])).astype(np.float64)
    of_category[:1] = 0
    return np.divide(weight_V.sum(), of_category, out=np.zeros_like(of_category), where=of_category > 0)


def sold_by_category(sold_V: np.ndarray, categories_VC: np.ndarray) -> np.ndarray:
    """Return what an item of each item's categories sells on average (V,) float64: what a new one may sell.

    From the coarsest category to the finest, each the mean over its items, drawn towards the category before it, the
    coarsest towards the mean of everything ("Data analysis using Stein's estimator", Efron and Morris 1975, but by a
    fixed weight). A code of 0 says nothing.
    """
    expected_V = np.full(len(sold_V), sold_V[1:].mean() if len(sold_V) > 1 else 0.0)
    for code_V in categories_VC.T[::-1]:
        n_items = np.bincount(code_V)
        n_sold = np.bincount(code_V, weights=sold_V)
        drawn_V = (n_sold[code_V] + PRIOR_ITEMS * expected_V) / (n_items[code_V] + PRIOR_ITEMS)
        expected_V = np.where(code_V > 0, drawn_V, expected_V)
    return expected_V


def category_history(
    past: PastItems, categories: np.ndarray, rarity_of_day: Mapping[int, np.ndarray], day: np.ndarray
) -> Summaries:
    """Return ``CATEGORY_FEATURES`` of past items by code of ``categories`` (V, C) int64, of which 0 says nothing."""
    n_codes = int(categories.max(initial=0)) + 1
    code_PC = categories[past.item]
    key_PC = past.query[:, None] * n_codes + code_PC
    pair, column = np.nonzero(code_PC)
    key, place = np.unique(key_PC[pair, column], return_inverse=True)
    query, code = key // n_codes, key % n_codes

    def summed(one: np.ndarray) -> np.ndarray:
        return np.bincount(place, weights=one[pair], minlength=len(key))

    def least(one: np.ndarray) -> np.ndarray:
        lowest = np.full(len(key), np.inf)
        np.minimum.at(lowest, place, one[pair])
        return lowest

    age_last, age_first = past.named("age_last"), past.named("age_first")
    items = summed(np.ones(len(past.query)))
    count, *decayed = (summed(np.expm1(past.named(name))) for name in PAST_FEATURES[:5])
    discoveries = [summed(np.exp2(-np.expm1(4 * age_first) / half_life)) for half_life in (20, 60)]
    of_query = [np.bincount(past.query, np.expm1(past.named(name)))[query] for name in ("count", "decayed_60")]
    first_pair = np.searchsorted(past.query, query)
    rarity = np.zeros(len(key))
    for one in np.unique(day[query]):
        rows = np.flatnonzero(day[query] == one)
        rarity[rows] = rarity_of_day[int(one)][code[rows]]
    share = count / np.maximum(of_query[0], 1)
    columns = [
        *np.log1p([items, count, *decayed, *discoveries]),
        *(least(age_last), -least(-age_first), least(age_first)),
        items / np.maximum(count, 1),
        share,
        decayed[2] / np.maximum(of_query[1], 1e-9),
        np.log1p(share * rarity),
        *(past.named(name)[first_pair] for name in USER_FEATURES),
    ]
    return Summaries(query, code, side_by_side(columns))
