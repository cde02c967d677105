"""The trained decoder as a system that can be asked for lists, and to continue histories."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.modeling.decoder.components.transitions import TransitionComponent
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder.layers import at_rest
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.decoder.scores import among
from recsys.modeling.decoder.weights import load_weights
from recsys.modeling.recommenders.base import Candidates, Recommendations, Recommender, require_enough
from recsys.modeling.recommenders.rules.popularity import Popularity
from recsys.modeling.recommenders.rules.transitions import follower_table
from recsys.runs import WEIGHTS_FILE, Run
from recsys.schema import DECODER
from recsys.signals.item_codes import ItemCodes
from recsys.signals.queries import Queries, SnapshotSource, query_at
from recsys.signals.snapshot import Snapshots
from recsys.signals.user_codes import UserCodes

#: Scores that are held at a time: 32 MB, over which several passes go.
_MOST_SCORES = 1 << 23


@dataclass(frozen=True)
class Reading:
    """Some histories as the model reads them: made once, and enough for lists, reasons and continuations."""

    sequences: SequenceTensors
    queries: QueryTensors
    query_QD: Tensor | None  # None where the model reads no sequences
    arrays: Queries  # the queries once more, as they came from NumPy


class DecoderRecommender:
    """Exact top-k over the whole catalogue, in chunks: small, as several passes go over all scores of one."""

    name = DECODER

    def __init__(
        self,
        model: PurchaseModel,
        snapshots: SnapshotSource,
        user_codes: UserCodes | None = None,
        *,
        chunk: int | None = None,
    ) -> None:
        """Take how many histories are read at a time: by default more, the fewer items are scored for each."""
        self.model, self.snapshots, self.chunk = model, snapshots, chunk
        self.user_codes = user_codes if model.user_codes is not None and model.reads_sequences else None
        self.longest = model.config.max_length, "model.max_length"

    @property
    def counts_transitions(self) -> bool:
        return self.model.component(TransitionComponent) is not None

    def renewed(self, known: Histories) -> "DecoderRecommender":
        """Return the same with its transitions counted anew of ``known``, the histories of everybody."""
        if not self.counts_transitions:
            return self
        model = copy.deepcopy(self.model)
        count_transitions_of(model, known)
        return DecoderRecommender(model.eval(), self.snapshots, self.user_codes, chunk=self.chunk)

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        require_enough(candidates, k)
        item_QK = np.empty((len(histories), k), dtype=np.int32)
        score_QK = np.empty((len(histories), k), dtype=np.float32)
        with self.asking():
            item_N = torch.from_numpy(np.flatnonzero(candidates.allowed)).to(self.model.item_bias.device)
            for rows, reading in self.readings(histories, len(item_N)):
                item_QK[rows], score_QK[rows] = self.best(reading, k, item_N, exclude_seen=candidates.exclude_seen)
        return Recommendations(item_QK, score_QK)

    def asking(self) -> AbstractContextManager[None]:
        """Let nothing be learned or dropped while the context lasts."""
        return at_rest(self.model)

    def readings(self, histories: Histories, n_listed: int) -> Iterator[tuple[np.ndarray, Reading]]:
        """Yield all ``histories`` as the model reads them, and which (n,) they are, to score ``n_listed`` items each.

        Those of like length are read at a time.
        """
        order_Q = np.argsort(np.minimum(histories.n_events, self.model.config.max_length), kind="stable")
        chunk = self.chunk or int(np.clip(_MOST_SCORES // max(n_listed, 1), 64, 512))
        for begin in range(0, len(order_Q), chunk):
            rows = np.sort(order_Q[begin : begin + chunk])
            yield rows, self.read(histories.of(rows))

    def best(self, reading: Reading, k: int, item_N: Tensor, *, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` best of ``item_N`` (N,) int64 for each history read, (Q, k) int32, and their float32 scores.

        With ``exclude_seen``, or too few items, the last of them may have -inf.
        """
        model, queries = self.model, reading.queries
        logits_QN = model.listed_logits(reading.query_QD, queries, item_N)
        if exclude_seen:
            seen = among(item_N, queries.past_query_P, queries.past_item_P, model.n_items + 1)[:2]
            logits_QN[seen] = -torch.inf
        top = logits_QN.topk(k, dim=-1)
        return item_N[top.indices].int().cpu().numpy(), top.values.float().cpu().numpy()

    def unit_vectors(self) -> np.ndarray:
        """Return the vectors of items (V, D) float32, scaled to length 1; a UsageError without a transformer."""
        with self.asking():
            vectors_VD: np.ndarray = torch.nn.functional.normalize(self.model.item_vectors(), dim=-1).cpu().numpy()
        return vectors_VD

    def similar(self, item: int) -> np.ndarray:
        """Return the cosine (V,) float32 of all vectors with that of ``item``; a UsageError without a transformer."""
        vectors_VD = self.unit_vectors()
        cosine_V: np.ndarray = vectors_VD @ vectors_VD[item]
        return cosine_V

    def reader(self, histories: Histories, *, n_context: int, n_new: int) -> "PurchaseReader":
        return PurchaseReader(self, histories, n_context=n_context, n_new=n_new)

    def knows(self, histories: Histories) -> np.ndarray:
        """Return of which users (Q,) the model knows anything: a history, or what it reads of the user table."""
        known: np.ndarray = histories.n_events > 0
        if self.user_codes is not None:
            row = histories.known_as
            in_table = np.flatnonzero((row >= 0) & (row < len(self.user_codes.has_features)))
            known[in_table] |= self.user_codes.has_features[row[in_table]]
        return known

    def read(self, histories: Histories, max_length: int | None = None) -> Reading:
        """Return ``histories`` as the model reads them, at most ``max_length`` positions of each."""
        device, longest = self.model.item_bias.device, max_length or self.model.config.max_length
        sequences, queries = query_at(self.snapshots, histories, longest, self.user_codes, lifts=self.model.reads_lifts)
        read = SequenceTensors.from_arrays(sequences, device), QueryTensors.from_arrays(queries, device)
        return Reading(*read, self.model.read(*read), queries)


@dataclass(frozen=True)
class WithColdStart:
    """A decoder as users meet it: those of whom it knows nothing get what most of their segment bought this week."""

    decoder: Recommender
    cold_start: Popularity
    name: str = DECODER

    def recommend(self, histories: Histories, k: int, candidates: Candidates) -> Recommendations:
        require_enough(candidates, k)
        decoder = self.decoder
        known = decoder.knows(histories) if isinstance(decoder, DecoderRecommender) else histories.n_events > 0
        item = np.zeros((len(histories), k), dtype=np.int32)
        score = np.full((len(histories), k), -np.inf, dtype=np.float32)
        if known.any():
            lists = decoder.recommend(histories.of(known), k, candidates)
            item[known], score[known] = lists.item, lists.score
        fill_up(self.cold_start, item, score, histories, candidates)
        return Recommendations(item, score)


def fill_up(
    cold_start: Popularity, item: np.ndarray, score: np.ndarray, histories: Histories, candidates: Candidates
) -> np.ndarray:
    """Complete lists ``item`` (Q, k) in place with best sellers; return which (Q, k) bool these are.

    ``score`` (Q, k) is -inf where there is no item; those of best sellers fall below the lowest.
    """
    item[np.isneginf(score)] = 0
    rank = cold_start.fill(item, histories, candidates)
    lowest = np.where(np.isfinite(score), score, np.inf).min(axis=1, keepdims=True)
    filler = np.where(np.isfinite(lowest), lowest, 0) - rank
    score[:] = np.where(rank > 0, filler, score)
    return np.asarray(rank > 0)


class PurchaseReader:
    """Our decoder, asked at a day: what is bought in the window that begins then, item by item.

    Each item that was taken is read as bought on that day, in the same basket; what items sold and what the user had
    bought stay those known at the day. It was not taught where a basket ends: the end of a history never comes.
    """

    def __init__(self, decoder: DecoderRecommender, histories: Histories, *, n_context: int, n_new: int) -> None:
        self.model = decoder.model
        self._tower, self._transformer = self.model.transformer()
        reading = decoder.read(histories, n_context)
        self.queries, item_BT, gap_BT = reading.queries, reading.sequences.item_BT, reading.sequences.gap_days_BT
        self.newest_R, self.gap_R = self.queries.position_Q, self.queries.days_until_query_Q
        self.cache = self._transformer.new_cache(len(histories), item_BT.shape[1] + n_new)
        position_BT = torch.arange(item_BT.shape[1]).expand_as(item_BT)
        input_BTD = self.model.inputs(reading.sequences)
        state_BTD = self._transformer.extend(input_BTD, gap_BT, position_BT, item_BT > 0, self.cache)
        self.logits_RV = self._logits(state_BTD[torch.arange(len(self.newest_R)), self.newest_R], self.gap_R)

    def extend(self, item_R: Tensor) -> None:
        self.newest_R = self.newest_R + 1
        state_RTD = self._transformer.extend(
            self._tower(item_R[:, None]), self.gap_R[:, None], self.newest_R[:, None], (item_R > 0)[:, None], self.cache
        )
        self.gap_R = torch.zeros_like(self.gap_R)
        self.logits_RV = self._logits(state_RTD[:, 0], self.gap_R)

    def _logits(self, state_RD: Tensor, days_until_query_R: Tensor) -> Tensor:
        query_RD = self._transformer.query_at(state_RD, days_until_query_R)
        return self.model.catalogue_logits(query_RD, self.queries)  # the end of a history, as padding, is -inf


def build_purchase_model(
    config: Config, codes: ItemCodes, user_codes: UserCodes | None, n_promoted: int
) -> PurchaseModel:
    """Return our model, not trained; ``n_promoted`` item features tell of promotions."""
    has_dates, n_user_codes = config.split.protocol == "weekly", 1 if user_codes is None else user_codes.n_codes
    return PurchaseModel(config.model, codes, has_dates=has_dates, n_user_codes=n_user_codes, n_promoted=n_promoted)


def count_transitions_of(model: PurchaseModel, known: Histories) -> None:
    """Let the component ``transitions`` of ``model``, if there is one, count ``known``, the histories of everybody."""
    transitions = model.component(TransitionComponent)
    if transitions is not None:
        table = follower_table(known, transitions.strength_VK.shape[1])
        transitions.set_followers(*(torch.from_numpy(part) for part in table))


def signals_of(config: Config, log: Purchases, codes: ItemCodes | None = None) -> tuple[Snapshots, UserCodes | None]:
    """Return what a model of ``config`` reads beside the log itself; ``codes`` are by default made of its items."""
    user_codes = UserCodes.from_users(log.users) if config.model.customer else None
    return Snapshots(log, codes, promotions=config.model.promotions), user_codes


def load_purchase_decoder(run: Run, snapshots: SnapshotSource, user_codes: UserCodes | None) -> DecoderRecommender:
    """Return our decoder of a run over ``snapshots``; a RunError says where the weights do not fit."""
    n_promoted = 0 if snapshots.promotions is None else len(snapshots.promotions.features)
    with torch.random.fork_rng(devices=[]):  # what is drawn for a fresh model is overwritten at once
        model = build_purchase_model(run.config, snapshots.codes, user_codes, n_promoted)
    load_weights(model, run.folder / WEIGHTS_FILE)
    return DecoderRecommender(model.eval(), snapshots, user_codes)
