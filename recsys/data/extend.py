"""A log with newer events: known users, items and channels keep their numbers, new ones come behind them.

Trained weights hold a row for each ``item_index``, so that no number of a known item may ever change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.data.encode import require_few_channels
from recsys.data.ids import places_in, texts_of
from recsys.data.order import Events, basket_numbers, history_order, made_up, offsets_of, user_of_event
from recsys.data.planned_promotions import in_promotion_order, promotions_of
from recsys.errors import DataError

_COLUMNS = ("item", "day", "price", "channel", "quantity")


@dataclass(frozen=True)
class Parts:
    """What a log is made of, see :mod:`recsys.schema`."""

    arrays: Mapping[str, np.ndarray]  # by name, offsets among them
    tables: Mapping[str, pa.Table]  # items, users and perhaps promotions
    channels: tuple[str, ...]  # names of channels 1, 2, …


@dataclass(frozen=True)
class NewerEvents:
    """Events to be added, whose indices point into tables of their own."""

    events: Events  # basket 0 stands for the basket of the day
    items: pa.Table
    users: pa.Table
    channels: tuple[str, ...]
    promotions: pa.Table | None = None  # item_id, start and end in days since 1970-01-01, medium, share
    ordered: bool = False  # whether a user's events of a day are in order, which then stays


def newer_of_log(parts: Parts) -> NewerEvents:
    """Return the events of a whole log."""
    user = user_of_event(parts.arrays[schema.OFFSETS])
    basket = None if _baskets_are_days(parts.arrays, user) else parts.arrays["basket"].astype(np.int64) + 1
    columns = {name: parts.arrays[name] for name in _COLUMNS}
    events = Events(user=user, millisecond=None, basket=basket, **columns)
    planned = parts.tables.get("promotions")
    items, users = parts.tables["items"], parts.tables["users"]
    promotions = None if planned is None else _with_ids(planned, items)
    return NewerEvents(events, items, users, parts.channels, promotions, ordered=True)


def extend(known: Parts, newer: NewerEvents) -> Parts:
    """Return the log ``known`` with ``newer`` events, each in its place by day, behind the known ones of that day.

    A new event without a basket joins the known one of its day where every known basket is a day; else the events of a
    day without one are a basket of their own. A basket id is taken for another one than those known.

    Raises:
        DataError: an attribute has another type than the known one, or there are too many channels.
    """
    tables = {
        "items": _appended(known.tables["items"], newer.items, schema.ITEM_ID, "items"),
        "users": _appended(known.tables["users"], newer.users, schema.USER_ID, "users"),
    }
    user_of, item_of = (
        places_in(texts_of(tables[name], column), texts_of(table, column))
        for name, column, table in (("users", schema.USER_ID, newer.users), ("items", schema.ITEM_ID, newer.items))
    )
    channels = (*known.channels, *(name for name in newer.channels if name not in known.channels))
    require_few_channels(len(channels))
    channel_of = np.array([0, *(channels.index(name) + 1 for name in newer.channels)], dtype=np.int8)
    events = newer.events
    channel = None if events.channel is None else channel_of[events.channel]
    events = replace(events, user=user_of[events.user], item=item_of[events.item - 1] + np.int32(1), channel=channel)
    order = np.lexsort((events.day, events.user)) if newer.ordered else history_order(events)
    arrays = _merged(known.arrays, events.take(order), tables["users"].num_rows)
    promotions = _united_promotions(known.tables.get("promotions"), newer.promotions, tables["items"])
    if promotions is not None:
        tables["promotions"] = promotions
    return Parts(arrays, tables, channels)


def _merged(known: Mapping[str, np.ndarray], events: Events, n_users: int) -> dict[str, np.ndarray]:
    """Return the arrays of ``known`` with ``events``, which are sorted by user and day."""
    user = user_of_event(known[schema.OFFSETS])
    # One ascending number a known event, by user and then by day, so that the places of all are found at once.
    first = min(int(known["day"].min(initial=0)), int(events.day.min(initial=0)))
    span = max(int(known["day"].max(initial=0)), int(events.day.max(initial=0))) - first + 1
    known_key = user * np.int64(span) + (known["day"] - np.int64(first))
    place = np.searchsorted(known_key, events.user * np.int64(span) + (events.day - np.int64(first)), side="right")
    arrays = {name: np.insert(known[name], place, _filled(events, name)) for name in _COLUMNS}
    everyone = np.insert(user, place, events.user)
    arrays[schema.OFFSETS] = offsets_of(everyone, n_users)
    basket = _basket_codes(known, user, events, place)
    arrays["basket"] = basket_numbers(everyone, arrays["day"], basket, arrays[schema.OFFSETS])
    return arrays


def _basket_codes(
    known: Mapping[str, np.ndarray], user: np.ndarray, events: Events, place: np.ndarray
) -> np.ndarray | None:
    """Return a number for the basket of each event (E,) int64, 0 where it is the day; None where all are."""
    are_days = _baskets_are_days(known, user)
    new = np.zeros(len(events), dtype=np.int64) if events.basket is None else events.basket.astype(np.int64)
    if are_days and not new.any():
        return None
    before = np.zeros(len(user), dtype=np.int64) if are_days else known["basket"].astype(np.int64) + 1
    return np.insert(before, place, np.where(new > 0, new + before.max(initial=0), 0))


def _baskets_are_days(arrays: Mapping[str, np.ndarray], user: np.ndarray) -> bool:
    """Return whether every basket is a user's day, as where the source names none."""
    by_day = basket_numbers(user, arrays["day"], None, arrays[schema.OFFSETS])
    return bool(np.array_equal(by_day, arrays["basket"]))


def _filled(events: Events, name: str) -> np.ndarray:
    values: np.ndarray | None = getattr(events, name)
    return made_up(name, len(events)) if values is None else values


def _appended(known: pa.Table, newer: pa.Table, column: str, what: str) -> pa.Table:
    """Return ``known`` with the rows of ``newer`` whose id is new behind; an attribute that one lacks is null there."""
    new = newer.filter(pc.invert(pc.is_in(texts_of(newer, column), value_set=texts_of(known, column))))
    for place, name in enumerate(new.column_names):
        if name in known.column_names and new[name].type != known[name].type:
            try:
                new = new.set_column(place, name, new[name].cast(known[name].type))
            except pa.ArrowException as error:
                raise DataError(
                    f"column {name} of the frame of {what} holds {new[name].type}, expected {known[name].type} as for "
                    "the known ones; convert it"
                ) from error
    return pa.concat_tables([known, new], promote_options="default").combine_chunks()


def _with_ids(planned: pa.Table, items: pa.Table) -> pa.Table:
    ids = texts_of(items, schema.ITEM_ID).take(pc.subtract(planned["item_index"].combine_chunks(), 1))
    return pa.table(
        {
            schema.ITEM_ID: ids,
            schema.START: planned["first_day"],
            schema.END: pc.subtract(planned["end_day"], pa.scalar(1, pa.int32())),
            schema.MEDIUM: planned[schema.MEDIUM],
            schema.SHARE: planned[schema.SHARE],
        }
    )


def _united_promotions(known: pa.Table | None, newer: pa.Table | None, items: pa.Table) -> pa.Table | None:
    """Return all promotions, one of several that are equal; those of items that nobody knows are left out."""
    if newer is None:
        return known
    added = promotions_of(newer, texts_of(items, schema.ITEM_ID))
    both = added if known is None else pa.concat_tables([known.cast(added.schema), added])
    return in_promotion_order(both.group_by(both.column_names).aggregate([]).select(both.column_names))
