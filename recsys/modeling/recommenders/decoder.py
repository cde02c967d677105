"""The trained decoder as a system that can be asked for lists, and to continue histories."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.config import ModelConfig
from recsys.data.purchases import Purchases
from recsys.modeling.decoder.inputs import Queries, newest_events, user_features
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.recommenders.base import History, Recommendations, Recommender, on_device
from recsys.modeling.recommenders.candidates import Candidates, require_enough
from recsys.modeling.recommenders.popularity import Popularity
from recsys.schema import DECODER
from recsys.signals.sales import ItemSales


@dataclass(frozen=True)
class WithColdStart:
    """The decoder as customers meet it: those of whom it knows nothing get what most of their segment bought this week.

    It knows the history, and where it reads the user table, what stands there of a customer without one.

    Items that fill a list score below the decoder's own, by their place in the ranking.
    """

    decoder: Recommender
    cold_start: Popularity
    name: str = DECODER

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Recommendations:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,).

        Raises:
            DataError: fewer than ``k`` items may be recommended to a customer.
        """
        require_enough(candidates, k)
        if isinstance(self.decoder, DecoderRecommender):
            known = self.decoder.knows(history, user_index)
        else:
            known = history.end[user_index] > history.data.offsets[user_index]
        item = np.zeros((len(user_index), k), dtype=np.int32)
        score = np.full((len(user_index), k), -np.inf, dtype=np.float32)
        if known.any():
            lists = self.decoder.recommend(history, user_index[known], k, candidates)
            item[known], score[known] = lists.item, lists.score
        item[np.isneginf(score)] = 0
        place = self.cold_start.fill(item, history, user_index, candidates)
        lowest = np.where(np.isfinite(score), score, np.inf).min(axis=1, keepdims=True)
        filler = np.where(np.isfinite(lowest), lowest, 0) - place
        return Recommendations(user_index, item, np.where(place > 0, filler, score).astype(np.float32))


class DecoderRecommender:
    """The trained model as a system that can be asked: exact top-k over the whole catalogue, in chunks of users.

    Chunks are small, as several passes go over all scores of one (``docs/decisions.md``, "in blocks").
    """

    name = "decoder"

    def __init__(self, model: PurchaseModel, sales: ItemSales, *, chunk: int = 64) -> None:
        self.model, self.sales, self.chunk = model, sales, chunk

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Recommendations:
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
                logits_QV, queries = self.logits(history, user_index[rows])
                logits_QV[:, blocked_V] = -torch.inf
                if candidates.exclude_seen:
                    logits_QV[queries.past_query_P, queries.past_item_P] = -torch.inf
                top = logits_QV.topk(k, dim=-1)
                item_QK[rows] = top.indices.int().cpu().numpy()
                score_QK[rows] = top.values.float().cpu().numpy()
        self.model.train(was_training)
        return Recommendations(np.asarray(user_index, dtype=np.int32), item_QK, score_QK)

    def knows(self, history: History, users: np.ndarray) -> np.ndarray:
        """Return of which of ``users`` (Q,) the model knows anything: a history, or what it reads of the user table."""
        known: np.ndarray = history.end[users] > history.data.offsets[users]
        if self.model.user_codes is not None:
            known = known | history.data.has_user_features[users]
        return known

    def logits(self, history: History, users: np.ndarray) -> tuple[Tensor, Queries]:
        """Return logits (Q, V) of the catalogue for ``users`` at the history's date, and the queries asked."""
        query_QD, queries = self.ask(history, users)
        return self.model.catalogue_logits(query_QD, queries, self.sales), queries

    def ask(self, history: History, users: np.ndarray) -> tuple[Tensor, Queries]:
        """Return the queries (Q, D) of ``users`` at the history's date, and the queries asked."""
        device = self.model.item_bias.device
        day = np.full(len(users), history.day)
        sequences, queries = newest_events(history.data, users, history.end[users], day, self.model.config)
        queries = on_device(queries, device)
        return self.model.query(self.model.states(on_device(sequences, device)), queries), queries


class PurchaseReader:
    """Our decoder, asked at a date: what is bought in the window that begins then, item by item.

    Each item that was taken is read as bought on that date, after the same wait as the first, in the same basket; its
    price, channel and quantity are not known. What every item sold and
    what the customer had bought before are those known at the date. The decoder was not taught where a basket ends, so
    ``END`` never comes.
    """

    def __init__(
        self, model: PurchaseModel, sales: ItemSales, history: History, users: np.ndarray, *, n_context: int, n_new: int
    ) -> None:
        self.model, self.sales = model, sales
        day = np.full(len(users), history.day)
        sequences, queries = newest_events(history.data, users, history.end[users], day, model.config, n_context)
        item_BT = sequences.item_BT
        self.queries = queries
        self.newest_R, self.gap_R = queries.position_Q, queries.days_until_query_Q
        self.cache = model.decoder.new_cache(len(users), item_BT.shape[1] + n_new)
        position_BT = torch.arange(item_BT.shape[1]).expand_as(item_BT)
        state_BTD = model.decoder.extend(
            model.inputs(sequences), sequences.gap_days_BT, position_BT, item_BT > 0, self.cache
        )
        self.logits_RV = self._logits(state_BTD[queries.row_Q, self.newest_R], self.gap_R)

    def extend(self, item_R: Tensor) -> None:
        """Read one more item of each row."""
        self.newest_R = self.newest_R + 1
        state_RTD = self.model.decoder.extend(
            self.model.items(item_R[:, None]),
            self.gap_R[:, None],
            self.newest_R[:, None],
            (item_R > 0)[:, None],
            self.cache,
        )
        self.gap_R = torch.zeros_like(self.gap_R)
        self.logits_RV = self._logits(state_RTD[:, 0], self.gap_R)

    def _logits(self, state_RD: Tensor, days_until_query_R: Tensor) -> Tensor:
        query_RD = self.model.decoder.ask(state_RD, days_until_query_R)
        return self.model.catalogue_logits(query_RD, self.queries, self.sales)  # END, as padding, is -inf


def build_purchase_model(config: ModelConfig, data: Purchases) -> PurchaseModel:
    """Return our model for ``data``, not trained."""
    return PurchaseModel(
        config,
        torch.from_numpy(data.attributes),
        torch.from_numpy(data.categories),
        n_customer_codes=int(user_features(data, config).max(initial=0)) + 1,
        n_promoted=len(data.promotions.features) if config.promotions and data.promotions is not None else 0,
    )
