"""From a customer's own scores to a full list: mask, top-k, fill with what sells."""

from abc import ABC, abstractmethod

import numpy as np

from recsys.modeling.recommenders.base import History, Recommendations
from recsys.modeling.recommenders.candidates import Candidates, require_enough
from recsys.modeling.recommenders.popularity import Popularity
from recsys.modeling.recommenders.scored_pairs import MAX_EVENTS, Pairs, known_events, top_k, unseen, user_chunks


class PersonalRecommender(ABC):
    """A baseline that scores some items of each customer above 0 and leaves the rest to popularity.

    Items that are filled in get scores from -1 to 0 by their place in the popularity ranking, below all others.
    """

    name: str
    fallback: Popularity
    max_events = MAX_EVENTS

    @abstractmethod
    def score(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Pairs:
        """Return scored items, one pair for each (row of ``user_index``, item); they need not be allowed ones."""

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,).

        Raises:
            DataError: fewer than ``k`` items may be recommended to a customer.
        """
        require_enough(candidates, k)
        item = np.zeros((len(user_index), k), dtype=np.int32)
        score = np.zeros((len(user_index), k), dtype=np.float32)
        for part in user_chunks(history, user_index, self.max_events):
            item[part], score[part] = self._lists(history, user_index[part], k, candidates)
        return Recommendations(user_index, item, score)

    def _lists(
        self, history: History, user_index: np.ndarray, k: int, candidates: Candidates
    ) -> tuple[np.ndarray, np.ndarray]:
        pairs = self.score(history, user_index, k, candidates)
        pairs = pairs.where(candidates.allowed[pairs.item])
        if candidates.exclude_seen:
            seen_row, position = known_events(history, user_index)
            pairs = pairs.where(unseen(pairs, seen_row, history.data.item[position]))
        item, score = top_k(pairs, len(user_index), k)
        place = self.fallback.fill(item, history, user_index, candidates)
        return item, np.where(place > 0, -place / len(candidates.allowed), score).astype(np.float32)
