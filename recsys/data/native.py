"""Data frames of other libraries: read as Arrow tables, ids as text, and answers given back as they came.

Whatever Narwhals knows is understood: pandas, Polars (eager or lazy), PyArrow, DuckDB relations.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args
from uuid import UUID

import narwhals as nw
import numpy as np
import pyarrow as pa

from recsys import schema
from recsys.data.expressions import clean_text
from recsys.errors import DataError

Backend = Literal["pandas", "polars", "pyarrow"]
Which = Literal["user", "item"]

#: Column names of events where nobody named others.
SCHEMA_NAMES: Final = {role: role for role in (*schema.EVENT_REQUIRED, *schema.EVENT_OPTIONAL)}
_LARGEST_WHOLE = 2**53
#: Names that pandas has for types.
_NARWHALS_NAMES: Final = {
    **{f"{sign}int{bits}": f"{sign.upper()}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"Float{bits}" for bits in (32, 64)},
}
_FRAMES = "expected a data frame of pandas, Polars, PyArrow or DuckDB"


@dataclass(frozen=True)
class FrameStyle:
    """How a frame of purchases came, so that answers can be given back alike.

    DuckDB relations are answered with Arrow tables: a relation belongs to a connection, which is not ours to use.
    Lazy Polars frames are answered with eager ones. A log opened from a folder answers with Arrow tables and text.
    """

    backend: Backend = "pyarrow"
    user_dtype: Any = None  # of that library; None stands for text
    item_dtype: Any = None
    columns: Mapping[str, str] = field(default_factory=lambda: SCHEMA_NAMES)  # name in the schema → name in the frame

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        dtypes = {"user_dtype": self.user_dtype, "item_dtype": self.item_dtype}
        named = {name: None if dtype is None else str(dtype) for name, dtype in dtypes.items()}
        return {"backend": self.backend, "columns": dict(self.columns), **named}

    @classmethod
    def from_json(cls, about: Any) -> "FrameStyle":  # noqa: ANN401 - whatever a file holds
        """Return the style that was written; what of it means nothing here is left out, and ids stay text."""
        if not isinstance(about, dict) or about.get("backend") not in get_args(Backend):
            return cls()
        columns = about.get("columns")
        backend: Backend = about["backend"]
        return cls(
            backend=backend,
            user_dtype=_dtype_named(backend, about.get("user_dtype")),
            item_dtype=_dtype_named(backend, about.get("item_dtype")),
            columns=columns if isinstance(columns, dict) else SCHEMA_NAMES,
        )

    def ids_to_native(self, ids: pa.Array | Iterable[str | None], which: Which) -> Any:  # noqa: ANN401 - a series
        """Return external ids (n,), as text, as a series of the library and the dtype in which they came.

        They stay text where the dtype cannot hold them: a missing id, or ``A7`` among whole numbers.
        """
        texts = pa.chunked_array([pa.array(ids, pa.string()) if not isinstance(ids, pa.Array) else ids])
        series = nw.from_arrow(pa.table({"id": texts.cast(pa.string())}), backend=self.backend)["id"]
        dtype = self.user_dtype if which == "user" else self.item_dtype
        if dtype is None:
            return series.to_native()
        for typed in _casts(series, dtype):
            try:
                candidate = typed()
                if id_texts(candidate).equals(texts.combine_chunks().cast(pa.string())):
                    return candidate
            except Exception:  # noqa: S112 - each library has errors of its own; text is the answer then
                continue
        return series.to_native()

    def to_native(self, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a frame of some library
        """Return a frame of the library in which the purchases came.

        Args:
            columns: by name, values (n,) each: NumPy or Arrow arrays, or series of that library.
        """
        return nw.from_dict(
            {name: self._series(column) for name, column in columns.items()}, backend=self.backend
        ).to_native()

    def _series(self, column: Any) -> Any:  # noqa: ANN401 - an array or a series
        if isinstance(column, pa.Array | pa.ChunkedArray) and self.backend != "pyarrow":
            return nw.from_arrow(pa.table({"column": column}), backend=self.backend)["column"].to_native()
        return column


def _dtype_named(backend: Backend, name: object) -> Any:  # noqa: ANN401 - of some library
    """Return the dtype that ``str`` calls ``name``; None where it is text, or no plain type."""
    if not isinstance(name, str):
        return None
    try:
        if backend == "pyarrow":
            return pa.type_for_alias(name)
        # A frame of one column of that type, made by the library itself.
        plain = nw.new_series("id", [], getattr(nw, _NARWHALS_NAMES.get(name, name)), backend=backend)
        return plain.to_native().dtype
    except Exception:  # noqa: BLE001 - each library has errors of its own; text is the answer then
        return None


def _casts(series: nw.Series[Any], dtype: Any) -> Iterable[Callable[[], Any]]:  # noqa: ANN401 - of some library
    """Yield ways to give text ``dtype``, best first; each may fail."""
    native = series.to_native()
    if not hasattr(native, "astype"):
        yield lambda: native.cast(dtype)
        return
    categories = getattr(dtype, "categories", None)
    if categories is not None:  # of numbers, perhaps: text is none of these
        yield lambda: native.astype(categories.dtype).astype(dtype)
        yield lambda: native.astype("int64").astype(categories.dtype).astype(dtype)
        yield lambda: native.astype(categories.dtype)
    yield lambda: native.astype(dtype)
    yield lambda: native.astype("int64").astype(dtype)


def id_texts(values: Any, what: str = "the ids") -> pa.Array:  # noqa: ANN401 - a series, array or list
    """Return ids (n,) as text, as purchases hold them, whether they are numbers or text.

    >>> id_texts([17850, 17850.0, "17850", "017850", np.int32(3), None]).to_pylist()
    ['17850', '17850', '17850', '017850', '3', None]

    Args:
        values: a series of any library, an array, or a list that may mix numbers and text.
        what: what a message calls them.

    Raises:
        DataError: they are something else, such as lists.
    """
    array = _ids_as_arrow(values, what)
    frame = nw.from_native(pa.table({"id": array}), eager_only=True)
    text = frame.select(clean_text("id", frame.schema["id"]).alias("id"))["id"].to_arrow().cast(pa.string())
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _ids_as_arrow(values: Any, what: str) -> pa.Array:  # noqa: ANN401 - a series, array or list
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise DataError(f"{what}: found {_shown(values)}, expected a list or a series of ids; put it into a list")
    series = nw.from_native(values, series_only=True, pass_through=True)
    if not isinstance(series, nw.Series):
        series = nw.new_series(
            "id", _one_type(list(values) if not hasattr(values, "dtype") else values, what), backend="pyarrow"
        )
    return _column_as_arrow(series, "id", what)


def _one_type(values: Any, what: str) -> pa.Array:  # noqa: ANN401 - an array or a list
    """Return ``values`` as an array of one type: their own, or text where they are of several."""
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([_id_text(value, what) for value in values], pa.string())
    if isinstance(array, pa.ExtensionArray):
        return pa.array([_id_text(value, what) for value in values], pa.string())
    return array


def _id_text(value: Any, what: str) -> str | None:  # noqa: ANN401 - whatever a column of objects holds
    if _is_missing(value):
        return None
    if isinstance(value, str | UUID | Decimal) or (isinstance(value, Integral) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) <= _LARGEST_WHOLE else str(number)
    raise DataError(f"{what}: found {_shown(value)}, expected text or whole numbers; name the column of ids")


def _is_missing(value: Any) -> bool:  # noqa: ANN401 - whatever a column of objects holds
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever came
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:39] + '…'}"


@dataclass(frozen=True)
class OpenedFrame:
    """A frame of some library, read into memory column by column."""

    frame: nw.DataFrame[Any]
    what: str  # what messages call it

    @property
    def backend(self) -> Backend:
        """The library in which answers are given."""
        implementation = self.frame.implementation
        if implementation.is_polars():
            return "polars"
        return "pandas" if implementation.is_pandas_like() else "pyarrow"

    def dtype(self, column: str) -> Any:  # noqa: ANN401 - of some library
        """Return the library's own dtype of a column."""
        native = self.frame[column].to_native()
        return native.type if isinstance(native, pa.ChunkedArray) else native.dtype

    def ids(self, column: str) -> pa.Array:
        """Return a column of ids, of channels or of baskets, as numbers or text.

        Raises:
            DataError: it holds something else, such as lists.
        """
        return self._column(column, "id")

    def times(self, column: str) -> pa.Array:
        """Return a column of days or times: text, Date or Datetime.

        Raises:
            DataError: it holds something else, or Python's times of a zone.
        """
        return self._column(column, "time")

    def numbers(self, column: str) -> pa.Array:
        """Return a column of numbers, or of text that says numbers.

        Raises:
            DataError: it holds something else, such as dates.
        """
        return self._column(column, "number")

    def attribute(self, column: str) -> pa.Array:
        """Return a column of text, numbers or dates.

        Raises:
            DataError: it holds something else, such as lists.
        """
        return self._column(column, "attribute")

    def _column(self, column: str, use: str) -> pa.Array:
        what = f"column {column} of {self.what}"
        try:
            return _column_as_arrow(self.frame[column], use, what)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{what} cannot be read ({_reason(error)}); check its values") from error


def open_frame(
    frame: Any,  # noqa: ANN401 - of any library
    what: str,
    wanted: Iterable[str] | None = None,
) -> OpenedFrame:
    """Return ``frame`` in memory, its columns ``wanted`` alone where they are named.

    Args:
        frame: of any library that Narwhals knows, lazy or not.
        what: what messages call it.
        wanted: names of columns.

    Raises:
        DataError: it is no data frame, lacks a column, or cannot be read.
    """
    opened, names = _narwhals_frame(frame, what)
    columns = list(names if wanted is None else wanted)
    unnamed = next((column for column in columns if not isinstance(column, str)), None)
    if unnamed is not None:
        raise DataError(f"{what} has a column called {_shown(unnamed)}, expected names that are text; rename it")
    columns = list(dict.fromkeys(columns))
    for column in columns:
        require_column(column, names, what)
    try:
        chosen = opened.select(columns)
        if isinstance(chosen, nw.LazyFrame):
            chosen = chosen.collect("polars" if chosen.implementation.is_polars() else "pyarrow")
    except Exception as error:
        raise DataError(f"{what} cannot be read ({_reason(error)}); {_FRAMES}, and check how it was made") from error
    return OpenedFrame(chosen, what)


def column_names(frame: Any, what: str) -> list[str]:  # noqa: ANN401 - of any library
    """Return the names of the columns of ``frame``.

    Raises:
        DataError: it is no data frame.
    """
    return _narwhals_frame(frame, what)[1]


def _narwhals_frame(frame: Any, what: str) -> tuple[Any, list[str]]:  # noqa: ANN401 - of any library
    try:
        opened: Any = nw.from_native(frame)
        return opened, opened.collect_schema().names()
    except TypeError as error:
        raise DataError(f"{what} is {_shown(frame)}; {_FRAMES}") from error
    except Exception as error:
        raise DataError(f"{what} cannot be read ({_reason(error)}); {_FRAMES} whose columns have names") from error


def require_column(column: Any, names: list[Any], what: str) -> None:  # noqa: ANN401 - what somebody named
    """Refuse a name that is not among the ``names`` of columns.

    Raises:
        DataError: it is not; the nearest is named.
    """
    if column in names:
        return
    lower = {str(name).lower(): str(name) for name in names}
    close = difflib.get_close_matches(str(column).lower(), lower, n=1, cutoff=0.5)
    hint = f"did you mean {lower[close[0]]}?" if close else "name one of these"
    raise DataError(f"{what} has no column {column}; found {', '.join(map(str, names)) or 'none'}; {hint}")


def _column_as_arrow(series: nw.Series[Any], use: str, what: str) -> pa.Array:
    array = _from_objects(series.to_list(), use, what) if series.dtype == nw.Object else series.to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array.type, pa.DictionaryType):
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if isinstance(array, pa.ExtensionArray):
        array = pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if not _FITS[use](array.type):
        raise DataError(f"{what} holds {series.dtype}, expected {_EXPECTED[use]}; name another column, or convert it")
    return array


def _from_objects(values: list[Any], use: str, what: str) -> pa.Array:
    """Return Python objects as Arrow: text, where they are of several types."""
    if use == "id":
        return _one_type(values, what)
    if use == "time":
        return _times_from_objects(values, what)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([None if _is_missing(value) else str(value) for value in values], pa.string())


def _times_from_objects(values: list[Any], what: str) -> pa.Array:
    zones = {str(value.tzinfo) for value in values if getattr(value, "tzinfo", None) is not None}
    if zones:
        raise DataError(
            f"{what} holds times of the zone {' and '.join(sorted(zones))}, expected the shop's local time without "
            "a zone; convert it"
        )
    types = {type(value) for value in values if not _is_missing(value)}
    if types and all(issubclass(each, date | str) for each in types):
        # Days beside times would become one or the other: as text each stays what it is.
        return pa.array([_time_text(value) for value in values], pa.string())
    return pa.array(values, from_pandas=True)


def _time_text(value: Any) -> str | None:  # noqa: ANN401 - text, a date or a datetime
    if _is_missing(value):
        return None
    return value if isinstance(value, str) else str(datetime.isoformat(value) if isinstance(value, datetime) else value)


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype))


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype))


_FITS: Final[dict[str, Callable[[pa.DataType], bool]]] = {
    "id": lambda dtype: _is_text(dtype) or _is_number(dtype),
    "number": lambda dtype: _is_text(dtype) or _is_number(dtype),
    "time": lambda dtype: _is_text(dtype) or pa.types.is_date(dtype) or pa.types.is_timestamp(dtype),
    "attribute": lambda dtype: (
        _is_text(dtype)
        or _is_number(dtype)
        or pa.types.is_boolean(dtype)
        or pa.types.is_date(dtype)
        or pa.types.is_timestamp(dtype)
    ),
}
_EXPECTED: Final = {
    "id": "text or whole numbers",
    "number": "numbers",
    "time": "dates such as 2020-09-22",
    "attribute": "text, numbers or dates",
}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
