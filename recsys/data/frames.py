"""What callers of the library hand over beside frames: histories made by hand, for customers who are in no log."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.days import day_number
from recsys.data.native import id_texts
from recsys.data.order import Events, basket_numbers, offsets_of
from recsys.data.purchases import Histories, Purchases
from recsys.errors import DataError

_PAIRS = "expected (item_id, date) or (item_id, date, quantity), such as ('0108775015', '2020-09-22')"


class GivenHistories(NamedTuple):
    """Histories made by hand, and what of them could not be used."""

    histories: Histories  # one a row, in the order in which they were given
    unknown_items: list[tuple[int, str | None]]  # row and id of events whose item the log does not hold
    later_events: list[tuple[int, str | None]]  # row and id of events on the day or after it: they are not known yet


def given_histories(
    log: Purchases, histories: Iterable[Iterable[Sequence[Any]]], day: int | str | date
) -> GivenHistories:
    """Return what is known of somebody's purchases when ``day`` (a date, or days since 1970-01-01) is asked.

    Of each history the events come in any order: item id (text or number) as in ``log``, date (text YYYY-MM-DD, date or
    datetime) and perhaps a quantity. Those of a day keep their order and are one basket. A history may be empty. Of an
    event whose item is unknown nothing else is looked at but its date. DataError where an event is something else.

    >>> frame = pa.table({"who": ["u"], "what": ["tea"], "when": ["2024-05-01"]})
    >>> log = Purchases.from_frame(frame, user="who", item="what", time="when")
    >>> given = given_histories(log, [[("tea", "2024-05-02"), ("salt", "2024-05-02")], []], "2024-05-03")
    >>> given.histories.n_events.tolist(), given.unknown_items
    ([1, 0], [(0, 'salt')])
    """
    day = day if isinstance(day, int | np.integer) else _day(day, "the day")
    listed = _listed(histories, "the histories")
    rows, ids, days, quantities = _columns(listed)
    texts = id_texts(ids) if ids else pa.array([], pa.string())
    item = log.item_index_of(texts)
    row, on_day = np.array(rows, dtype=np.int32), np.array(days, dtype=np.int32)
    later = on_day >= day
    kept = np.flatnonzero((item > 0) & ~later)
    kept = kept[np.lexsort((on_day[kept], row[kept]))]
    user, on_day = row[kept], on_day[kept]
    offsets = offsets_of(user, len(listed))
    numbers = pa.array([str(number) for number in range(len(listed))], pa.string())
    events = Events(user, item[kept], on_day, quantity=np.array(quantities, np.float32)[kept])
    columns: dict[str, Any] = {name: events.column(name) for name in schema.EVENT_ARRAYS if name != "basket"}
    own_log = Purchases(
        **columns,
        basket=basket_numbers(user, on_day, None, offsets),
        offsets=offsets,
        manifest={"source": "given", "fingerprint": "given"},
        tables={"items": log.items.to_arrow(), "users": pa.table({schema.USER_ID: numbers})},
    )
    users = np.arange(len(listed), dtype=np.int32)
    everybody = Histories(own_log, users, offsets[1:], int(day), table_rows=np.full_like(users, -1))

    def named(chosen: np.ndarray) -> list[tuple[int, str | None]]:
        return [(rows[place], texts[place].as_py()) for place in np.flatnonzero(chosen).tolist()]

    return GivenHistories(everybody, named((item == 0) & ~later), named(later))


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
    day, expected = value, "one such as 2020-09-22"
    try:
        if isinstance(day, np.datetime64):
            day = day.astype("datetime64[D]").item()
        if isinstance(day, str):
            text = day.strip()
            day = datetime.fromisoformat(text if text[4:5] == text[7:8] == "-" else "")
        if isinstance(day, date) and getattr(day, "tzinfo", None) is None:
            return day_number(day.date() if isinstance(day, datetime) else day)
        expected = "one without a zone, such as 2020-09-22"
    except (ValueError, TypeError):
        pass
    raise DataError(f"{what} has the date {value!r}, expected {expected}; correct it")


def _quantity(value: Any, what: str) -> float:  # noqa: ANN401 - what somebody gave
    try:
        quantity = float(value)
    except (ValueError, TypeError, OverflowError):
        quantity = math.nan
    if not abs(quantity) <= float(np.finfo(np.float32).max):
        raise DataError(f"{what} has the quantity {value!r}, expected a finite number; leave it out")
    return quantity
