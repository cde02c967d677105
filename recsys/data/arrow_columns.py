"""Columns of other libraries as Arrow arrays of one plain type; Python objects of several types become text."""

import math
from datetime import date
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Final, Literal
from uuid import UUID

import narwhals as nw
import numpy as np
import pyarrow as pa
from pyarrow import types

from recsys.errors import DataError

Use = Literal["id", "time", "number", "attribute"]

_LARGEST_WHOLE = 2**53
_TEXT = (types.is_string, types.is_large_string, types.is_string_view)
_NUMBER = (types.is_integer, types.is_floating, types.is_decimal)
_TIME = (types.is_date, types.is_timestamp)
_ALLOWED: Final = {
    "id": ("text or whole numbers", (*_TEXT, *_NUMBER)),
    "number": ("numbers", (*_TEXT, *_NUMBER)),
    "time": ("dates such as 2020-09-22", (*_TEXT, *_TIME)),
    "attribute": ("text, numbers or dates", (*_TEXT, *_NUMBER, *_TIME, types.is_boolean)),
}


def column_as_arrow(series: nw.Series[Any], use: Use, what: str) -> pa.Array:
    """Return a column (n,) of any library as an array of text, numbers or times; messages call it ``what``.

    Raises:
        DataError: it holds what its use does not allow, such as lists, or times of a zone as Python objects.
    """
    try:
        array = _from_objects(series.to_list(), use, what) if series.dtype == nw.Object else series.to_arrow()
        if isinstance(array, pa.ChunkedArray):
            # Chunks of text may be more than 2 GiB together, which Arrow's string cannot hold.
            array = (array.cast(pa.large_string()) if types.is_string(array.type) else array).combine_chunks()
        if isinstance(array.type, pa.DictionaryType):
            array = array.dictionary_decode()
        if types.is_float16(array.type):
            array = array.cast(pa.float32())
        if isinstance(array, pa.ExtensionArray):
            array = _texts(array.to_pylist())
        if types.is_null(array.type):
            array = array.cast(pa.string())
    except DataError:
        raise
    except Exception as error:  # each library has errors of its own
        raise DataError(f"{what} cannot be read ({reason(error)}); check its values") from error
    expected, allowed = _ALLOWED[use]
    if not any(fits(array.type) for fits in allowed):
        raise DataError(f"{what} holds {series.dtype}, expected {expected}; name another column, or convert it")
    return array


def _from_objects(values: list[Any], use: Use, what: str) -> pa.Array:
    """Return Python objects as Arrow: text, where they are of several types."""
    if use == "id":
        return array_of_ids(values, what)
    if use == "time":
        zones = {str(value.tzinfo) for value in values if getattr(value, "tzinfo", None) is not None}
        if zones:
            raise DataError(
                f"{what} holds times of the zone {' and '.join(sorted(zones))}, expected the shop's local time without "
                "a zone; convert it"
            )
        present = [value for value in values if not _is_missing(value)]
        # Days beside times would become one or the other: as text each stays what it is.
        as_text = bool(present) and all(isinstance(value, date | str) for value in present)
        return _texts(values) if as_text else pa.array(values, from_pandas=True)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _texts(values)


def _texts(values: list[Any]) -> pa.Array:
    return pa.array([None if _is_missing(value) else str(value) for value in values], pa.string())


def array_of_ids(values: Any, what: str) -> pa.Array:  # noqa: ANN401 - an array or a list
    """Return ``values`` as an array of one type: their own, or text where they are of several."""
    try:
        array = pa.array(values, from_pandas=True)
        if not isinstance(array, pa.ExtensionArray):
            return array
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    return pa.array([_id_text(value, what) for value in values], pa.string())


def _id_text(value: Any, what: str) -> str | None:  # noqa: ANN401 - whatever a column of objects holds
    if _is_missing(value):
        return None
    if isinstance(value, str | UUID | Decimal) or (isinstance(value, Integral) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) <= _LARGEST_WHOLE else str(number)
    raise DataError(f"{what}: found {shown(value)}, expected text or whole numbers; name the column of ids")


def _is_missing(value: Any) -> bool:  # noqa: ANN401 - whatever a column of objects holds
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")


def reason(error: Exception) -> str:
    """Return what an error says, as one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def shown(value: Any) -> str:  # noqa: ANN401 - whatever came
    """Return the type of a value and its beginning, as one short line."""
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:39] + '…'}"
