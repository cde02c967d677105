"""A log with newer events: known users, items and channels keep their numbers, new ones come behind them.

Trained weights hold a row for each ``item_index``, so that no number of a known item may ever change.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.data.assemble import Prepared
from recsys.data.cleaned import Cleaned, Report
from recsys.data.encode import require_few_channels
from recsys.data.ids import texts_of
from recsys.data.order import Events, basket_numbers, history_order, in_history_order, user_of_event
from recsys.data.planned_promotions import in_promotion_order, promotions_of
from recsys.data.text_codes import places_in
from recsys.errors import DataError


def events_of_log(log: Prepared) -> Cleaned:
    """Return a whole log as events that another one can be extended with."""
    arrays = {name: log.arrays[name] for name in schema.EVENT_ARRAYS}
    user = user_of_event(log.arrays[schema.OFFSETS])
    number = arrays.pop("basket")
    # None where every basket is a user's day, as where the source names none.
    by_day = np.array_equal(basket_numbers(user, arrays["day"], None, log.arrays[schema.OFFSETS]), number)
    position = np.arange(len(user), dtype=np.int32)  # so that the events of a day keep their order
    basket = None if by_day else number.astype(np.int64) + 1
    events = Events(user=user, millisecond=position, basket=basket, **arrays)
    items, planned = log.tables["items"], log.tables.get("promotions")
    if planned is not None:
        places = pc.subtract(planned["item_index"].combine_chunks(), 1)
        columns = {
            schema.ITEM_ID: texts_of(items, schema.ITEM_ID).take(places),
            schema.START: planned["first_day"],
            schema.END: pc.subtract(planned["end_day"], pa.scalar(1, pa.int32())),
        }
        planned = pa.table(columns | {name: planned[name] for name in (schema.MEDIUM, schema.SHARE)})
    return Cleaned(events, items, log.tables["users"], Report(), planned, log.channels)


def extend(known: Prepared, newer: Cleaned) -> Prepared:
    """Return the log ``known`` with ``newer`` events, each in its place by day, behind the known ones of that day.

    A new event without a basket joins the known one of its day where every known basket is a day; else the events of a
    day without one are a basket of their own. A basket id is taken for another one than those known. DataError where
    an attribute has another type than the known one, or there are too many channels.
    """
    users, user_of = _appended(known.tables["users"], newer.users, schema.USER_ID, "users")
    items, item_of = _appended(known.tables["items"], newer.items, schema.ITEM_ID, "items")
    channels = (*known.channels, *(name for name in newer.channels if name not in known.channels))
    require_few_channels(len(channels))
    channel_of = np.array([0, *(channels.index(name) + 1 for name in newer.channels)], dtype=np.int8)
    old, new = events_of_log(known).events, newer.events
    channel = None if new.channel is None else channel_of[new.channel]
    new = replace(new, user=user_of[new.user], item=item_of[new.item - 1] + np.int32(1), channel=channel)
    new = new.take(history_order(new))
    basket = None
    if old.basket is not None or new.basket is not None:
        first, second = (np.zeros(len(each), np.int64) if each.basket is None else each.basket for each in (old, new))
        basket = np.concatenate([first, np.where(second > 0, second + first.max(initial=0), 0)])
    names = ("user", *(name for name in schema.EVENT_ARRAYS if name != "basket"))
    columns = {name: np.concatenate([old.column(name), new.column(name)]) for name in names}
    position = np.arange(len(old) + len(new), dtype=np.int32)  # the order within a day
    events = Events(**columns, millisecond=position, basket=basket)
    arrays, _ = in_history_order(events, users.num_rows)
    tables = {"users": users, "items": items}
    planned = known.tables.get("promotions")
    if newer.promotions is not None:
        # Of several that are equal one stays; those of items that nobody knows are left out.
        added = promotions_of(newer.promotions, texts_of(items, schema.ITEM_ID))
        both = added if planned is None else pa.concat_tables([planned.cast(added.schema), added])
        planned = in_promotion_order(both.group_by(both.column_names).aggregate([]).select(both.column_names))
    if planned is not None:
        tables["promotions"] = planned
    return Prepared(arrays, tables, channels)


def _appended(known: pa.Table, newer: pa.Table, column: str, what: str) -> tuple[pa.Table, np.ndarray]:
    """Return ``known`` with the rows of ``newer`` whose id is new behind, and the position (n,) there of each of these.

    An attribute that one of the tables lacks is null in its rows.
    """
    ids = texts_of(newer, column)
    new = newer.filter(pc.invert(pc.is_in(ids, value_set=texts_of(known, column))))
    for place, name in enumerate(new.column_names):
        if name in known.column_names and new[name].type != known[name].type:
            try:
                new = new.set_column(place, name, new[name].cast(known[name].type))
            except pa.ArrowException as error:
                raise DataError(
                    f"column {name} of the frame of {what} holds {new[name].type}, expected {known[name].type} as for "
                    "the known ones; convert it"
                ) from error
    table = pa.concat_tables([known, new], promote_options="default").combine_chunks()
    return table, places_in(texts_of(table, column), ids)
