"""Which past items to leave out of a history: those that seem to add most to the listed items, by one pass for all.

Shapes as in :mod:`recsys.modeling.explain.leave_one_out`; N past items of all histories together, R some histories,
L categories of the listed items.
"""

import numpy as np
import torch
from scipy import sparse

from recsys.modeling.decoder.components.neighbours import NeighbourComponent
from recsys.modeling.decoder.scores import CategoryScores, PairScores
from recsys.modeling.explain.leave_one_out import Listed, rows_of
from recsys.signals.past_items import PAST_FEATURES
from recsys.signals.snapshot import Snapshot


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
    Of histories that are not wanted, (Q,) bool, 0 may be returned.
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
    sequences, queries = rows_of(reading.sequences, row_R), reading.queries
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
