"""Which column is whose: roles guessed from names and from what the values do, each with its reason."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from recsys.data.inspection.columns import KNOWN, Column, words_of
from recsys.data.reading.column_map import may_be_attribute
from recsys.data.reading.values import number_of
from recsys.schema import EVENT_REQUIRED

_WORDS: Final[Mapping[str, list[str]]] = KNOWN["roles"]
_OTHER_TIMES, _LABELS = set(KNOWN["other_times"]), set(KNOWN["labels"])
#: A column follows another where so many of the rows hold their value's most frequent one.
_FOLLOWS: Final = 0.95
_OF_ALL: Final = {"total", "amount", "sum", "sales", "revenue", "betrag", "montant", "importe"}  # pieces, not of one
OPTIONAL: Final = ("price", "quantity", "basket_id", "channel")


@dataclass
class Guess:
    """Roles of a table's columns, by the schema's names, and what is open."""

    roles: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    clock: str | None = None  # column of the clock, where it stands beside the day
    item_attributes: list[str] = field(default_factory=list)
    user_attributes: list[str] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)  # role → the question
    doubts: list[str] = field(default_factory=list)  # what a person should look at


def guess_roles(frame: pl.DataFrame, columns: Iterable[Column]) -> Guess:
    """Return which column of ``frame`` has which role."""
    left = {column.name: column for column in columns if column.content != "empty"}
    guess = Guess()
    _take(guess, left, frame, "time")
    day = guess.roles.get("time")
    if day is not None:
        clocks = [column.name for column in left.values() if column.content == "clock"]
        if len(clocks) == 1 and _has_no_clock(frame, day):
            guess.clock = clocks[0]
            guess.reasons["time"] += f", with the clock in {clocks[0]}"
            del left[clocks[0]]
    for role in ("user_id", "item_id"):
        _take(guess, left, frame, role)
    _guess_without_names(guess, left)
    for role in ("basket_id", "quantity", "price", "channel"):
        _take(guess, left, frame, role)
    for role in EVENT_REQUIRED:
        if role not in guess.roles and role not in guess.open:
            called = [one for one in left.values() if role == "time" and words_of(one.name) & set(_WORDS[role])]
            odd = "".join(f"; {one.name} holds such as {one.examples[0]!r}: write 2024-01-31 10:15" for one in called)
            guess.open[role] = f"no column looks like it; found {', '.join(frame.columns)}{odd}"
    _attributes(guess, frame, left)
    for role in ("price", "quantity"):
        guess.doubts += [] if role in guess.roles else _unread_numbers(role, left.values(), frame)
    price = guess.roles.get("price", "")
    if "quantity" in guess.roles and words_of(price) & _OF_ALL and "unit" not in words_of(price):
        guess.doubts.append(f"{price} may be of all pieces of a row, expected that of one: divide it, or leave it out")
    for column in (one for one in left.values() if one.n_distinct <= 20):
        yes = ("1", "y", "yes", "true", "t") if words_of(column.name) & set(KNOWN["no_purchases"]) else ()
        texts = frame[column.name].cast(pl.String).str.strip_chars()
        found = texts.filter(texts.str.to_lowercase().is_in([*KNOWN["no_purchases"], *yes]))
        if len(found):
            rule = f"{{name: no_purchase, column: {column.name}, one_of: {found.unique().sort().to_list()}}}"
            guess.doubts.append(f"{len(found):,} rows may be no purchases; if so write under drop: - {rule}")
    return guess


def _take(guess: Guess, left: dict[str, Column], frame: pl.DataFrame, role: str) -> None:
    """Give ``role`` to the column with the best score, if one has any; two that are equally good are a question."""
    scores = ((*_score(role, column, frame, guess), name) for name, column in left.items())
    scored = sorted((one for one in scores if one[0] > 0), key=lambda one: -one[0])
    if not scored:
        return
    best, reason, name = scored[0]
    if role in EVENT_REQUIRED and len(scored) > 1 and scored[1][0] >= best:
        names = [other for value, _, other in scored if value >= best]
        guess.open[role] = f"{' and '.join(names)} look alike; name one of them"
        return
    guess.roles[role], guess.reasons[role] = name, reason
    del left[name]


def _guess_without_names(guess: Guess, left: dict[str, Column]) -> None:
    """Where there is no header, of two columns that may be either the one with more values is the customer."""
    if any(not name.isdecimal() for name in left) or {"user_id", "item_id"} & guess.roles.keys():
        return
    whole = sorted((column for column in left.values() if column.is_whole), key=lambda one: -one.n_distinct)
    if len(whole) != 2 or whole[0].n_distinct < 2 * whole[1].n_distinct:
        return
    for role, column in zip(("user_id", "item_id"), whole, strict=True):
        guess.roles[role] = column.name
        guess.reasons[role] = (
            f"no header; it has {column.n_distinct:,} values of {whole[0].n_distinct:,} and {whole[1].n_distinct:,}"
        )
        del left[column.name]


def _unread_numbers(role: str, columns: Iterable[Column], frame: pl.DataFrame) -> Iterator[str]:
    """Yield a doubt for each column of text that is called as the ``role``, and whose values hold digits."""
    for column in columns:
        words, texts = words_of(column.name), frame[column.name].cast(pl.String).drop_nulls()
        is_named = words & set(_WORDS[role]) and not words & set(KNOWN["never"].get(role, ()))
        if column.content == "text" and is_named and texts.str.contains("[0-9]").mean() > 0.5:  # type: ignore[operator]
            of_sign = (texts.to_frame("text").filter(number_of(pl.col("text"), sign).is_null()) for sign in ".,")
            odd = min(of_sign, key=len)["text"]
            shown = ", ".join(repr(text) for text in odd.unique(maintain_order=True).head(3))
            yield f"{column.name} may be the {role}, but {len(odd):,} of its values are no numbers, such as {shown}"


def _score(role: str, column: Column, frame: pl.DataFrame, guess: Guess) -> tuple[float, str]:
    """Return how much speaks for a column's having a role, 0 where it cannot have it, and the reason."""
    words, joined = words_of(column.name), "".join(c for c in column.name.lower() if c.isalnum())
    strongest = [1 - place / 100 for place, word in enumerate(_WORDS[role]) if word in words or joined == word]
    named = max(strongest, default=0.0)
    if role == "time":
        if column.content != "time" or column.times is None:
            return 0, ""
        purchase = bool(words & {"purchase", "order", "invoice", "transaction", "sale"})
        score = 1 + named + 0.5 * purchase - 2 * bool(words & _OTHER_TIMES)
        score += column.share_times - column.share_missing + min(column.n_distinct, 1000) / 4000
        return score, f"its values are times ({column.examples[0]})"
    is_right_kind = column.content == "number" if role in ("price", "quantity") else column.is_whole
    if not named or not is_right_kind or words & set(KNOWN["never"].get(role, ())):
        return 0, ""
    said, rows = f"{column.n_distinct:,} values", column.rows_a_value
    if role == "user_id":
        # A key of one row each is an order's, as long as another column is not.
        score = named + ("id" in words) / 50 + 0.5 * ("unique" in words) + 0.3 * (rows > 1.05) + (column.n_distinct > 1)
        return score, f"its name says so; {said}, {rows:.1f} rows each"
    if role == "item_id":
        label = bool(words & (_LABELS | {"order"})) and not words & {"id", "code", "sku"}
        code = bool(words & {"id", "code", "sku", "number", "no"})
        score = 1 + named + 0.6 * code - 0.8 * label + 0.3 * (rows > 1.5)
        return max(score, 0.1), f"its name says so; {said}, {rows:.1f} rows each"
    if role == "basket_id":
        user = guess.roles.get("user_id")
        if rows < 1 or (user is not None and follows(frame, column.name, user) < _FOLLOWS):
            return 0, ""
        return named + rows / 1000, f"its name says so, and each value has one customer; {said}"
    if role == "channel":
        return (named, f"its name says so; {said}") if 2 <= column.n_distinct <= 127 else (0, "")
    reason = f"its name says so; {column.lowest:g} to {column.highest:g}"
    if role == "quantity":
        return named + column.share_whole, reason
    return named + bool(words & {"unit", "price"}) + (1 - column.share_whole), reason


def _has_no_clock(frame: pl.DataFrame, day: str) -> bool:
    values = frame[day]
    if values.dtype.is_temporal():
        return values.dtype == pl.Date or bool((values.cast(pl.Datetime("us")).dt.hour() == 0).all())
    texts = values.cast(pl.String).drop_nulls().head(1_000).str.replace(r"[ T]0?0:00(:00([.]0+)?)?$", "")
    texts = texts.str.replace(r"^[0-9]{1,2}[.][0-9]{1,2}[.][0-9]{2,4}", "")  # of which no two numbers are a clock
    return not texts.str.contains(r"[0-9]{1,2}[:.h][0-9]{2}").any()


def follows(frame: pl.DataFrame, key: str, value: str) -> float:
    """Return the share of rows that hold the most frequent ``value`` of their ``key``."""
    present = frame.select(key, value).drop_nulls()
    if not len(present):
        return 0.0
    counts = present.group_by(key, value).len().group_by(key).agg(pl.col("len").max())
    return float(counts["len"].sum()) / len(present)


def _attributes(guess: Guess, frame: pl.DataFrame, left: Mapping[str, Column]) -> None:
    """Note which columns say something of the item, or of the customer: they hardly differ among its rows."""
    item, user = guess.roles.get("item_id"), guess.roles.get("user_id")
    for name, column in left.items():
        says_nothing = column.n_distinct < 2 or column.share_missing > 0.9
        if column.content not in ("text", "number") or says_nothing or not may_be_attribute(name):
            continue
        varies = column.rows_a_value > 1.05
        of_item = follows(frame, item, name) if item and varies and item != name else 0.0
        of_user = follows(frame, user, name) if user and varies and column.content == "text" else 0.0
        is_name = bool(words_of(name) & {"name", "description", "desc", "title"})
        if column.content == "text" and (of_item >= _FOLLOWS or (is_name and of_item > 0.7)) and of_item >= of_user:
            guess.item_attributes.append(name)
        elif of_user >= _FOLLOWS and column.n_distinct <= 1_000:
            guess.user_attributes.append(name)
