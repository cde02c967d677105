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
from recsys.modeling.decoder.components.neighbours import NeighbourComponent
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.decoder.scores import CategoryScores, DayScores, PairScores, ProductScores, Scores
from recsys.modeling.recommenders.decoder import Reading
from recsys.signals.history import PAST_FEATURES, PastItems, category_history, co_purchases, no_co_purchases
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
        """Return what ``scores`` give to the listed items (Q, K); 0 where nobody gets anything.

        Args:
            scores: of one component.
            row_P: (P,) int64 where ``scores`` are of pairs: the history of each. The result is (P, K) then.
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

        Args:
            listed: the histories.
            row: places among them.
            item: what is left out of each.
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

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        queries = QueryTensors(
            row_Q=torch.arange(len(row), device=device),
            position_Q=position_P,
            days_until_query_Q=days_P,
            day_place_Q=whole.day_place_Q[row_P],
            item_features=whole.item_features,
            past_query_P=tensor(past.query),
            past_item_P=tensor(past.item),
            past_features_PF=tensor(past.features),
            category_query_R=tensor(categories.query),
            category_code_R=tensor(categories.code),
            category_features_RF=tensor(categories.features),
            co_purchase_query_C=tensor(together.query),
            co_purchase_item_C=tensor(together.item),
            co_purchase_features_CF=tensor(together.features),
        )
        return cls(sequences, queries)


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


def items_to_leave_out(listed: Listed, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs to try: the row (P,) int64 of a history, ascending, and an item (P,) int64 of its newest events.

    Of more than ``at_most`` items of a history, those that :func:`attribution` gives most.
    """
    arrays, n_rows = listed.reading.arrays, listed.n_rows
    events = listed.reading.sequences.item_BT.cpu().numpy()
    row, position = np.nonzero((events > 0) & (events < n_rows))
    is_read = np.isin(arrays.past_query * n_rows + arrays.past_item, row * n_rows + events[row, position])
    pair = np.flatnonzero(is_read)
    n_of_row = np.bincount(arrays.past_query[pair], minlength=len(events))
    if n_of_row.max(initial=0) > at_most:
        order = pair[np.lexsort((-attribution(listed, n_of_row > at_most)[pair], arrays.past_query[pair]))]
        rank = np.arange(len(order)) - (np.cumsum(n_of_row) - n_of_row)[arrays.past_query[order]]
        pair = np.sort(order[rank < at_most])
    return arrays.past_query[pair], arrays.past_item[pair]


def attribution(listed: Listed, is_wanted: np.ndarray) -> np.ndarray:
    """Return about what each past item (N,) float64 of all histories adds to all listed logits of its own together.

    Gradient times input of its events, and what :func:`category_attribution` and :func:`co_purchase_attribution` say.
    One pass for all items. It is the effect of an infinitely small change: enough to say which items to leave out.

    Args:
        listed: the histories.
        is_wanted: (Q,) bool; of the others 0 may be returned.
    """
    total = np.zeros(len(listed.reading.arrays.past_query))
    if listed.model.decoder is not None:
        total += _gradient_attribution(listed, np.flatnonzero(is_wanted))
    for name, scores in listed.terms.items():
        if isinstance(scores, CategoryScores):
            total += category_attribution(listed, scores)
        elif isinstance(scores, PairScores):
            component = listed.model.components[name]
            total += co_purchase_attribution(listed, scores, component, np.flatnonzero(is_wanted))
    return total


def category_attribution(listed: Listed, scores: CategoryScores) -> np.ndarray:
    """Return about what each past item (N,) gives to all listed items together through its categories.

    A category's score, shared among its past items as they were bought lately, with a half-life of 60 days.
    """
    queries, code_QL = listed.reading.queries, scores.categories_VC[listed.item_QK].flatten(1)
    query_P, code_PC = queries.past_query_P, scores.categories_VC[queries.past_item_P]
    lately_P = queries.past_features_PF[:, PAST_FEATURES.index("decayed_60")].expm1()
    total_QC = lately_P.new_zeros(len(queries), len(scores.row_of_code))
    listed_QC = torch.zeros_like(total_QC)
    place = query_P[:, None].expand_as(code_PC), code_PC
    total_QC.index_put_(place, lately_P[:, None].expand(code_PC.shape), accumulate=True)
    row_QL = torch.arange(len(queries), device=query_P.device)[:, None].expand_as(code_QL)
    listed_QC.index_put_((row_QL, code_QL), total_QC.new_ones(()), accumulate=True)
    share_PC = lately_P[:, None] / total_QC[place].clamp(min=1e-9)
    score_PC = scores.score_UQ[scores.row_of_code[code_PC], query_P[:, None]]
    result: np.ndarray = (score_PC * listed_QC[place] * share_PC).sum(-1).cpu().numpy()
    return result


def co_purchase_attribution(
    listed: Listed, scores: PairScores, component: torch.nn.Module, rows: np.ndarray
) -> np.ndarray:
    """Return about what each past item (N,) gives to all listed items together as what is bought together with it.

    What ``component`` gives to an item, shared among the past items by their lift, or by their cosine as neighbours;
    for the histories ``rows`` only.
    """
    arrays, listed_QK = listed.reading.arrays, listed.item_QK.cpu().numpy()
    score_QK = listed.given_by(scores).cpu().numpy()
    total = np.zeros(len(arrays.past_query))
    for row in rows:
        own = slice(*np.searchsorted(arrays.past_query, [row, row + 1]))
        table = _strengths(listed.snapshot, component, arrays.past_item[own])
        strength = table[:, listed_QK[row]].toarray()
        total[own] = strength @ (score_QK[row] / np.maximum(strength.sum(0), 1e-9))
    return total


def _gradient_attribution(listed: Listed, rows: np.ndarray) -> np.ndarray:
    """Return gradient times input of the events of each past item (N,), for the histories ``rows``."""
    model, reading = listed.model, listed.reading
    tower, decoder = model.transformer()
    row_R = torch.from_numpy(rows).to(listed.item_QK.device)
    sequences, queries = _rows_of(reading.sequences, row_R), reading.queries
    target_RD = tower(listed.item_QK[row_R]).sum(1)
    with torch.enable_grad():
        input_RTD = model.inputs(sequences).detach().requires_grad_()
        states_RTD = decoder(input_RTD, sequences.gap_days_BT)
        state_RD = states_RTD[torch.arange(len(rows), device=row_R.device), queries.position_Q[row_R]]
        query_RD = decoder.query_at(state_RD, queries.days_until_query_Q[row_R])
        (gradient_RTD,) = torch.autograd.grad((query_RD * target_RD).sum(), input_RTD)
    of_events = (gradient_RTD * tower(sequences.item_BT)).sum(-1).cpu().numpy()
    item, n_rows = sequences.item_BT.cpu().numpy(), listed.n_rows
    row, position = np.nonzero((item > 0) & (item < n_rows))
    key = reading.arrays.past_query * n_rows + reading.arrays.past_item
    place = np.searchsorted(key, rows[row] * n_rows + item[row, position])
    total: np.ndarray = np.bincount(place, weights=of_events[row, position], minlength=len(key))
    return total


def _strengths(snapshot: Snapshot, component: torch.nn.Module, item: np.ndarray) -> sparse.csr_array:
    """Return how much each of ``item`` (N,) speaks for each other item (N, V): its lift, or cosine as a neighbour."""
    if not isinstance(component, NeighbourComponent):
        return snapshot.lift[item]
    cosine, neighbour = (table[item].cpu().numpy() for table in (component.cosine_VK, component.neighbour_VK))
    begins = np.arange(len(item) + 1) * cosine.shape[1]
    return sparse.csr_array((cosine.ravel(), neighbour.ravel(), begins), shape=(len(item), len(component.cosine_VK)))


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
    queries, whole = listed.reading.queries, _rows_of(listed.reading.sequences, row_P)
    kept_PT = (whole.item_BT > 0) & (whole.item_BT != item_P[:, None])
    order_PT = torch.argsort((~kept_PT).to(torch.int8), dim=1, stable=True)
    n_kept_P = kept_PT.sum(1)
    real_PT = torch.arange(kept_PT.shape[1], device=row_P.device) < n_kept_P[:, None]
    all_days_PT = whole.gap_days_BT.cumsum(1)
    item_PT = torch.where(real_PT, whole.item_BT.gather(1, order_PT), 0)
    days_PT = all_days_PT.gather(1, order_PT)
    gap_PT = torch.zeros_like(item_PT)
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
    sequences = SequenceTensors(item_PT[:, :longest], gap_PT[:, :longest], whole.user_codes_BK)
    return sequences, position_P, waited_P


def _rows_of(sequences: SequenceTensors, row_P: Tensor) -> SequenceTensors:
    return SequenceTensors(sequences.item_BT[row_P], sequences.gap_days_BT[row_P], sequences.user_codes_BK[row_P])


def _terms_of(listed: Listed, ablated: AblatedHistories) -> dict[str, Scores]:
    """Return what the components give without the items, apart from those that score all users of a day alike."""
    terms: dict[str, Scores] = {}
    query_PD = listed.model.read(ablated.sequences, ablated.queries)
    of_sequence = listed.terms.get(SEQUENCE)
    if query_PD is not None and isinstance(of_sequence, ProductScores):
        terms[SEQUENCE] = replace(of_sequence, query_QD=query_PD)
    for component in listed.model.added_components():
        if not isinstance(listed.terms.get(component.name), DayScores):
            scores = component.score(ablated.queries, query_PD)
            if scores is not None:
                terms[component.name] = scores
    return terms
