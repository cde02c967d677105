"""Histories without one of their items: what the model reads of them, and what other items lose.

Shapes: Q histories, K listed items of each, P pairs of a history and one of its past items, B sequences, T positions,
D width, R categories and C co-purchases of all pairs together, V rows of the catalogue.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys.data.purchases import event_positions
from recsys.modeling.decoder.components import SEQUENCE
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.decoder.scores import DayScores, ProductScores, Scores
from recsys.modeling.recommenders.decoder import Reading
from recsys.signals.categories import category_history
from recsys.signals.co_purchases import co_purchases, no_co_purchases
from recsys.signals.past_items import PastItems
from recsys.signals.snapshot import Snapshot

#: Positions that are read at once while items are left out.
_MAX_POSITIONS = 32_768


@dataclass(frozen=True)
class Listed:
    """Histories and the items listed for each: what everything here is asked about."""

    model: PurchaseModel
    snapshot: Snapshot  # of the histories' day
    reading: Reading
    terms: dict[str, Scores]  # what the components give at the queries
    item_QK: Tensor  # int64 item_index, 0 pads

    @property
    def n_rows(self) -> int:
        """Rows V of the catalogue; as an item_index of a sequence it marks the start of a history."""
        return self.model.n_items + 1

    @cached_property
    def categories(self) -> np.ndarray:
        """Which categories the listed items of each history have (Q, codes) bool."""
        codes, item_QK = self.snapshot.codes, self.item_QK.cpu().numpy()
        has = np.zeros((len(item_QK), max(codes.n_category_codes, 1)), dtype=bool)
        has[np.arange(len(item_QK))[:, None], codes.categories[item_QK].reshape(len(item_QK), -1)] = True
        return has

    @cached_property
    def lift(self) -> sparse.csr_array:
        """The table of lifts (V, V), of which only rows of past items and columns of listed items are filled."""
        lift = self.snapshot.lift
        is_listed = np.zeros(lift.shape[1], dtype=bool)
        is_listed[self.item_QK.cpu().numpy()] = True
        item = np.unique(self.reading.arrays.past_item)
        row, entry = event_positions(lift.indptr[item].astype(np.int64), lift.indptr[item + 1].astype(np.int64))
        kept = is_listed[lift.indices[entry]]
        row, entry = row[kept], entry[kept]
        begins = np.zeros(lift.shape[0] + 1, dtype=np.int64)
        begins[item + 1] = np.bincount(row, minlength=len(item))
        return sparse.csr_array((lift.data[entry], lift.indices[entry], np.cumsum(begins)), shape=lift.shape)

    def given_by(self, scores: Scores | None, row_P: Tensor | None = None) -> Tensor:
        """Return what the scores of a component give to the listed items (Q, K); 0 where nobody gets anything.

        Where they are scores of pairs, ``row_P`` (P,) int64 is the history of each, and the result (P, K).
        """
        item_QK = self.item_QK if row_P is None else self.item_QK[row_P]
        if scores is None:
            return torch.zeros(item_QK.shape, device=item_QK.device)
        query_n = torch.arange(len(item_QK), device=item_QK.device).repeat_interleave(item_QK.shape[1])
        return scores.of_pairs(query_n, item_QK.flatten()).view(item_QK.shape)


@dataclass(frozen=True)
class AblatedHistories:
    """Histories as the model reads them, each without one of its items."""

    sequences: SequenceTensors  # P of them: positions close up, as if the item had never been bought
    queries: QueryTensors  # P of them, at the same day

    @classmethod
    def from_pairs(cls, listed: Listed, row: np.ndarray, item: np.ndarray) -> Self:
        """Leave ``item`` (P,) int64 out of the histories ``row`` (P,) int64.

        It is cut out of the newest events, and out of the whole history. What is said of the user as a whole
        (``user_events`` and the like among ``history.CATEGORY_FEATURES``) stays as it was: a purchase less, nothing
        else. Of categories and co-purchases, those of the listed items are counted: a tenth of the work.
        """
        snapshot, whole = listed.snapshot, listed.reading.queries
        device = whole.row_Q.device
        past = _past_without(listed.reading, row, item)
        day = np.full(len(row), snapshot.day)
        code_NC = snapshot.codes.categories[past.item]
        code_NC = np.where(listed.categories[row[past.query][:, None], code_NC], code_NC, 0)
        # Codes are looked up by item: here each pair stands for an item of its own.
        of_pairs = PastItems(past.query, np.arange(len(past.query)), past.features)
        categories = category_history(of_pairs, code_NC, {snapshot.day: snapshot}, day)
        together = no_co_purchases()
        if listed.model.reads_lifts:
            together = co_purchases(past, {snapshot.day: listed.lift}, day)
        row_P, item_P = (torch.from_numpy(part).to(device) for part in (row, item))
        sequences, position_P, days_P = _sequences_without(listed, row_P, item_P)
        arrays = {
            "past_query_P": past.query,
            "past_item_P": past.item,
            "past_features_PF": past.features,
            "category_query_R": categories.query,
            "category_code_R": categories.code,
            "category_features_RF": categories.features,
            "co_purchase_query_C": together.query,
            "co_purchase_item_C": together.item,
            "co_purchase_features_CF": together.features,
        }
        queries = QueryTensors(
            row_Q=torch.arange(len(row), device=device),
            position_Q=position_P,
            days_until_query_Q=days_P,
            day_place_Q=whole.day_place_Q[row_P],
            item_features=whole.item_features,
            **{name: torch.from_numpy(array).to(device) for name, array in arrays.items()},
        )
        return cls(sequences, queries)


def rows_of(sequences: SequenceTensors, row_P: Tensor) -> SequenceTensors:
    """Return the sequences ``row_P`` (P,) int64, which may repeat."""
    return replace(sequences, **{name: part[row_P] for name, part in vars(sequences).items()})


def lost_logits(listed: Listed, row: np.ndarray, item: np.ndarray) -> Tensor:
    """Return what each listed item loses (P, K) once ``item`` (P,) is left out of the histories ``row`` (P,).

    Each is scored as an item that is new to the user: past items too, whose own component says nothing here. What a
    component gives to everybody alike on a day is not lost.
    """
    whole = {
        name: listed.given_by(scores) for name, scores in listed.terms.items() if not isinstance(scores, DayScores)
    }
    lost_PK = torch.zeros(len(row), listed.item_QK.shape[1], device=listed.item_QK.device)
    # Those that are read at once are as long as the longest of them.
    order = np.argsort(listed.reading.arrays.position[row], kind="stable")
    n_rows = max(_MAX_POSITIONS // listed.reading.sequences.item_BT.shape[1], 1)
    for begin in range(0, len(row), n_rows):
        some = order[begin : begin + n_rows]
        row_P, some_P = (torch.from_numpy(part).to(lost_PK.device) for part in (row[some], some))
        terms = _terms_of(listed, AblatedHistories.from_pairs(listed, row[some], item[some]))
        for name, scores_QK in whole.items():
            lost_PK[some_P] += scores_QK[row_P] - listed.given_by(terms.get(name), row_P)
    return lost_PK


def _past_without(reading: Reading, row: np.ndarray, item: np.ndarray) -> PastItems:
    """Return the past items of each of the histories ``row`` (P,) without its ``item`` (P,), as of P queries."""
    arrays = reading.arrays
    begin, end = (np.searchsorted(arrays.past_query, row, side=side) for side in ("left", "right"))
    query, place = event_positions(begin, end)
    kept = arrays.past_item[place] != item[query]
    query, place = query[kept], place[kept]
    return PastItems(query, arrays.past_item[place], arrays.past_features[place])


def _sequences_without(listed: Listed, row_P: Tensor, item_P: Tensor) -> tuple[SequenceTensors, Tensor, Tensor]:
    """Return the sequences ``row_P`` (P,) without ``item_P`` (P,): gaps and the wait close over what is cut out.

    And the position (P,) of the last event of each, and the days (P,) from that event to the query.
    """
    queries, whole = listed.reading.queries, rows_of(listed.reading.sequences, row_P)
    kept_PT = (whole.item_BT > 0) & (whole.item_BT != item_P[:, None])
    order_PT = torch.argsort((~kept_PT).to(torch.int8), dim=1, stable=True)
    n_kept_P = kept_PT.sum(1)
    real_PT = torch.arange(kept_PT.shape[1], device=row_P.device) < n_kept_P[:, None]
    all_days_PT = whole.gap_days_BT.cumsum(1)
    of_events = {name: part for name, part in vars(whole).items() if name.endswith("_BT")}
    kept = {name: torch.where(real_PT, part.gather(1, order_PT), 0) for name, part in of_events.items()}
    item_PT = kept["item_BT"]
    days_PT = all_days_PT.gather(1, order_PT)
    gap_PT = kept["gap_days_BT"] = torch.zeros_like(item_PT)
    gap_PT[:, 1:] = torch.where(real_PT[:, 1:], days_PT.diff(dim=1), 0)
    # The first event has no gap, whether it stands behind the start mark or not.
    gap_PT[item_PT[:, 0] == listed.n_rows, 1:2] = 0
    # Of a window full of one item nothing is left: it is read like a history that only begins.
    item_PT[n_kept_P == 0, 0] = listed.n_rows
    position_P = (n_kept_P - 1).clamp(min=0)
    last_day_P = all_days_PT.gather(1, queries.position_Q[row_P, None])[:, 0]
    waited_P = queries.days_until_query_Q[row_P] + last_day_P - days_PT.gather(1, position_P[:, None])[:, 0]
    waited_P = torch.where(item_PT.gather(1, position_P[:, None])[:, 0] == listed.n_rows, 0, waited_P)
    longest = int(position_P.max()) + 1 if len(position_P) else 1
    sequences = replace(whole, **{name: part[:, :longest] for name, part in kept.items()})
    return sequences, position_P, waited_P


def _terms_of(listed: Listed, ablated: AblatedHistories) -> dict[str, Scores | None]:
    """Return what the components give without the items, apart from those that score all users of a day alike."""
    query_PD = listed.model.read(ablated.sequences, ablated.queries)
    terms = {
        component.name: component.score(ablated.queries, query_PD)
        for component in listed.model.added_components()
        if not isinstance(listed.terms.get(component.name), DayScores)
    }
    of_sequence = listed.terms.get(SEQUENCE)
    if query_PD is not None and isinstance(of_sequence, ProductScores):
        terms[SEQUENCE] = replace(of_sequence, query_QD=query_PD)
    return terms
