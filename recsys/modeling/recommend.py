"""From scores to lists: candidates, exclusions, exact top-k. Every system recommends through the types here."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.prepared import PreparedData


@dataclass(frozen=True)
class Candidates:
    """Which items may be recommended.

    Attributes:
        allowed: (V,) bool over item_index, V = n_items + 1; position 0 (padding) is False.
        exclude_seen: whether a customer's own past items are left out of that customer's list.
    """

    allowed: np.ndarray
    exclude_seen: bool = False


@dataclass(frozen=True)
class History:
    """What is known when a date is asked: events ``offsets[u]:end[u]`` of every user u, all before ``day``."""

    data: PreparedData
    end: np.ndarray  # (U,) int64
    day: int


@dataclass(frozen=True)
class Lists:
    """Ranked items for each user asked, best first.

    Shapes: Q users asked, K items each. Every row is full: K distinct allowed items.
    """

    user_index: np.ndarray  # (Q,) int32
    item: np.ndarray  # (Q, K) int32 item_index
    score: np.ndarray  # (Q, K) float32, falling along a row


class Recommender(Protocol):
    """A fitted system that can be asked for lists."""

    name: str

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Lists:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,), given what ``history`` knows."""
        ...
