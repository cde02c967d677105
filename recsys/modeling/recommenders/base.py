"""What every system is: asked about histories at a day, it gives lists."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.data.purchases import Histories
from recsys.modeling.recommenders.candidates import Candidates


@dataclass(frozen=True)
class Recommendations:
    """Ranked items for each of Q users, best first: K distinct allowed items, then 0 where no more are left."""

    user_index: np.ndarray  # (Q,) int32
    item: np.ndarray  # (Q, K) int32 item_index
    score: np.ndarray  # (Q, K) float32, falling along a row


class Recommender(Protocol):
    """A fitted system that can be asked for lists."""

    @property
    def name(self) -> str:
        """Name under which reports show the system."""

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best allowed items of each history, at its day; a DataError where there are fewer."""
