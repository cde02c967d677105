"""Narwhals expressions that check and convert what a source wrote, without ever failing on a row.

Strings are checked with a pattern before they are cast: Narwhals has no cast that yields null instead of an error.
"""

import narwhals as nw
from narwhals.dtypes import DType

_LEAP_YEAR = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DATE = (
    "([1-9][0-9]{3}-("
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|"
    "(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    f"02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?"
_TIME_PATTERN = f"^{_DATE}([T ]{_CLOCK})?$"
_NUMBER_PATTERN = r"^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,2})?$"


def valid_time(column: str) -> nw.Expr:
    """Return the text of a string ``column`` where it is a date that exists, with or without a time; null elsewhere."""
    text = nw.col(column).str.strip_chars()
    return nw.when(text.str.contains(_TIME_PATTERN)).then(text)


def day_of(column: str, dtype: DType) -> nw.Expr:
    """Return the Date of ``column``, which is Date, Datetime, or text as in :func:`valid_time`; null stays null."""
    if dtype == nw.String:
        return valid_time(column).str.slice(0, 10).str.to_date(format="%Y-%m-%d")
    return nw.col(column).cast(nw.Date)


def millisecond_of_day(column: str, dtype: DType) -> nw.Expr:
    """Return the milliseconds since midnight as Int32 of ``column``, as in :func:`day_of`; 0 without a time of day."""
    parts: list[nw.Expr]
    if dtype == nw.String:
        time = valid_time(column)
        length = time.str.len_chars()
        parts = [nw.when(length >= start + 2).then(time.str.slice(start, 2)) for start in (11, 14, 17)]
        digits = nw.concat_str(time.str.slice(20, 3), nw.lit("000")).str.slice(0, 3)
        parts.append(nw.when(length > 20).then(digits))
    elif dtype == nw.Datetime:
        time = nw.col(column)
        parts = [time.dt.hour(), time.dt.minute(), time.dt.second(), time.dt.millisecond()]
    else:
        return nw.lit(0, nw.Int32)
    hour, minute, second, fraction = (part.cast(nw.Int32).fill_null(nw.lit(0, nw.Int32)) for part in parts)
    return (((hour * 60 + minute) * 60 + second) * 1000 + fraction).cast(nw.Int32)


def number(column: str, dtype: DType) -> nw.Expr:
    """Return ``column`` as Float64, NaN where it is missing, not a number or not finite."""
    text = nw.col(column).str.strip_chars()
    checked = nw.when(text.str.contains(_NUMBER_PATTERN)).then(text)
    value: nw.Expr = checked if dtype == nw.String else nw.col(column)
    value = value.cast(nw.Float64)
    return nw.when(value.is_finite()).then(value).otherwise(nw.lit(float("nan"))).cast(nw.Float64)
