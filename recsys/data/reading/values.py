"""Numbers and missing values as people and programs write them, in columns of text."""

import re
from collections.abc import Iterable
from typing import Final, Literal

import polars as pl
import pyarrow as pa

Content = Literal["number", "date", "text"]

#: Whole numbers written as decimals, as programs do that know no missing whole numbers.
WHOLE: Final = r"^-?[0-9]+[.]0+$"
LARGEST_WHOLE: Final = 2.0**53  # beyond it a decimal number does not say which whole number was meant
#: What programs write where there is nothing, in lower case.
NULL_WORDS: Final = (
    *("na", "n/a", "#n/a", "#na", "<na>", "nan", "nat", "nil", "none"),
    *("null", "#null!", "(null)", "\\n", "-", "--", "#ref!", "#value!", "#name?", "#num!", "#div/0!"),
)
#: Currency signs, codes of three letters, and short words, before or behind an amount.
_CURRENCY: Final = r"^X\s*|\s*X$".replace("X", r"([A-Z]{0,2}\p{Sc}|[A-Z]{3}|kr\.?|Rs\.?|zł|Kč|Ft|lei|руб\.?|[Ee]uros?)")
_EXCEL_TEXT: Final = '^="(.*)"$'  # keeps Excel from reading a text as a number
_SPACES: Final = r"[\s\u{200B}\u{FEFF}]+"
_GROUPS: Final = "[+-]?([0-9]+|[1-9][0-9]{0,2}(SIGN[0-9]{3})+|[1-9][0-9]{0,2}('[0-9]{3})+|[1-9][0-9]{0,2}( [0-9]{3})+)?"
_INDIAN: Final = "[+-]?[1-9][0-9]?(,[0-9]{2})+,[0-9]{3}"  # 1,23,456
_POINT: Final = f"^({_GROUPS.replace('SIGN', ',')}|{_INDIAN})([.][0-9]*)?([eE][+-]?[0-9]{{1,2}})?$"
_COMMA: Final = f"^{_GROUPS.replace('SIGN', '[.]')}(,[0-9]*)?([eE][+-]?[0-9]{{1,2}})?$"
_NUMBER: Final = re.compile(r"^[^\w]{0,3}[0-9][0-9.,' \u00a0]*([eE][+-]?[0-9]+)?[-)]?\s?[^\w.,:/-]?$")
_DATE: Final = re.compile(
    r"^([A-Za-z]{3,9},? )?([0-9]{1,4}[-./ ]([0-9]{1,2}|[A-Za-z]{3,9}\.?)[-./ ,]+[0-9]{1,4}|"
    r"[A-Za-z]{3,9}\.? [0-9]{1,2}, ?[0-9]{4})\b.*$"
)


def content_of(text: str) -> Content:
    """Return whether a field holds a number, a date or other text.

    >>> [content_of(text) for text in ("1.234,50 €", "-2", "03/01/2024 10:15", "Jan 5, 2024", "apple", "85123A")]
    ['number', 'number', 'date', 'date', 'text', 'text']
    """
    text = text.strip()
    if _DATE.match(text):
        return "date"
    return "number" if _NUMBER.match(text) else "text"


def is_missing(text: pl.Expr, words: Iterable[str] = NULL_WORDS) -> pl.Expr:
    """Return whether a text is absent, empty, or a word (in lower case) for nothing."""
    lower = text.str.strip_chars().str.to_lowercase()
    return text.is_null() | (lower == "") | lower.is_in(list(words))


def clean_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column of ids or the like as text: no spaces around it, and no decimals of a whole number.

    Null, NaN and infinity are null.
    """
    value = pl.col(column)
    if dtype.is_integer():
        return value.cast(pl.String)
    if dtype.is_float():
        finite = pl.when(value.is_finite()).then(value)
        whole = (value.abs() <= LARGEST_WHOLE) & (value == value.floor())
        number = pl.when(whole).then(finite).cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(number).otherwise(finite.cast(pl.String))
    text = value.cast(pl.String).str.replace_all("[\\x00\u200b\u200e\u200f\u2060\ufeff]", "")  # nobody sees them
    text = text.str.replace_all("[\u00a0\u2007\u202f]", " ").str.strip_chars()
    text = text.str.replace(_EXCEL_TEXT, "${1}").str.strip_chars()
    return pl.when(text.str.contains(WHOLE)).then(text.str.replace(r"[.]0+$", "")).otherwise(text)


def clean_ids(ids: pa.Array) -> pa.Array:
    """Return ids (n,) as :func:`clean_text` has them, string."""
    frame = pl.DataFrame(pl.from_arrow(pa.table({"id": ids})))
    return frame.select(clean_text("id", frame.schema["id"]))["id"].to_arrow().cast(pa.string())


def number_of(text: pl.Expr, decimal: str) -> pl.Expr:
    """Return a text as Float64, null where it is none: ``1-``, ``(1)``, ``1,-``, thousands and currencies are read.

    ``decimal`` is the decimal sign, "." or ","; the other one may part thousands.
    """
    plain = text.str.strip_chars().str.replace_all("[\u2212\u2013]", "-").str.replace_all("\u2019", "'")
    plain = plain.str.replace(_EXCEL_TEXT, "${1}").str.replace_all(_CURRENCY, "").str.replace("([0-9])[.,]-+$", "${1}")
    plain = plain.str.replace(r"^\((.+)\)$", "-${1}").str.replace(r"^(.+)-$", "-${1}")
    plain = plain.str.replace("^(-?)" + _CURRENCY[1:], "${1}")
    plain = plain.str.replace_all(_SPACES, " ").str.replace("^(-?) ", "${1}")
    fits = plain.str.contains(_COMMA if decimal == "," else _POINT) & plain.str.contains("[0-9]")
    plain = plain.str.replace_all("[.' ]" if decimal == "," else "[,' ]", "").str.replace(",", ".", literal=True)
    return pl.when(fits).then(plain).cast(pl.Float64, strict=False)


def decimal_of(texts: Iterable[str]) -> Literal[".", ",", "?"]:
    """Return the decimal sign of most numbers that leave no doubt; "?" where ``1,234`` may be either.

    Where each number ends in it and three zeros, it parts no thousands.

    >>> decimal_of(["2,50", "1.234,50"]), decimal_of(["2", "1,234.5"]), decimal_of(["1,234", "5"]), decimal_of(["7"])
    (',', '.', '?', '.')
    >>> decimal_of(["1.000", "2.000"]), decimal_of(["1,000", "2"])
    ('.', '?')
    """
    texts, doubtful, votes, n_votes = list(texts), False, 0, 0  # positive votes are for the comma
    for text in (re.sub(r"[^\W\d_]+[.]", "", one) for one in texts):  # the point of Rs. and kr. parts nothing
        signs = re.sub("[^.,]", "", text)
        if not signs or not re.search("[0-9]", text):
            continue
        last = signs[-1]
        behind = len(re.sub("[^0-9]", "", text.rpartition(last)[2]))
        if len(set(signs)) > 1 or (len(signs) == 1 and behind != 3) or text.strip().startswith(("0,", "0.")):
            votes, n_votes = votes + (1 if last == "," else -1), n_votes + 1
        elif len(signs) > 1:  # 1,234,567: what comes twice parts thousands
            votes, n_votes = votes + (-1 if last == "," else 1), n_votes + 1
        else:
            doubtful = True
    if votes:
        return "," if votes > 0 else "."
    ends = {text.strip()[-4:] for text in texts}
    if len(set(texts)) > 1 and ends in ({",000"}, {".000"}):
        return "," if ends == {",000"} else "."
    return "?" if doubtful or n_votes else "."
