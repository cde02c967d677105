"""The repeat rule: customers buy again what they bought often and lately."""

from dataclasses import dataclass

import numpy as np

from recsys.evaluation.metrics import Targets, mean_average_precision
from recsys.modeling.recommenders.base import History
from recsys.modeling.recommenders.candidates import Candidates
from recsys.modeling.recommenders.personal import PersonalRecommender
from recsys.modeling.recommenders.popularity import Popularity
from recsys.modeling.recommenders.scored_pairs import Pairs, known_events, sum_pairs


@dataclass(frozen=True)
class Repeat(PersonalRecommender):
    """Own past items by ``sum over purchases of 2 ** (-age_days / half_life_days)``, then what sold last week.

    Equal scores are ordered by the last purchase, latest first.
    """

    half_life_days: float
    fallback: Popularity
    name: str = "repeat"

    def score(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Pairs:
        """Return the customer's own items with their decayed counts."""
        row, position = known_events(history, user_index)
        age_days = np.maximum(history.day - history.data.day[position], 0)
        return sum_pairs(row, history.data.item[position], np.exp2(-age_days / self.half_life_days), position)


def choose_half_life(
    half_lives_days: tuple[float, ...],
    history: History,
    fold: Targets,
    fallback: Popularity,
    k: int,
    candidates: Candidates,
) -> float:
    """Return the half-life with the best MAP@k on ``fold``, given what ``history`` knows; of equals the first."""

    def quality(half_life_days: float) -> float:
        lists = Repeat(half_life_days, fallback).recommend(history, fold.user_index, k, candidates)
        return mean_average_precision(lists.item, fold, lists.user_index, k)

    return max(half_lives_days, key=quality)
