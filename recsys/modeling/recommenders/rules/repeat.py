"""The repeat rule: customers buy again what they bought often and lately."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.rules.choice import once_for
from recsys.modeling.recommenders.rules.personal import PersonalRecommender
from recsys.modeling.recommenders.rules.popularity import Popularity, fit_popularity_week
from recsys.modeling.recommenders.scored_pairs import Pairs, sum_pairs

#: Half-lives that are tried on the validation window, each about twice the last; the longest counts all alike.
HALF_LIVES_DAYS: Final = (7.0, 15.0, 30.0, 60.0, 120.0, 240.0, 100_000.0)


@dataclass(frozen=True)
class Repeat(PersonalRecommender):
    """Own past items by ``sum over purchases of 2 ** (-age_days / half_life_days)``, then what sold last week."""

    half_life_days: float
    fallback: Popularity
    name: str = "repeat"

    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        row, position = histories.events()
        age_days = np.maximum(histories.day - histories.log.day[position], 0)
        return sum_pairs(row, histories.log.item[position], np.exp2(-age_days / self.half_life_days), position)


def fit_repeat(known: Histories, config: Config, validation: Fold | None) -> Repeat:
    """Return the repeat rule with the half-life of the best MAP@12 on ``validation``, or the middle one without it."""
    log, half_life_days = known.log, HALF_LIVES_DAYS[len(HALF_LIVES_DAYS) // 2]
    if validation is not None:
        half_life_days = once_for(log, config, "repeat", lambda: _best_half_life(log, config, validation))
    return Repeat(half_life_days, fit_popularity_week(known, config))


def _best_half_life(log: Purchases, config: Config, validation: Fold) -> float:
    histories, k, candidates = validation.histories(log), min(12, log.n_items), Candidates(all_items(log.n_items))
    fallback = fit_popularity_week(validation.everybody(log), config)

    def quality(half_life_days: float) -> float:
        lists = Repeat(half_life_days, fallback).recommend(histories, k, candidates)
        return float(average_precisions(lists.item, validation, k).mean())

    return max(HALF_LIVES_DAYS, key=quality)


SYSTEMS: Final = {"repeat": fit_repeat}
