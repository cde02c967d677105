"""What run.py asks of every peer."""

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from benchmarks.peers.files import Budget, Events, Recommendations, Split, best, matrix

Settings = dict[str, Any]
#: Users scored against the whole catalogue at a time.
CHUNK = 256


class Peer(ABC):
    """A method of another library.

    Attributes:
        library: name under which pip knows it.
        each_fold: fitted anew on what is known at each fold; else once, on what is known at the first test fold.
        grid: settings that are tried on the validation window, the documented ones first; one is not tried.
    """

    library: ClassVar[str]
    each_fold: ClassVar[bool] = True
    grid: ClassVar[tuple[Settings, ...]] = ({},)

    def __init__(self, split: Split) -> None:
        self.split = split
        self.n_users, self.n_items = len(split.user_ids), len(split.item_ids)
        #: What came out of fitting that a reader wants to know.
        self.fitted: Settings = {}

    @abstractmethod
    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Learn from ``events``."""

    @abstractmethod
    def rank(self, date: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
        """Return the lists of ``users`` (Q,) given what is known, and the lists without items bought before."""


class ScoringPeer(Peer):
    """A peer that scores the whole catalogue."""

    @abstractmethod
    def score(self, history: Events, users: np.ndarray) -> np.ndarray:
        """Return scores (Q, V) of every item; -inf where there is none."""

    def rank(self, date: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
        """Return the best items of each of ``users`` (Q,), and the best ones not bought before."""
        seen = matrix(history, self.n_users, self.n_items)
        every, new = [], []
        for begin in range(0, len(users), CHUNK):
            some = users[begin : begin + CHUNK]
            scores = self.score(history, some)
            every.append(best(scores, self.split.k))
            scores[seen[some].nonzero()] = -np.inf
            new.append(best(scores, self.split.k))
        return joined(every), joined(new)


def joined(parts: list[Recommendations]) -> Recommendations:
    """Return the lists of chunks of users as one."""
    return Recommendations(
        np.concatenate([part.item for part in parts]), np.concatenate([part.score for part in parts])
    )


def n_threads() -> int:
    """Return how many threads a library may use: OMP_NUM_THREADS, else one for each core."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
