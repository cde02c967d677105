"""What callers of the library hand over beside frames: histories made by hand, for customers who are in no log."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol

import narwhals as nw
import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.days import day_number
from recsys.data.native import FrameStyle, id_texts
from recsys.data.order import basket_numbers, made_up, offsets_of
from recsys.data.purchases import Histories, Purchases
from recsys.errors import DataError

__all__ = ["FrameStyle", "GivenHistories", "given_histories", "id_texts"]

_PAIRS = "expected (item_id, date) or (item_id, date, quantity), such as ('0108775015', '2020-09-22')"


class Catalogue(Protocol):
    """Items that histories are about: a log, or a snapshot."""

    @property
    def items(self) -> nw.DataFrame[Any]:
        """Item table, row i for item_index i+1."""

    def item_index_of(self, item_ids: pa.Array) -> np.ndarray:
        """Return the item_index (n,) int32 of external ids; 0 where the id is unknown."""


class GivenHistories(NamedTuple):
    """Histories made by hand, and what of them could not be used."""

    histories: Histories  # one a row, in the order in which they were given
    unknown_items: list[tuple[int, str | None]]  # row and id of events whose item the catalogue does not hold
    later_events: list[tuple[int, str | None]]  # row and id of events on the day or after it: they are not known yet


def given_histories(
    catalogue: Catalogue, histories: Iterable[Iterable[Sequence[Any]]], day: int | str | date
) -> GivenHistories:
    """Return what is known of somebody's purchases when ``day`` is asked.

    The events of a day keep their order and are one basket. A history may be empty. Of an event whose item is
    unknown nothing else is looked at but its date.

    >>> frame = pa.table({"who": ["u"], "what": ["tea"], "when": ["2024-05-01"]})
    >>> log = Purchases.from_frame(frame, user="who", item="what", time="when")
    >>> given = given_histories(log, [[("tea", "2024-05-02"), ("salt", "2024-05-02")], []], "2024-05-03")
    >>> given.histories.n_events.tolist(), given.unknown_items
    ([1, 0], [(0, 'salt')])

    Args:
        catalogue: a log or a snapshot: its items are meant.
        histories: of each its events in any order: item id (text or number), date (text YYYY-MM-DD, date or datetime)
            and perhaps a quantity.
        day: the day asked, as a date or in days since 1970-01-01; nothing of it is known.

    Raises:
        DataError: an event is something else, or a date does not exist.
    """
    day = day if isinstance(day, int | np.integer) else _day(day, "the day")
    listed = _listed(histories, "the histories")
    rows, ids, days, quantities = _columns(listed)
    texts = id_texts(ids) if ids else pa.array([], pa.string())
    item = catalogue.item_index_of(texts)
    row, on_day = np.array(rows, dtype=np.int32), np.array(days, dtype=np.int32)
    later = on_day >= day
    kept = np.flatnonzero((item > 0) & ~later)
    kept = kept[np.lexsort((on_day[kept], row[kept]))]
    log = _log_of(catalogue, row[kept], item[kept], on_day[kept], np.array(quantities, np.float32)[kept], len(listed))
    everybody = Histories(log, np.arange(len(listed), dtype=np.int32), log.offsets[1:], int(day), given=True)
    return GivenHistories(everybody, _named(rows, texts, (item == 0) & ~later), _named(rows, texts, later))


def _columns(histories: list[Any]) -> tuple[list[int], list[Any], list[int], list[float]]:
    """Return row, id, day and quantity of every event."""
    rows, ids, days, quantities = [], [], [], []
    for row, history in enumerate(histories):
        for number, event in enumerate(_listed(history, f"history {row}")):
            what = f"history {row}, event {number}"
            if isinstance(event, str | bytes | Mapping) or not isinstance(event, Sequence) or len(event) not in (2, 3):
                raise DataError(f"{what} is {event!r}, {_PAIRS}")
            rows.append(row)
            ids.append(event[0])
            days.append(_day(event[1], what))
            quantities.append(_quantity(event[2], what) if len(event) > 2 else 1.0)
    return rows, ids, days, quantities


def _listed(values: Any, what: str) -> list[Any]:  # noqa: ANN401 - what somebody gave
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise DataError(f"{what} is {values!r}, expected a list of events; {_PAIRS} each")
    return list(values)


def _day(value: Any, what: str) -> int:  # noqa: ANN401 - what somebody gave
    """Return a date in any form in days since 1970-01-01."""
    shown = value
    try:
        if isinstance(value, np.datetime64):
            value = value.astype("datetime64[D]").item()
        if isinstance(value, str):
            text = value.strip()
            value = datetime.fromisoformat(text if text[4:5] == text[7:8] == "-" else "")
        if isinstance(value, date) and getattr(value, "tzinfo", None) is None:
            return day_number(value.date() if isinstance(value, datetime) else value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{what} has the date {shown!r}, expected one such as 2020-09-22; correct it") from error
    raise DataError(f"{what} has the date {shown!r}, expected one without a zone, such as 2020-09-22; correct it")


def _quantity(value: Any, what: str) -> float:  # noqa: ANN401 - what somebody gave
    try:
        quantity = float(value)
    except (ValueError, TypeError, OverflowError):
        quantity = math.nan
    if not abs(quantity) <= float(np.finfo(np.float32).max):
        raise DataError(f"{what} has the quantity {value!r}, expected a finite number; leave it out")
    return quantity


def _named(rows: list[int], texts: pa.Array, chosen: np.ndarray) -> list[tuple[int, str | None]]:
    return [(rows[place], texts[place].as_py()) for place in np.flatnonzero(chosen).tolist()]


def _log_of(
    catalogue: Catalogue, user: np.ndarray, item: np.ndarray, day: np.ndarray, quantity: np.ndarray, n_users: int
) -> Purchases:
    """Return a log over the items of ``catalogue`` whose users are 0 … ``n_users``-1; events are sorted by both."""
    offsets = offsets_of(user, n_users)
    users = pa.table({schema.USER_ID: pa.array([str(number) for number in range(n_users)], pa.string())})
    return Purchases(
        item=item,
        day=day,
        price=made_up("price", len(item)),
        channel=made_up("channel", len(item)),
        quantity=quantity,
        basket=basket_numbers(user, day, None, offsets),
        offsets=offsets,
        manifest={"source": "given", "fingerprint": "given"},
        tables={"items": catalogue.items.to_arrow(), "users": users},
    )
