"""Data frames of other libraries: their columns as Arrow, ids as text, and answers given back as they came."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args
from uuid import UUID

import narwhals as nw
import numpy as np
import pyarrow as pa
from pyarrow import types

from recsys import schema
from recsys.data.reading.files import one_line
from recsys.data.reading.values import LARGEST_WHOLE, clean_ids
from recsys.errors import DataError

AnyFrame = Any  #: A data frame of any library that Narwhals knows: pandas, Polars (also lazy), PyArrow, DuckDB, …
Backend = Literal["pandas", "polars", "pyarrow"]
Use = Literal["id", "time", "number", "attribute"]
Which = Literal["user", "item"]

_TEXT = (types.is_string, types.is_large_string, types.is_string_view)
_NUMBER = (types.is_integer, types.is_floating, types.is_decimal)
_TIME = (types.is_date, types.is_timestamp)
_ALLOWED: Final = {
    "id": ("text or whole numbers", (*_TEXT, *_NUMBER)),
    "number": ("numbers", (*_TEXT, *_NUMBER)),
    "time": ("dates such as 2020-09-22", (*_TEXT, *_NUMBER, *_TIME)),
    "attribute": ("text, numbers or dates", (*_TEXT, *_NUMBER, *_TIME, types.is_boolean)),
}

#: Column names of events where nobody named others.
SCHEMA_NAMES: Final = {role: role for role in (*schema.EVENT_REQUIRED, *schema.EVENT_OPTIONAL)}


@dataclass(frozen=True)
class FrameStyle:
    """How a frame of purchases came, so that answers can be given back alike.

    DuckDB relations are answered with Arrow tables: a relation belongs to a connection, which is not ours to use.
    Lazy Polars frames are answered with eager ones. A log opened from a folder answers with Arrow tables and text.
    """

    backend: Backend = "pyarrow"
    user_dtype: Any = None  # of that library, or its name; None stands for text
    item_dtype: Any = None
    columns: Mapping[str, str] = field(default_factory=lambda: SCHEMA_NAMES)  # name in the schema → name in the frame

    @classmethod
    def of(cls, frame: nw.DataFrame[Any], columns: Mapping[str, str]) -> "FrameStyle":
        """Return how ``frame`` came, whose ``columns`` are named by the schema's names."""
        pandas_or_arrow: Backend = "pandas" if frame.implementation.is_pandas_like() else "pyarrow"
        natives = (frame[columns[role]].to_native() for role in (schema.USER_ID, schema.ITEM_ID))
        user, item = (each.type if isinstance(each, pa.ChunkedArray) else each.dtype for each in natives)
        return cls("polars" if frame.implementation.is_polars() else pandas_or_arrow, user, item, dict(columns))

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        user, item = (None if dtype is None else str(dtype) for dtype in (self.user_dtype, self.item_dtype))
        return {"backend": self.backend, "columns": dict(self.columns), "user_dtype": user, "item_dtype": item}

    @classmethod
    def from_json(cls, about: Any) -> "FrameStyle":  # noqa: ANN401 - whatever a file holds
        """Return the style that was written; what of it means nothing here is left out, and ids stay text."""
        if not isinstance(about, dict) or about.get("backend") not in get_args(Backend):
            return cls()
        columns = about.get("columns")
        known = columns if isinstance(columns, dict) else SCHEMA_NAMES
        return cls(about["backend"], about.get("user_dtype"), about.get("item_dtype"), known)

    def ids_to_native(self, ids: pa.Array | Iterable[str | None], which: Which) -> Any:  # noqa: ANN401
        """Return external ids (n,), given as text, as a series of the library and the dtype in which they came.

        They stay text where the dtype cannot hold them: a missing id, or ``A7`` among whole numbers.
        """
        texts = (ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())).cast(pa.string())
        series = nw.from_arrow(pa.table({"id": texts}), backend=self.backend)["id"]
        dtype = self.user_dtype if which == "user" else self.item_dtype
        for typed in () if dtype is None else _casts(series, dtype):
            try:
                candidate = typed()
                if id_texts(candidate).equals(texts):
                    return candidate
            except Exception:  # noqa: S112 - each library has errors of its own; text is the answer then
                continue
        return series.to_native()

    def to_native(self, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a frame of some library
        """Return a frame of the library in which the purchases came, of arrays or its own series (n,) by name."""
        series = dict(columns)
        for name, column in columns.items():
            if isinstance(column, pa.Array | pa.ChunkedArray) and self.backend != "pyarrow":
                series[name] = nw.from_arrow(pa.table({name: column}), backend=self.backend)[name].to_native()
        return nw.from_dict(series, backend=self.backend).to_native()


def _casts(series: nw.Series[Any], dtype: Any) -> Iterable[Callable[[], Any]]:  # noqa: ANN401 - of some library
    """Yield ways to give text ``dtype``, best first; each may fail."""
    native = series.to_native()
    if not hasattr(native, "astype"):
        named = isinstance(dtype, str) and series.implementation.is_polars()
        yield lambda: series.cast(getattr(nw, dtype)).to_native() if named else native.cast(dtype)
        return
    categories = getattr(dtype, "categories", None)
    if categories is not None:  # of numbers, perhaps: text is none of these
        yield lambda: native.astype(categories.dtype).astype(dtype)
        yield lambda: native.astype("int64").astype(categories.dtype).astype(dtype)
        yield lambda: native.astype(categories.dtype)
    yield lambda: native.astype(dtype)
    yield lambda: native.astype("int64").astype(dtype)


def id_texts(values: Any, what: str = "the ids") -> pa.Array:  # noqa: ANN401 - a series, array or list
    """Return ids (n,) as text, as purchases hold them; DataError where they are something else, such as lists.

    >>> id_texts([17850, 17850.0, "17850", "017850", 3, None]).to_pylist()
    ['17850', '17850', '17850', '017850', '3', None]
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise DataError(f"{what}: found {shown(values)}, expected a list or a series of ids; put it into a list")
    series = nw.from_native(values, series_only=True, pass_through=True)
    if not isinstance(series, nw.Series):
        listed = values if hasattr(values, "dtype") else list(values)
        series = nw.new_series("id", _from_objects(listed, "id", what), backend="pyarrow")
    return clean_ids(column_as_arrow(series, "id", what))


def column_as_arrow(series: nw.Series[Any], use: Use, what: str) -> pa.Array:
    """Return a column (n,) of any library as an array of text, numbers or times; messages call it ``what``.

    DataError where it holds what its use does not allow, such as lists.
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
            texts = [None if _is_missing(value) else str(value) for value in series.to_list()]
            array = pa.array(texts, pa.string())
        if types.is_null(array.type):
            array = array.cast(pa.string())
    except DataError:
        raise
    except Exception as error:  # each library has errors of its own
        raise DataError(f"{what} cannot be read ({one_line(error)}); check its values") from error
    expected, allowed = _ALLOWED[use]
    if not any(fits(array.type) for fits in allowed):
        raise DataError(f"{what} holds {series.dtype}, expected {expected}; name another column, or convert it")
    return array


def _from_objects(values: Any, use: Use, what: str) -> pa.Array:  # noqa: ANN401 - an array or a list
    """Return Python objects as Arrow: text, where they are of several types."""
    as_text = False
    if use == "time":
        # Days beside times would become one or the other: as text each stays what it is.
        present = [value for value in values if not _is_missing(value)]
        as_text = bool(present) and all(isinstance(value, date | str) for value in present)
    if not as_text:
        try:
            array = pa.array(values, from_pandas=True)
            if use != "id" or not isinstance(array, pa.ExtensionArray):
                return array
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            if use == "time":
                raise
    texts = [None if _is_missing(value) else _id_text(value, what) if use == "id" else str(value) for value in values]
    return pa.array(texts, pa.string())


def _id_text(value: Any, what: str) -> str:  # noqa: ANN401 - whatever a column of objects holds
    if isinstance(value, str | UUID | Decimal) or (isinstance(value, Integral) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) <= LARGEST_WHOLE else str(number)
    raise DataError(f"{what}: found {shown(value)}, expected text or whole numbers; name the column of ids")


def _is_missing(value: Any) -> bool:  # noqa: ANN401 - whatever a column of objects holds
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")


def shown(value: Any) -> str:  # noqa: ANN401 - whatever came
    """Return the type of a value and its beginning, as one short line."""
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:39] + '…'}"
