"""From a user's own scores to a full list: mask, top-k, fill with what sells."""

from abc import ABC, abstractmethod

import numpy as np

from recsys.data.purchases import Histories
from recsys.modeling.recommenders.base import Recommendations
from recsys.modeling.recommenders.candidates import Candidates, require_enough
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.modeling.recommenders.scored_pairs import MAX_EVENTS, Pairs, top_k, unseen, user_chunks


class PersonalRecommender(ABC):
    """A baseline that scores some items of each user above 0 and leaves the rest to popularity.

    Items that are filled in get scores from -1 to 0 by their place in the popularity ranking, below all others.
    """

    name: str
    fallback: Popularity
    max_events = MAX_EVENTS

    @abstractmethod
    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        """Return scored items, one pair for each (row of ``histories``, item); they need not be allowed ones."""

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best allowed items for each of ``histories``."""
        require_enough(candidates, k)
        item = np.zeros((len(histories), k), dtype=np.int32)
        score = np.zeros((len(histories), k), dtype=np.float32)
        for part in user_chunks(histories, self.max_events):
            item[part], score[part] = self._lists(histories.of(part), k, candidates)
        return Recommendations(histories.user_index, item, score)

    def _lists(self, histories: Histories, k: int, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Return items (Q, k) int32 and their scores (Q, k) float32."""
        pairs = self.score(histories, k, candidates)
        pairs = pairs.where(candidates.allowed[pairs.item])
        if candidates.exclude_seen:
            seen_row, position = histories.events()
            pairs = pairs.where(unseen(pairs, seen_row, histories.log.item[position]))
        item, score = top_k(pairs, len(histories), k)
        place = self.fallback.fill(item, histories, candidates)
        return item, np.where(place > 0, -place / len(candidates.allowed), score).astype(np.float32)
