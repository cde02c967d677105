"""What is told of a purchase beside its item and day, as codes: basket, price, channel, quantity.

A code counts over all columns: 0 says nothing (the value is missing, or it is the usual one of a purchase that goes on
with a basket), 1 says that the purchase begins a basket. What never varies in the data has no column.

Shapes: E events, F columns, possibly none.
"""

import numpy as np

#: Code of a purchase that begins a basket; it stands in the first column.
BEGINS_BASKET = 1
#: Edges of the bands of log(price / the item's usual price).
PRICE_EDGES = (-0.5, -0.2, -0.08, -0.02, 0.02, 0.08, 0.2, 0.5)
#: Powers of two from which a quantity counts as the largest.
MAX_LOG_QUANTITY = 7
#: Prices are added up as whole numbers, so that a sum does not depend on what was added before it.
_LOG_STEPS = 1_000_000


def event_codes(
    item: np.ndarray,
    day: np.ndarray,
    price: np.ndarray,
    channel: np.ndarray,
    quantity: np.ndarray,
    basket: np.ndarray,
    offsets: np.ndarray,
) -> np.ndarray:
    """Return codes (E, F) uint8 of each purchase, from the arrays of :class:`recsys.prepared.PreparedData`."""
    columns, first = [], BEGINS_BASKET
    # A channel that no purchase names would be a code for nothing: they are numbered from those that occur.
    named = np.unique(np.concatenate([[0], channel]))
    for values, size in (
        (_begins_basket(basket, offsets), 1),
        (price_bands(item, day, price), len(PRICE_EDGES) + 1),
        (np.searchsorted(named, channel).astype(np.uint8), len(named) - 1),
        (_quantity_bands(quantity), MAX_LOG_QUANTITY + 1),
    ):
        if len(values) and values.min() != values.max():
            columns.append(np.where(values > 0, values + np.uint8(first - 1), 0).astype(np.uint8))
        first += size
    return np.stack(columns, axis=1) if columns else np.zeros((len(item), 0), dtype=np.uint8)


def price_bands(item: np.ndarray, day: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Return the band (E,) uint8 of each price beside the item's usual one, from 1; 0 where either is unknown.

    Usual is the geometric mean of what was paid for the item on earlier days, by anybody: no purchase of the day itself
    or of a later one has a part in it.
    """
    told = np.flatnonzero(price > 0)
    band = np.zeros(len(price), dtype=np.uint8)
    if not len(told) or price[told].min() == price[told].max():
        return band
    day_of = day[told].astype(np.int64) - int(day.min())
    group = item[told].astype(np.int64) * (int(day_of.max()) + 1) + day_of  # purchases of an item on one day
    order = np.argsort(group, kind="stable")
    place, group = told[order], group[order]
    log_price = np.round(np.log(price[place].astype(np.float64)) * _LOG_STEPS).astype(np.int64)
    total = np.concatenate([[0], np.cumsum(log_price)])
    first_of_day = _first_of_run(group)
    first_of_item = _first_of_run(item[place])
    n_before = first_of_day - first_of_item
    usual = (total[first_of_day] - total[first_of_item]) / np.maximum(n_before, 1)
    found = np.searchsorted(PRICE_EDGES, (log_price - usual) / _LOG_STEPS, side="right") + 1
    band[place] = np.where(n_before > 0, found, 0)
    return band


def close_up(code_TF: np.ndarray, kept_PT: np.ndarray, order_PT: np.ndarray) -> np.ndarray:
    """Return the codes (P, T, F) of a history of which some events were left out: what now begins a basket says so.

    Args:
        code_TF: codes of the whole history.
        kept_PT: (P, T) bool, which events each of P shorter histories keeps.
        order_PT: (P, T) place of each of its events, those left out last.
    """
    code_PTF = np.where(kept_PT[..., None], code_TF, 0)
    if code_TF.shape[-1]:
        begins_T = code_TF[:, 0] == BEGINS_BASKET
        # An event begins a basket if it, or one left out between it and the last one kept, did.
        begun = np.broadcast_to(np.cumsum(begins_T), kept_PT.shape)
        last_kept = np.maximum.accumulate(np.where(kept_PT, begun, 0), axis=1)
        before = np.pad(last_kept[:, :-1], ((0, 0), (1, 0)))
        code_PTF[..., 0] = np.where(kept_PT & (begun > before), BEGINS_BASKET, np.where(begins_T, 0, code_PTF[..., 0]))
    result: np.ndarray = np.take_along_axis(code_PTF, order_PT[..., None], axis=1)
    return result


def _begins_basket(basket: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    begins = np.ones(len(basket), dtype=np.uint8)
    begins[1:] = basket[1:] != basket[:-1]
    begins[offsets[:-1][np.diff(offsets) > 0]] = 1
    return begins


def _quantity_bands(quantity: np.ndarray) -> np.ndarray:
    """Return 1 for a quantity below 2, 2 below 4 and so on; 0 where none is told."""
    told = quantity > 0  # NaN is not
    log = np.log2(np.where(told, quantity, 1).astype(np.float64))
    band: np.ndarray = np.where(told, np.clip(np.floor(log), 0, MAX_LOG_QUANTITY) + 1, 0).astype(np.uint8)
    return band


def _first_of_run(values: np.ndarray) -> np.ndarray:
    """Return the place (n,) at which the run of equal values around each place begins."""
    new = np.concatenate([[True], values[1:] != values[:-1]])
    first: np.ndarray = np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))
    return first
