"""The rules and classical models the decoder is held against: NumPy, SciPy and `implicit`, no training loop of ours."""

from collections.abc import Callable
from typing import Final

import numpy as np

from recsys.config import Config
from recsys.data.purchases import Purchases
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.als import LeastSquares
from recsys.modeling.recommenders.base import History, Recommender
from recsys.modeling.recommenders.candidates import Candidates
from recsys.modeling.recommenders.item_knn import Neighbours, fit_covisitation, fit_item_knn
from recsys.modeling.recommenders.popularity import WEEK_DAYS, Popularity
from recsys.modeling.recommenders.repeat import Repeat, choose_half_life
from recsys.modeling.recommenders.variants import Variants, has_variants

#: Length of the lists on which a setting is chosen.
CHOICE_K: Final = 12


def fit_baseline(name: str, history: History, config: Config, validation: Fold | None) -> Recommender:
    """Return the baseline ``name`` built from what ``history`` knows.

    Args:
        name: one of :data:`BASELINES`.
        history: what is known at the date asked.
        config: ``baselines``, ``seed`` and ``predict.segment`` are read.
        validation: the fold on which the repeat rule's half-life is chosen by MAP@12 out of the whole catalogue, with
            what was known at its date; without one the middle value of ``baselines.half_lives_days`` is taken.

    Raises:
        DataError: the baseline is variants and the items have no ``baselines.variant_column``.
    """
    return BASELINES[name](history, config, validation)


def can_fit(name: str, data: Purchases, config: Config) -> bool:
    """Return whether ``data`` hold what the baseline ``name`` needs: variants need a column that tells them."""
    return name != "variants" or has_variants(data, config.baselines.variant_column)


def _popularity(history: History, config: Config, validation: Fold | None) -> Popularity:
    return Popularity.fit("popularity", history, segment=config.predict.segment)


def _popularity_week(history: History, config: Config, validation: Fold | None = None) -> Popularity:
    return Popularity.fit("popularity_week", history, days=WEEK_DAYS, segment=config.predict.segment)


def _repeat(history: History, config: Config, validation: Fold | None) -> Repeat:
    half_lives_days = config.baselines.half_lives_days
    if validation is None:
        return Repeat(half_lives_days[len(half_lives_days) // 2], _popularity_week(history, config))
    earlier = History(history.data, validation.history_end, validation.start_day)
    whole_catalogue = Candidates(np.arange(history.data.n_items + 1) > 0)
    half_life_days = choose_half_life(
        half_lives_days,
        earlier,
        validation,
        _popularity_week(earlier, config),
        min(CHOICE_K, history.data.n_items),
        whole_catalogue,
    )
    return Repeat(half_life_days, _popularity_week(history, config))


def _variants(history: History, config: Config, validation: Fold | None) -> Variants:
    return Variants.fit(history.data, config.baselines.variant_column, _repeat(history, config, validation))


def _covisitation(history: History, config: Config, validation: Fold | None) -> Neighbours:
    settings = config.baselines
    return fit_covisitation(
        history, settings.covisitation_days, settings.n_neighbours, _popularity_week(history, config)
    )


def _item_knn(history: History, config: Config, validation: Fold | None) -> Neighbours:
    return fit_item_knn(history, config.baselines.n_neighbours, _popularity_week(history, config))


def _als(history: History, config: Config, validation: Fold | None) -> LeastSquares:
    settings = config.baselines
    return LeastSquares.fit(
        history, settings.als_factors, settings.als_iterations, config.seed, _popularity_week(history, config)
    )


#: How each baseline is built, by the name under which it is reported.
BASELINES: Final[dict[str, Callable[[History, Config, Fold | None], Recommender]]] = {
    "repeat": _repeat,
    "variants": _variants,
    "covisitation": _covisitation,
    "item_knn": _item_knn,
    "als": _als,
    "popularity_week": _popularity_week,
    "popularity": _popularity,
}
