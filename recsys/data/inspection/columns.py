"""Columns of a table: what each holds, with examples."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from recsys.data.reading.times import EXCEL_DAYS, FIRST_TIME, SINCE_1970, TimeForms, find_forms, time_of, tomorrow
from recsys.data.reading.values import decimal_of, is_missing, number_of
from recsys.settings import read_yaml

#: Words of columns' names, and what they speak for.
KNOWN: Final = read_yaml(Path(__file__).parent / "words.yaml")
_TIME_WORDS: Final = {*KNOWN["roles"]["time"], *KNOWN["other_times"]}
_ID_WORDS: Final = {word for role in ("user_id", "item_id") for word in KNOWN["roles"][role]}
Content = Literal["time", "clock", "number", "text", "empty"]

#: Share of the values that must be read as times, or numbers, for a column to be one of these.
_MOST: Final = 0.98
_SAMPLED: Final = 2_000
_MOST_VALUES: Final = 50_000
#: Three numbers between dots are a day: 02.10.23. Workbooks put a day of theirs before a clock.
_CLOCK: Final = r"^(1(899-12-3.|904-01-01).)?[0-9]{1,2}([:h][0-9]{2}(:[0-9]{2})?|\.[0-9]{2})( ?[AaPp]\.? ?[Mm]\.?)?$"


@dataclass(frozen=True)
class Column:
    """What a column of a table holds."""

    name: str
    content: Content
    examples: tuple[str, ...]
    share_missing: float
    n_distinct: int
    n_rows: int
    decimal: str = "."  # of numbers; "?" where it is open
    lowest: float = 0.0  # of numbers
    highest: float = 0.0
    share_whole: float = 0.0  # of numbers: whole ones
    share_not_positive: float = 0.0
    times: TimeForms | None = None
    share_times: float = 0.0

    @property
    def rows_a_value(self) -> float:
        """Mean number of rows of one value."""
        return self.n_rows * (1 - self.share_missing) / max(self.n_distinct, 1)

    @property
    def is_whole(self) -> bool:
        """Whether it may be a code or a count: text, or whole numbers alone."""
        return self.content == "text" or (self.content == "number" and self.share_whole > _MOST)


def describe(frame: pl.DataFrame, name: str) -> Column:
    """Return what the column ``name`` of ``frame`` holds. All is found out on its distinct values."""
    values = frame[name]
    texts = values.cast(pl.String).str.strip_chars().alias("text").to_frame()
    # In the order of the rows: that tells which of two numbers is the day.
    distinct = texts.group_by("text", maintain_order=True).agg(pl.len().alias("n")).filter(~is_missing(pl.col("text")))
    n_present = int(distinct["n"].sum())
    known: dict[str, Any] = {
        "name": name,
        "examples": tuple(distinct["text"].head(3).to_list()),
        "share_missing": 1 - n_present / max(len(values), 1),
        "n_distinct": len(distinct),
        "n_rows": len(values),
    }
    if not n_present:
        return Column(content="empty", **known)
    if values.dtype.is_temporal():
        return Column(content="time", times=TimeForms(()), share_times=1.0, **known)
    stats = _numbers(values.dtype, distinct)
    if stats is not None:
        forms, share = _times(distinct)
        # Any number may look like a time, that of a bar code or a telephone too.
        if (forms.formats == (EXCEL_DAYS,) or words_of(name) & _ID_WORDS) and not words_of(name) & _TIME_WORDS:
            forms, share = TimeForms(()), 0.0
        return Column(content="time" if share > _MOST else "number", times=forms, share_times=share, **known, **stats)
    if distinct["text"].head(_SAMPLED).str.contains(_CLOCK).mean() > _MOST:  # type: ignore[operator]
        return Column(content="clock", **known)
    forms, share = _times(distinct)
    if share > 0.5:  # most are times; the others are said to be none
        return Column(content="time", times=forms, share_times=share, **known)
    return Column(content="text", **known)


def _numbers(dtype: pl.DataType, distinct: pl.DataFrame) -> dict[str, Any] | None:
    """Return what is known of the numbers of a column that holds hardly anything else."""
    decimal: str = "."
    if not dtype.is_numeric():
        first = distinct["text"].head(_SAMPLED)
        # A code: no number has zeros before it.
        if first.str.contains(r"^0[0-9]+$").any() or first.str.contains("[0-9]").mean() < 0.5:  # type: ignore[operator]
            return None
        decimal = decimal_of(distinct["text"].head(_MOST_VALUES).to_list())
    read = distinct.with_columns(number_of(pl.col("text"), "," if decimal == "," else ".").alias("number"))
    n_read, n = int(read.filter(pl.col("number").is_not_null())["n"].sum()), int(read["n"].sum())
    if n_read <= _MOST * n:
        return None
    read = read.drop_nulls("number")
    number, weight = pl.col("number"), pl.col("n") / n_read
    figures = read.select(
        share_whole=((number == number.floor()) * weight).sum().round(9),
        share_not_positive=((number <= 0) * weight).sum(),
        lowest=number.min(),
        highest=number.max(),
    )
    return {"decimal": decimal, **figures.row(0, named=True)}


def _times(distinct: pl.DataFrame) -> tuple[TimeForms, float]:
    """Return how the times of a column are written, and which share of its values they are."""
    first = find_forms(distinct["text"].head(_SAMPLED))
    if not first.formats and not first.question:
        return first, 0.0
    forms = find_forms(distinct["text"])
    if forms.question:
        return forms, float(distinct["text"].str.contains("[0-9]").mean() or 0)  # type: ignore[arg-type]
    time = time_of(pl.col("text"), forms.formats)  # of long numbers any may be one
    is_read = time.is_between(FIRST_TIME, tomorrow()) if forms.formats[0] in SINCE_1970 else time.is_not_null()
    return forms, float(distinct.select((is_read * pl.col("n")).sum()).item()) / float(distinct["n"].sum())


def words_of(name: str) -> set[str]:
    """Return the words of a column's name, in lower case.

    >>> [sorted(words_of(name)) for name in ("InvoiceDate", "customer_unique_id", "Quantité", "STÜCK")]
    [['date', 'invoice'], ['customer', 'id', 'unique'], ['quantité'], ['stück']]
    """
    name = name.lower() if name.isupper() else name
    small = r"[^\W\d_A-Z]"
    return {word.lower() for word in re.findall(rf"[A-Z]?{small}+|[A-Z]+(?!{small})|[0-9]+", name)}
