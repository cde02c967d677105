"""What the user table says of customers, as codes of its columns: age band, membership, postal area and the like.

The table stands beside the purchases and has no dates; like the item table it is taken to be known before any cut, for
customers who have not bought yet as well. No purchase has a part in a code.
"""

from typing import Any

import narwhals as nw
import numpy as np

from recsys import schema

#: A number with more distinct values than this is told by its band, as many customers in each.
MAX_VALUES = 24
N_BANDS = 10
#: A value that fewer customers have is too rare to be learned: nothing is said by it.
MIN_CUSTOMERS = 20


def user_codes(users: nw.DataFrame[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (U, C) int32 of the columns of a user table, and of whom anything at all is told, (U,) bool.

    A code counts over all columns from 1. A missing value has a code of its own; 0 says nothing: the value is rare. A
    column in which no two customers differ, or no value is common, has no codes.

    Shapes: U customers, C columns, possibly none.
    """
    columns, first = [], 1
    told = np.zeros(len(users), dtype=bool)
    for name in users.columns:
        if name == schema.USER_ID or users[name].dtype.is_nested():
            continue
        distinct, place = _values(users[name])
        count = np.bincount(place, minlength=len(distinct))
        common = (count >= MIN_CUSTOMERS) | (distinct == "")
        if not (common & (distinct != "")).any() or len(distinct) < 2:
            continue
        numbered = np.where(common, np.cumsum(common) + first - 1, 0)
        columns.append(numbered[place].astype(np.int32))
        told |= (common & (distinct != ""))[place]
        first += int(common.sum())
    codes = np.stack(columns, axis=1) if columns else np.zeros((len(users), 0), dtype=np.int32)
    return codes, told


def _values(column: nw.Series[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of a column as strings, sorted, "" for missing, and the place (U,) of each customer's.

    Of numbers with many values these are bands.
    """
    # Not sorted customer by customer: a postal code of 64 letters for each of a million is a third of a gigabyte.
    if column.dtype.is_float():
        column = column.fill_nan(None)
    encoded = column.cast(nw.String).fill_null("").to_arrow().dictionary_encode()
    distinct, number = np.unique(np.array(encoded.dictionary.to_pylist(), dtype=str), return_inverse=True)
    place = number[np.asarray(encoded.indices)]
    told = distinct != ""
    if told.sum() <= MAX_VALUES:
        return distinct, place
    try:  # tables often hold numbers as text
        numbers = np.where(told, distinct, "nan").astype(np.float64)
    except ValueError:
        return distinct, place
    of_customers = numbers[place]
    edges = np.unique(np.nanquantile(of_customers, np.arange(1, N_BANDS) / N_BANDS))
    bands = np.where(told, np.searchsorted(edges, numbers, side="right").astype(str), "")
    labels, band = np.unique(bands, return_inverse=True)
    return labels, band[place]
