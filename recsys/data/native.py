"""Data frames of other libraries: read as Arrow tables, ids as text, and answers given back as they came.

Whatever Narwhals knows is understood: pandas, Polars (eager or lazy), PyArrow, DuckDB relations.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import narwhals as nw
import pyarrow as pa

from recsys import schema
from recsys.data.arrow_columns import Use, array_of_ids, column_as_arrow, reason, shown
from recsys.data.expressions import clean_text
from recsys.errors import DataError, nearest

Backend = Literal["pandas", "polars", "pyarrow"]
Which = Literal["user", "item"]

#: Column names of events where nobody named others.
SCHEMA_NAMES: Final = {role: role for role in (*schema.EVENT_REQUIRED, *schema.EVENT_OPTIONAL)}
_FRAMES = "expected a data frame of pandas, Polars, PyArrow or DuckDB"


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

    def ids_to_native(self, ids: pa.Array | Iterable[str | None], which: Which) -> Any:  # noqa: ANN401 - a series
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
    """Return ids (n,) as text, as purchases hold them; ``values`` are a series, an array, or a list that may mix types.

    >>> id_texts([17850, 17850.0, "17850", "017850", 3, None]).to_pylist()
    ['17850', '17850', '17850', '017850', '3', None]

    Raises:
        DataError: they are something else, such as lists.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise DataError(f"{what}: found {shown(values)}, expected a list or a series of ids; put it into a list")
    series = nw.from_native(values, series_only=True, pass_through=True)
    if not isinstance(series, nw.Series):
        listed = values if hasattr(values, "dtype") else list(values)
        series = nw.new_series("id", array_of_ids(listed, what), backend="pyarrow")
    frame = nw.from_native(pa.table({"id": column_as_arrow(series, "id", what)}), eager_only=True)
    text = frame.select(clean_text("id", frame.schema["id"]).alias("id"))["id"].to_arrow().cast(pa.string())
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


@dataclass(frozen=True)
class OpenedFrame:
    """A frame of some library, read into memory column by column."""

    frame: nw.DataFrame[Any]
    what: str  # what messages call it

    def style(self, columns: Mapping[str, str]) -> FrameStyle:
        """Return how this frame of purchases came, of whose ``columns`` the names by the schema's are given."""
        implementation = self.frame.implementation
        pandas_or_arrow: Backend = "pandas" if implementation.is_pandas_like() else "pyarrow"
        natives = (self.frame[columns[role]].to_native() for role in (schema.USER_ID, schema.ITEM_ID))
        user, item = (each.type if isinstance(each, pa.ChunkedArray) else each.dtype for each in natives)
        return FrameStyle("polars" if implementation.is_polars() else pandas_or_arrow, user, item, dict(columns))

    def column(self, column: str, use: Use) -> pa.Array:
        """Return a column as Arrow; DataError where it holds what its ``use`` does not allow, such as lists."""
        what = f"column {column} of {self.what}"
        try:
            return column_as_arrow(self.frame[column], use, what)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{what} cannot be read ({reason(error)}); check its values") from error


def open_frame(frame: Any, what: str, wanted: Iterable[str] | None = None) -> OpenedFrame:  # noqa: ANN401 - any frame
    """Return ``frame``, lazy or not, in memory, its columns ``wanted`` alone where they are named.

    Raises:
        DataError: it is no data frame, lacks a column, or cannot be read.
    """
    opened, names = narwhals_frame(frame, what)
    columns = list(names if wanted is None else wanted)
    for column in columns:
        if not isinstance(column, str):
            raise DataError(f"{what} has a column called {shown(column)}, expected names that are text; rename it")
        require_column(column, names, what)
    try:
        chosen = opened.select(list(dict.fromkeys(columns)))
        if isinstance(chosen, nw.LazyFrame):
            chosen = chosen.collect("polars" if chosen.implementation.is_polars() else "pyarrow")
    except Exception as error:
        raise DataError(f"{what} cannot be read ({reason(error)}); {_FRAMES}, and check how it was made") from error
    return OpenedFrame(chosen, what)


def narwhals_frame(frame: Any, what: str) -> tuple[Any, list[str]]:  # noqa: ANN401 - of any library
    """Return ``frame`` as one of Narwhals and its names of columns; a DataError says that it is no data frame."""
    try:
        opened: Any = nw.from_native(frame)
        return opened, opened.collect_schema().names()
    except TypeError as error:
        raise DataError(f"{what} is {shown(frame)}; {_FRAMES}") from error
    except Exception as error:
        raise DataError(f"{what} cannot be read ({reason(error)}); {_FRAMES} whose columns have names") from error


def require_column(column: Any, names: list[Any], what: str) -> None:  # noqa: ANN401 - what somebody named
    """Raise a DataError that names the nearest of ``names`` where ``column`` is not among them."""
    if column not in names:
        close = nearest(column, names)
        hint = f"did you mean {close}?" if close else "name one of these"
        raise DataError(f"{what} has no column {column}; found {', '.join(map(str, names)) or 'none'}; {hint}")
