"""What cleaning gives: events that can be used, the ids that their indices point into, and what was counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data.order import Events

#: Rules that carry out what the configuration asks for: no fault of the data.
ASKED_FOR = ("before_start", "from_end_on", "not_in_top_k_items", "history_too_short", "history_too_long")


@dataclass
class Report:
    """What validation found; every figure is a number of rows."""

    rows_read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # by rule
    found: dict[str, int] = field(default_factory=dict)  # kept, or mended, although something is amiss
    kept: int = 0
    exact_duplicates: int = 0  # kept rows equal to another in every column: they are quantities
    before_history_limits: dict[str, int] = field(default_factory=dict)  # events and users, where there are limits

    def findings(self) -> dict[str, int]:
        """Return everything that ``--strict`` objects to."""
        dropped = {rule: rows for rule, rows in self.dropped.items() if rule not in ASKED_FOR}
        return {name: rows for name, rows in (dropped | self.found).items() if rows}


@dataclass(frozen=True)
class Cleaned:
    """Events that stay, in no order, and the tables that their indices point into."""

    events: Events
    items: pa.Table  # row i for item_index i+1
    users: pa.Table  # row u for user_index u
    report: Report
    promotions: pa.Table | None = None  # item_id, start, end (dates, or days since 1970), medium, share
    channels: tuple[str, ...] = ()  # names of channels 1, 2, …


@dataclass(frozen=True)
class Part:
    """What can be used of the purchases of some customers, all of theirs; nothing is refused yet."""

    events: Events
    item_ids: pa.Array  # (n,) string, of item_index 1, 2, …
    users: pa.Table  # row u for user_index u
    channels: pa.Array  # (n,) string, of channels 1, 2, …
    sold: pa.Array  # (n,) string, ids of items that are known or were met in any row
    habits: np.ndarray  # (3,) int64 users with events, of these seen on one day, and most events of one


def summed(report: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two reports of validation count together."""
    total = dict(report)
    for name, figure in added.items():
        before = total.get(name, {} if isinstance(figure, Mapping) else 0)
        total[name] = summed(before, figure) if isinstance(figure, Mapping) else before + figure
    return total
