"""What a model reads of users at a day: sequences of their newest events, and summaries of their whole histories.

Shapes: B sequences, T positions, Q queries, S distinct days, P past items, R categories, C co-purchases of all queries
together; V = n_items + 1 rows of the catalogue, F features of each table.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.data.purchases import Histories, Purchases
from recsys.signals.categories import category_history
from recsys.signals.co_purchases import co_purchases, no_co_purchases
from recsys.signals.item_codes import ItemCodes
from recsys.signals.past_items import PastItems, Summaries, past_items
from recsys.signals.promotions import Promotions
from recsys.signals.snapshot import Snapshot
from recsys.signals.user_codes import UserCodes


class SnapshotSource(Protocol):
    """What gives snapshots: of any day from a log, or of the one that was opened from a folder."""

    @property
    def codes(self) -> ItemCodes:
        """What is said of items."""

    @property
    def promotions(self) -> Promotions | None:
        """What was planned."""

    def at(self, day: int) -> Snapshot:
        """Return the snapshot of ``day``; a DataError where there is none."""

    def promoted_sums_of(self, log: Purchases) -> np.ndarray | None:
        """Return how much the events of ``log`` were promoted, see :meth:`Promotions.sums`; None where none were."""


@dataclass(frozen=True)
class Sequences:
    """The newest events of each user, padded on the right."""

    item: np.ndarray  # (B, T) int64 item_index; n_items + 1 marks the start of a history, 0 pads
    gap_days: np.ndarray  # (B, T) int64 days since the event before
    user_codes: np.ndarray  # (B, K) int64 codes, see signals.user_codes; K is 0 where the model does not read them


@dataclass(frozen=True)
class Queries:
    """Queries at days about histories: what will be bought in the window that begins then?"""

    position: np.ndarray  # (Q,) int64 position of the last known event in its sequence
    days_until_query: np.ndarray  # (Q,) int64 days from that event to the day
    day_place: np.ndarray  # (Q,) int64 place of the day among ``item_features``
    item_features: tuple[np.ndarray, ...]  # S times (V, F) float32, see Snapshot.item_features
    past: PastItems  # P of them
    categories: Summaries  # of past items, R of them: categories.CATEGORY_FEATURES
    co_purchases: Summaries  # items bought together with past ones, C of them: co_purchases.CO_PURCHASE_FEATURES


def query_at(
    snapshots: SnapshotSource, histories: Histories, max_length: int, user_codes: UserCodes | None, *, lifts: bool
) -> tuple[Sequences, Queries]:
    """Return the newest events of each history, in ``max_length`` positions at most, and a query at the end of each."""
    log, begin, end = histories.log, histories.begin, histories.end
    whole = end - begin < max_length  # room for the start mark too
    first = np.where(whole, begin - 1, end - max_length)
    sequences, _ = assemble(log, histories.user_index, first, end - first, whole, user_codes, histories.known_as)
    day = np.full(len(histories), histories.day, dtype=np.int64)
    return sequences, build_queries(
        snapshots, log, histories.user_index, end, day, position=end - first - 1, lifts=lifts
    )


def assemble(
    log: Purchases,
    user_index: np.ndarray,
    first: np.ndarray,
    length: np.ndarray,
    at_start: np.ndarray,
    user_codes: UserCodes | None,
    known_as: np.ndarray | None = None,
) -> tuple[Sequences, np.ndarray]:
    """Return sequences of events ``first:first + length``, a start mark first ``at_start``, and their days (B, T).

    ``known_as`` (B,) are the users' rows in ``user_codes``, by default ``user_index``.
    """
    known_as = np.asarray(user_index) if known_as is None else known_as
    steps = np.arange(int(length.max(initial=1)))
    real_BT = steps < length[:, None]
    item_BT, day_BT = np.zeros((2, *real_BT.shape), dtype=np.int64)
    if log.n_events:
        position_BT = np.clip(first[:, None] + steps, 0, log.n_events - 1)
        item_BT, day_BT = (np.where(real_BT, part[position_BT], 0).astype(np.int64) for part in (log.item, log.day))
    item_BT[at_start, 0] = log.n_items + 1
    gap_BT: np.ndarray = np.zeros_like(day_BT)
    gap_BT[:, 1:] = np.where(real_BT[:, 1:], np.diff(day_BT), 0)
    gap_BT[at_start, 1:2] = 0
    codes = np.zeros((len(user_index), 0)) if user_codes is None else user_codes.of(known_as)
    return Sequences(item_BT, gap_BT, codes.astype(np.int64)), day_BT


def build_queries(
    snapshots: SnapshotSource,
    log: Purchases,
    user_index: np.ndarray,
    end: np.ndarray,
    day: np.ndarray,
    *,
    position: np.ndarray,
    lifts: bool,
    lift_day: np.ndarray | None = None,
) -> Queries:
    """Return queries about histories of ``user_index`` (Q,), known up to flat positions ``end`` (Q,).

    All known events are before the query's ``day`` (Q,), in days since 1970-01-01. The last one stands at ``position``
    (Q,) of its sequence. With ``lifts``, co-purchases are counted up to ``lift_day`` (Q,), else ``day``.
    """
    day = np.asarray(day)
    days, day_place = np.unique(day, return_inverse=True)
    by_day = {int(one): snapshots.at(int(one)) for one in days}
    hazards = {one: snapshot.hazards for one, snapshot in by_day.items()}
    rarity = {one: snapshot.category_rarity for one, snapshot in by_day.items()}
    past = past_items(hazards, snapshots.codes.groups, log, user_index, end, day, snapshots.promoted_sums_of(log))
    together = no_co_purchases()
    if lifts:
        counted = day if lift_day is None else lift_day
        together = co_purchases(past, {int(one): snapshots.at(int(one)).lift for one in np.unique(counted)}, counted)
    known = end > log.offsets[user_index]
    last_day = log.day[np.maximum(end - 1, 0)] if log.n_events else np.zeros(len(end), dtype=np.int64)
    return Queries(
        position=position.astype(np.int64),
        days_until_query=np.where(known, np.maximum(day - last_day, 0), 0).astype(np.int64),
        day_place=day_place.astype(np.int64),
        item_features=tuple(snapshot.item_features for snapshot in by_day.values()),
        past=past,
        categories=category_history(past, snapshots.codes.categories, rarity, day),
        co_purchases=together,
    )
