"""From scores to lists: candidates, exclusions, exact top-k. Every system recommends through the types here."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from recsys.data.purchases import Purchases
from recsys.modeling.decoder.inputs import Queries, Sequences
from recsys.modeling.recommenders.candidates import Candidates

Moved = TypeVar("Moved", Sequences, Queries)


@dataclass(frozen=True)
class History:
    """What is known when a date is asked: events ``offsets[u]:end[u]`` of every user u, all before ``day``."""

    data: Purchases
    end: np.ndarray  # (U,) int64
    day: int


@dataclass(frozen=True)
class Recommendations:
    """Ranked items for each user asked, best first.

    Shapes: Q users asked, K items each. Every row is full: K distinct allowed items.
    """

    user_index: np.ndarray  # (Q,) int32
    item: np.ndarray  # (Q, K) int32 item_index
    score: np.ndarray  # (Q, K) float32, falling along a row


class Recommender(Protocol):
    """A fitted system that can be asked for lists."""

    @property
    def name(self) -> str:
        """Name under which reports show the system."""
        ...

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,), given what ``history`` knows."""
        ...


def on_device(asked: Moved, device: torch.device) -> Moved:
    """Return what is asked with all its tensors on ``device``."""
    return replace(asked, **{name: tensor.to(device) for name, tensor in vars(asked).items()})


class Reader(Protocol):
    """A decoder that has read some histories and goes on from them."""

    #: (R, V) of what comes next; V = n_items + 1.
    logits_RV: Tensor

    def extend(self, item_R: Tensor) -> None:
        """Read one more item (R,) int64 of each row; ``END`` keeps the row's place and means nothing."""
        ...
