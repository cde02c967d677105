"""What purchases say of themselves before anything is trained: gaps, repeats, and whether they are enough."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import numpy as np
import polars as pl

from recsys import schema
from recsys.data.reading.limits import ONCE_SHARE, TILL_SHARE

#: Below these a decoder has hardly anything to learn from.
_FEWEST_ROWS: Final = 1_000
_FEWEST_USERS: Final = 50
_FEWEST_IN_WINDOW: Final = 20
#: What tills write for a customer whom they do not know, in lower case.
_NOBODY: Final = (
    *("guest", "anonymous", "unknown", "walk-in", "walkin", "cash", "0", "-1", "99999", "999999", "9999999"),
    *("gast", "unbekannt", "anonym", "invité", "inconnu", "invitado", "anónimo", "ospite", "гость"),
)
_LISTS: Final = 12
_FOLDS: Final = 3


@dataclass(frozen=True)
class Facts:
    """Figures of purchases, and what follows from them."""

    n_rows: int
    n_users: int
    n_items: int
    first: datetime
    last: datetime
    share_repeats: float  # of purchases: of something the customer had bought before
    share_once: float  # of customers: who came on one day only
    gap_days: float | None  # median between two days of one customer
    horizon_days: int
    n_folds: int
    k: int
    lacking: tuple[str, ...]  # why there is hardly enough to learn from
    doubts: tuple[str, ...]  # what a person should look at


def facts_of(purchases: pl.DataFrame) -> Facts:
    """Return the figures of ``purchases``: ``user_id`` and ``item_id`` text, ``time`` Datetime or Date, all present."""
    rows = purchases.with_columns(pl.col(schema.TIME).cast(pl.Date).alias("day"))
    days = rows.select(schema.USER_ID, "day").unique().sort(schema.USER_ID, "day")
    gaps = days.select(pl.col("day").diff().over(schema.USER_ID).dt.total_days().alias("gap")).drop_nulls()["gap"]
    per_user = rows.group_by(schema.USER_ID).len().sort("len", descending=True)
    n_users, n_items = len(per_user), rows[schema.ITEM_ID].n_unique()
    times = pl.col(schema.TIME).cast(pl.Datetime("us"))
    first, last = rows.select(times.min().alias("first"), times.max().alias("last")).row(0)
    n_first = rows.select(schema.USER_ID, schema.ITEM_ID).n_unique()
    gap = None if not len(gaps) else float(np.median(gaps.to_numpy()))
    span = (last - first).days + 1
    # A window holds a visit of a customer who comes as often as most do.
    horizon = next((days for days in (7, 14, 30, 60, 90) if gap is not None and gap <= days), 90)
    horizon = min(horizon, max(span // 4, 1))
    n_folds = max(min(_FOLDS, span // horizon - 2), 0)
    in_window = rows.filter(pl.col("day") > pl.lit(last.date()) - pl.duration(days=horizon))[schema.USER_ID].n_unique()
    lacking = []
    if len(rows) < _FEWEST_ROWS:
        lacking.append(f"{len(rows):,} purchases; some {_FEWEST_ROWS:,} are the least to learn from")
    if n_users < _FEWEST_USERS:
        lacking.append(f"{n_users:,} customers; some {_FEWEST_USERS} are the least")
    if in_window < _FEWEST_IN_WINDOW:
        least = f"with fewer than {_FEWEST_IN_WINDOW} nothing is measured"
        lacking.append(f"{in_window} customers in the last {horizon} days; {least}")
    once = float(np.mean(days.group_by(schema.USER_ID).len()["len"].to_numpy() == 1))
    share = per_user["len"][0] / len(rows)
    doubts = []
    if share > TILL_SHARE and n_users > 2 / TILL_SHARE:
        doubts.append(
            f"customer {per_user[schema.USER_ID][0]} has {share:.0%} of all rows: a till, or everybody without a card?"
        )
    if once > ONCE_SHARE:
        doubts.append(f"{once:.0%} of customers came on one day only: is it the customer's id, or the order's?")
    doubts += [] if doubts else _nobody(per_user, len(rows))
    doubts += _alike("customers", rows[schema.USER_ID])
    doubts += _alike("products", rows[schema.ITEM_ID])
    return Facts(
        n_rows=len(rows),
        n_users=n_users,
        n_items=n_items,
        first=first,
        last=last,
        share_repeats=1 - n_first / len(rows),
        share_once=once,
        gap_days=gap,
        horizon_days=horizon,
        n_folds=n_folds,
        k=min(_LISTS, max(n_items - 1, 1)),
        lacking=tuple(lacking),
        doubts=tuple(doubts),
    )


def _nobody(per_user: pl.DataFrame, n_rows: int) -> Iterator[str]:
    """Yield a doubt where ids of customers are words for nobody."""
    found = per_user.filter(pl.col(schema.USER_ID).str.to_lowercase().is_in(_NOBODY))
    if len(found):
        names = ", ".join(repr(name) for name in found[schema.USER_ID].head(3))
        share = found["len"].sum() / n_rows
        yield f"customers {names} have {share:.1%} of all rows: if they are nobody, name them under missing:"


def _alike(what: str, ids: pl.Series) -> Iterator[str]:
    """Yield a doubt where ids differ in case, spaces, the composition of letters, or zeros before them alone."""
    frame = ids.unique().sort().alias("id").to_frame()
    folded = pl.col("id").str.normalize("NFKC").str.to_lowercase().str.replace_all(r"^0+|\s+|,0$|,", "")
    groups = frame.group_by(folded.alias("folded")).agg("id").filter(pl.col("id").list.len() > 1).sort("folded")
    if len(groups):
        shown = " and ".join(repr(one) for one in groups["id"][0].head(2))
        yield f"{len(groups):,} {what} are written in several ways, such as {shown}: if they are one, mend the file"


def in_words(row: dict[str, object]) -> str:
    """Return a purchase as a sentence; ``row`` has the schema's columns.

    >>> in_words({"user_id": "ann", "item_id": "apple", "time": datetime(2024, 1, 5, 10, 15), "quantity": 2.0})
    'Friday 5 January 2024, 10:15: customer ann bought 2 × apple'
    """
    time = cast("datetime", row[schema.TIME])
    when = f"{time:%A} {time.day} {time:%B %Y}" + (f", {time:%H:%M}" if (time.hour, time.minute) != (0, 0) else "")
    quantity, price = row.get(schema.QUANTITY), row.get(schema.PRICE)
    pieces = "" if quantity is None else f"{quantity:g} × "
    at = "" if price is None else f" at {price:g}"
    return f"{when}: customer {row[schema.USER_ID]} bought {pieces}{row[schema.ITEM_ID]}{at}"
