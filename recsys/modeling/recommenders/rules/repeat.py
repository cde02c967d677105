"""The repeat rule: customers buy again what they bought often and lately."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates, all_items
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
    fallback = fit_popularity_week(known, config)
    if validation is None:
        return Repeat(HALF_LIVES_DAYS[len(HALF_LIVES_DAYS) // 2], fallback)
    histories, k = validation.histories(known.log), min(12, known.log.n_items)
    fallback_then = fit_popularity_week(validation.everybody(known.log), config)
    candidates = Candidates(all_items(known.log.n_items))

    def quality(half_life_days: float) -> float:
        lists = Repeat(half_life_days, fallback_then).recommend(histories, k, candidates)
        return float(average_precisions(lists.item, validation, k).mean())

    return Repeat(max(HALF_LIVES_DAYS, key=quality), fallback)


SYSTEMS: Final = {"repeat": fit_repeat}
