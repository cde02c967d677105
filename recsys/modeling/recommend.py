"""From scores to lists: candidates, exclusions, exact top-k. Every system recommends through the types here."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from recsys.features import ItemSales
from recsys.modeling.batches import Questions, Sequences, newest_events
from recsys.modeling.purchase_model import PurchaseModel
from recsys.prepared import PreparedData

Moved = TypeVar("Moved", Sequences, Questions)


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

    @property
    def name(self) -> str:
        """Name under which reports show the system."""
        ...

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Lists:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,), given what ``history`` knows."""
        ...


def all_items(n_items: int) -> np.ndarray:
    """Return the mask (V,) bool that allows the whole catalogue and not padding."""
    allowed = np.ones(n_items + 1, dtype=bool)
    allowed[0] = False
    return allowed


def on_device(asked: Moved, device: torch.device) -> Moved:
    """Return what is asked with all its tensors on ``device``."""
    return replace(asked, **{name: tensor.to(device) for name, tensor in vars(asked).items()})


class DecoderRecommender:
    """The trained model as a system that can be asked: exact top-k over the whole catalogue, in chunks of users.

    Chunks are small, as several passes go over all scores of one (``docs/decisions.md``, "in blocks").
    """

    name = "decoder"

    def __init__(self, model: PurchaseModel, sales: ItemSales, *, chunk: int = 64) -> None:
        self.model, self.sales, self.chunk = model, sales, chunk

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Lists:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,)."""
        device = self.model.item_bias.device
        blocked_V = torch.from_numpy(~candidates.allowed).to(device)
        item_QK = np.empty((len(user_index), k), dtype=np.int32)
        score_QK = np.empty((len(user_index), k), dtype=np.float32)
        # A chunk is as wide as its longest history.
        n_events_Q = history.end[user_index] - history.data.offsets[user_index]
        order_Q = np.argsort(np.minimum(n_events_Q, self.model.config.max_length), kind="stable")
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for begin in range(0, len(user_index), self.chunk):
                rows = order_Q[begin : begin + self.chunk]
                logits_QV, questions = self.logits(history, user_index[rows])
                logits_QV[:, blocked_V] = -torch.inf
                if candidates.exclude_seen:
                    logits_QV[questions.past_query_P, questions.past_item_P] = -torch.inf
                top = logits_QV.topk(k, dim=-1)
                item_QK[rows] = top.indices.int().cpu().numpy()
                score_QK[rows] = top.values.float().cpu().numpy()
        self.model.train(was_training)
        return Lists(np.asarray(user_index, dtype=np.int32), item_QK, score_QK)

    def knows(self, history: History, users: np.ndarray) -> np.ndarray:
        """Return of which of ``users`` (Q,) the model knows anything: a history, or what it reads of the user table."""
        known: np.ndarray = history.end[users] > history.data.offsets[users]
        if self.model.customer_codes is not None:
            known = known | history.data.customer_is_told[users]
        return known

    def logits(self, history: History, users: np.ndarray) -> tuple[Tensor, Questions]:
        """Return logits (Q, V) of the catalogue for ``users`` at the history's date, and the questions asked."""
        query_QD, questions = self.ask(history, users)
        return self.model.catalogue_logits(query_QD, questions, self.sales), questions

    def ask(self, history: History, users: np.ndarray) -> tuple[Tensor, Questions]:
        """Return the queries (Q, D) of ``users`` at the history's date, and the questions asked."""
        device = self.model.item_bias.device
        day = np.full(len(users), history.day)
        sequences, questions = newest_events(history.data, users, history.end[users], day, self.model.config)
        questions = on_device(questions, device)
        return self.model.query(self.model.states(on_device(sequences, device)), questions), questions
