"""The contracts: names, types and meaning of every column and array that passes between the parts.

Raw tables (a source returns them, the engine validates them)
    events
        ``user_id`` string · ``item_id`` string · ``time`` string (``YYYY-MM-DD``, optionally followed by
        ``[T ]HH:MM[:SS[.fff]]``), Date or Datetime · optional ``price``, ``quantity`` (string or number) ·
        optional ``channel``, ``basket_id`` (string or integer)
    items, users
        ``item_id``, ``user_id`` string · any further columns are attributes, kept as they are
    promotions (optional: what was planned before its days, see :mod:`recsys.signals.promotions`)
        ``item_id`` string · ``start``, ``end`` date, the last day included · ``medium`` string · ``share`` number, of
        the places that sell, above 0 and at most 1

Prepared data (a folder that ``dataset main`` writes and everything after it reads)
    ``item.npy`` int32 (E,)      item_index of each event, 1 … n_items; 0 is padding and never occurs
    ``day.npy`` int32 (E,)       days since 1970-01-01
    ``price.npy`` float32 (E,)   price as in the source, NaN where it is missing
    ``channel.npy`` int8 (E,)    1-based rank of the channel among the sorted distinct values; 0 where missing
    ``quantity.npy`` float32 (E,)  units bought, 1 where the source does not say
    ``basket.npy`` int32 (E,)    number of the basket within the user's history, from 0; a basket is one
                                 ``basket_id``, or one day where the source has none
    ``offsets.npy`` int64 (U+1,) events of user_index u are ``offsets[u]:offsets[u+1]``, in time order
    ``items.parquet``            row i holds item_index i+1: ``item_id`` and the attributes
    ``users.parquet``            row u holds user_index u: ``user_id`` and the attributes
    ``promotions.parquet``       where the source has any: ``item_index`` int32, ``first_day`` and ``end_day`` int32
                                 (the day after the last) as in ``day.npy``, ``medium`` string, ``share`` float32
    ``report.json``              what validation found and dropped
    ``manifest.json``            source, window, row counts, names of the channels, SHA-256 of each array, fingerprint

Recommendations table
    ``user_id`` string · ``rank`` int32 from 1 · ``item_id`` string · ``score`` float32

Reasons table (a row for each past purchase that carried a recommended item; one without any where none did)
    ``user_id``, ``rank``, ``item_id`` as in the recommendations · ``reason`` string, one of ``REASONS`` ·
    ``past_item_id`` string, ``past_date`` date of its latest purchase, ``share`` float32 of what it carried, all
    three null where nothing did · ``text`` string, the whole reason in words, the same on all rows of an item
"""

from collections.abc import Iterable
from typing import Final

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
TIME: Final = "time"
PRICE: Final = "price"
QUANTITY: Final = "quantity"
CHANNEL: Final = "channel"
BASKET_ID: Final = "basket_id"

RANK: Final = "rank"
SCORE: Final = "score"
PLACE: Final = "place"
LOG_PROBABILITY: Final = "log_probability"
REASON: Final = "reason"
MEDIUM: Final = "medium"
PAST_ITEM_ID: Final = "past_item_id"
PAST_DATE: Final = "past_date"
SHARE: Final = "share"
START: Final = "start"
END: Final = "end"
TEXT: Final = "text"

EVENT_REQUIRED: Final = (USER_ID, ITEM_ID, TIME)
EVENT_OPTIONAL: Final = (PRICE, QUANTITY, CHANNEL, BASKET_ID)

#: Arrays of one value per event, with their dtypes, in the order in which they are written.
EVENT_ARRAYS: Final = {
    "item": "int32",
    "day": "int32",
    "price": "float32",
    "channel": "int8",
    "quantity": "float32",
    "basket": "int32",
}
OFFSETS: Final = "offsets"

#: Columns of the table of promotions among the prepared data.
PROMOTION_COLUMNS: Final = ("item_index", "first_day", "end_day", MEDIUM, SHARE)

DECODER: Final = "decoder"
#: Names of the systems that reports compare, in the order in which they are shown.
SYSTEMS: Final = (
    DECODER,
    *("repeat", "variants", "gp_topfreq", "tifu_knn"),
    *("transitions", "covisitation", "item_knn", "als"),
    *("popularity_week", "popularity"),
)


def in_report_order(systems: Iterable[str]) -> list[str]:
    """Return the names of systems in the order in which reports show them, others after these, by name.

    >>> in_report_order(["popularity", "mine", "decoder"])
    ['decoder', 'popularity', 'mine']
    """
    return sorted(systems, key=lambda name: (SYSTEMS.index(name) if name in SYSTEMS else len(SYSTEMS), name))


#: Reasons for a recommended item, see :mod:`recsys.modeling.explain.reasons`.
REASONS: Final = ("repeat", "promoted", "rising", "variant", "often_after", "popular")
