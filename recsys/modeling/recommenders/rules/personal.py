"""From a user's own scores to a full list: mask, top-k, fill with what sells."""

from abc import ABC, abstractmethod

import numpy as np

from recsys.data.purchases import Histories
from recsys.modeling.recommenders.base import Candidates, Recommendations, require_enough
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.modeling.recommenders.scored_pairs import MAX_EVENTS, Pairs, top_k, unseen, user_chunks


class PersonalRecommender(ABC):
    """A baseline that scores some items of each user above 0; popularity fills in the rest, from -1 to 0."""

    name: str
    fallback: Popularity
    max_events = MAX_EVENTS

    @abstractmethod
    def score(self, histories: Histories, k: int, candidates: Candidates) -> Pairs:
        """Return scored items, one pair for each (row of ``histories``, item); they need not be allowed ones."""

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        require_enough(candidates, k)
        item = np.zeros((len(histories), k), dtype=np.int32)
        score = np.zeros((len(histories), k), dtype=np.float32)
        for part, some in user_chunks(histories, self.max_events):
            pairs = self.score(some, k, candidates)
            pairs = pairs.where(candidates.allowed[pairs.item])
            if candidates.exclude_seen:
                seen_row, position = some.events()
                pairs = pairs.where(unseen(pairs, seen_row, some.log.item[position]))
            item[part], score[part] = top_k(pairs, len(some), k)
            place = self.fallback.fill(item[part], some, candidates)
            score[part] = np.where(place > 0, -place / len(candidates.allowed), score[part])
        return Recommendations(item, score)
