"""Histories without one of their items: what the model reads of them, and what other items lose.

Shapes: Q histories, K listed items of each, P pairs of a history and a past item, T positions, V catalogue rows.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys.data.purchases import Histories, event_positions
from recsys.modeling.decoder.inputs import QueryTensors, SequenceTensors
from recsys.modeling.decoder.model import PurchaseModel
from recsys.modeling.decoder.scores import DayScores, Scores
from recsys.modeling.recommenders.decoder import Reading
from recsys.signals.categories import category_history
from recsys.signals.co_purchases import co_purchases, no_co_purchases
from recsys.signals.past_items import PastItems
from recsys.signals.queries import assemble
from recsys.signals.snapshot import Snapshot

#: Positions that are read at once while items are left out.
_MAX_POSITIONS = 32_768


@dataclass(frozen=True)
class Listed:
    """Histories and the items listed for each: what everything here is asked about."""

    model: PurchaseModel
    histories: Histories  # Q of them
    snapshot: Snapshot  # of their day
    reading: Reading
    terms: dict[str, Scores]  # what the components give at the queries
    item_QK: Tensor  # int64 item_index, 0 pads

    @property
    def n_rows(self) -> int:
        """V, which as an item of a sequence marks the start of a history."""
        return self.model.n_items + 1

    @cached_property
    def has_category(self) -> np.ndarray:
        """Which categories the listed items of each history have (Q, codes) bool."""
        codes = self.snapshot.codes
        has = np.zeros((len(self.item_QK), max(codes.n_category_codes, 1)), dtype=bool)
        has[np.arange(len(has))[:, None, None], codes.categories[self.item_QK.cpu().numpy()]] = True
        return has

    @cached_property
    def lift(self) -> sparse.csr_array:
        """The table of lifts (V, V), of which only rows of past items and columns of listed items are filled."""
        past_item = np.unique(self.reading.arrays.past.item)
        lift = self.snapshot.lift[past_item].tocoo()
        kept = np.isin(lift.col, self.item_QK.cpu().numpy())
        places = past_item[lift.row[kept]], lift.col[kept]
        return sparse.csr_array((lift.data[kept], places), shape=self.snapshot.lift.shape)

    def given_by(self, scores: Scores | None, row_P: Tensor | None = None) -> Tensor:
        """Return what a component gives to the listed items (Q, K), or to those (P, K) of the histories ``row_P``."""
        item_QK = self.item_QK if row_P is None else self.item_QK[row_P]
        if scores is None:
            return torch.zeros(item_QK.shape, device=item_QK.device)
        query_n = torch.arange(len(item_QK), device=item_QK.device).repeat_interleave(item_QK.shape[1])
        return scores.of_pairs(query_n, item_QK.flatten()).view(item_QK.shape)


def items_read(listed: Listed) -> tuple[np.ndarray, np.ndarray]:
    """Return the row (P,) int64 of a history, ascending, and each item (P,) int64 of the newest events read of it."""
    past, n_rows = listed.reading.arrays.past, listed.n_rows
    events = listed.reading.sequences.item_BT.cpu().numpy()
    # Neither padding nor a start mark has the key of an item.
    of_events = np.arange(len(events))[:, None] * n_rows + events
    pair = np.flatnonzero(np.isin(past.query * n_rows + past.item, of_events))
    return past.query[pair], past.item[pair]


def lost_logits(listed: Listed, row: np.ndarray, item: np.ndarray) -> Tensor:
    """Return what each listed item loses (P, K) once ``item`` (P,) is left out of the histories ``row`` (P,).

    Past items too are scored as if they were new to the user. What a component gives to everybody is not lost.
    """
    whole = {name: listed.given_by(one) for name, one in listed.terms.items() if not isinstance(one, DayScores)}
    lost_PK = torch.zeros(len(row), listed.item_QK.shape[1], device=listed.item_QK.device)
    # Those that are read at once are as long as the longest of them.
    order = np.argsort(listed.reading.arrays.position[row], kind="stable")
    n_rows = max(_MAX_POSITIONS // listed.reading.sequences.item_BT.shape[1], 1)
    for begin in range(0, len(row), n_rows):
        some = order[begin : begin + n_rows]
        row_P, some_P = (torch.from_numpy(part).to(lost_PK.device) for part in (row[some], some))
        sequences, queries = histories_without(listed, row[some], item[some])
        terms = listed.model.terms(listed.model.read(sequences, queries), queries)
        for name, scores_QK in whole.items():
            lost_PK[some_P] += scores_QK[row_P] - listed.given_by(terms.get(name), row_P)
    return lost_PK


def histories_without(listed: Listed, row: np.ndarray, item: np.ndarray) -> tuple[SequenceTensors, QueryTensors]:
    """Return the histories ``row`` (P,) int64, each without its ``item`` (P,) int64, as the model reads them.

    What is said of the user as a whole (``user_events`` and the like) stays as it was. Of categories and co-purchases,
    those of the listed items are counted: a tenth of the work.
    """
    snapshot, all_past, whole = listed.snapshot, listed.reading.arrays.past, listed.reading.queries
    begin, end = (np.searchsorted(all_past.query, row, side=side) for side in ("left", "right"))
    query, place = event_positions(begin, end)
    kept = all_past.item[place] != item[query]
    query, place = query[kept], place[kept]
    past = PastItems(query, all_past.item[place], all_past.features[place])
    day = np.full(len(row), snapshot.day)
    code_NC = snapshot.codes.categories[past.item]
    code_NC = np.where(listed.has_category[row[query][:, None], code_NC], code_NC, 0)
    # Codes are looked up by item: here each pair stands for an item of its own.
    of_pairs = PastItems(query, np.arange(len(query)), past.features)
    categories = category_history(of_pairs, code_NC, {snapshot.day: snapshot.category_rarity}, day)
    reads_lifts = listed.model.reads_lifts
    together = co_purchases(past, {snapshot.day: listed.lift}, day) if reads_lifts else no_co_purchases()
    row_P = torch.from_numpy(row).to(whole.position_Q.device)
    fewer = _histories_without(listed.histories.of(row), item)
    longest, at_start = listed.model.config.max_length, fewer.n_events < listed.model.config.max_length
    first = np.where(at_start, fewer.begin - 1, fewer.end - longest)
    read, _ = assemble(fewer.log, fewer.user_index, first, fewer.end - first, at_start, None)
    sequences = SequenceTensors.from_arrays(read, row_P.device)
    sequences = replace(sequences, user_codes_BK=listed.reading.sequences.user_codes_BK[row_P])
    last_day = np.append(fewer.log.day, 0)[fewer.end - 1]
    waited = np.where(fewer.n_events > 0, np.maximum(snapshot.day - last_day, 0), 0)
    position_P, days_P = (torch.from_numpy(part).to(row_P.device) for part in (fewer.end - first - 1, waited))
    names = (name for name in vars(whole) if name.startswith(("past_", "category_", "co_purchase_")))
    arrays = (array for part in (past, categories, together) for array in vars(part).values())
    changed = zip(names, arrays, strict=True)
    tensors: dict[str, Any] = {name: torch.from_numpy(array).to(row_P.device) for name, array in changed}
    tensors |= {"position_Q": position_P, "days_until_query_Q": days_P, "day_place_Q": whole.day_place_Q[row_P]}
    return sequences, replace(whole, **tensors)


def _histories_without(histories: Histories, item: np.ndarray) -> Histories:
    """Return each of ``histories`` (P) without its ``item`` (P,), as histories of a log of their own."""
    row, position = histories.events()
    kept = histories.log.item[position] != item[row]
    fewer = histories.log.of_events(row[kept], position[kept], len(histories))
    return Histories(fewer, np.arange(len(histories)), fewer.offsets[1:], histories.day, table_rows=histories.known_as)
