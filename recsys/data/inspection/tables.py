"""Several files of one shop: those of one form below each other, and how the others belong to the purchases."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recsys.data.inspection.columns import Column, describe
from recsys.data.inspection.guess import Guess, guess_roles
from recsys.data.reading.column_map import may_be_attribute
from recsys.data.reading.files import open_table, open_tables
from recsys.data.reading.layout import FileForm, OpenTable
from recsys.data.reading.values import clean_text
from recsys.errors import DataError


@dataclass(frozen=True)
class Joined:
    """A file that belongs to the purchases by columns of the same name."""

    path: Path
    on: str
    brings: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A file, or files of one form, with what its columns hold."""

    paths: list[Path]
    opened: OpenTable
    frame: pl.DataFrame
    columns: list[Column]

    @property
    def guess(self) -> Guess:
        """The roles of its own columns."""
        return guess_roles(self.frame, self.columns)

    def key(self, names: set[str]) -> str | None:
        """Return a column among ``names`` that differs in all rows."""
        whole = (column.name for column in self.columns if column.n_distinct == len(self.frame))
        return next((name for name in whole if name in names), None)


@dataclass
class Shop:
    """The purchases of a shop, whole, and the files beside them."""

    table: Table
    frame: pl.DataFrame  # with the columns of joined files
    columns: list[Column]
    guess: Guess
    joins: list[Joined] = field(default_factory=list)
    items: Joined | None = None  # a file of products
    users: Joined | None = None
    unused: list[Path] = field(default_factory=list)  # files that belong to nothing


def open_shop(paths: Sequence[Path], form: FileForm, scratch: Path, database: OpenTable | None = None) -> Shop:
    """Return the purchases among ``paths``, or in a table of a ``database``; DataError where one cannot be read."""
    opened: list[tuple[list[Path], OpenTable]] = [] if database is None else [([], database)]
    groups: dict[tuple[str, ...], list[tuple[Path, OpenTable]]] = {}
    for path in paths:
        table = open_table(path, form, scratch)
        groups.setdefault(tuple(sorted(table.columns)), []).append((path, table))
    for group in groups.values():
        together = [path for path, _ in group]
        whole = group[0][1] if len(group) == 1 else open_tables(together, form, scratch, overlap="all")
        opened.append((together, whole))
    tables = [_table(group, one) for group, one in opened]
    # The purchases are where products are bought: many rows of each, and no file has more.
    tables.sort(key=lambda one: (-_buys(one), -len(one.frame)))
    for part in tables[1:]:
        if len(part.paths) > 1:
            named = " and ".join(str(path) for path in part.paths)
            raise DataError(f"{named} have equal columns and hold no purchases; put them into one file")
    first, frame, names = tables[0], tables[0].frame, set(tables[0].opened.columns)
    joins, others = _joins(first, tables[1:])
    for join, other in joins:
        kept = [name for name in other.frame.columns if name == join.on or name not in names]
        left, right = (one.with_columns(clean_text(join.on, one.schema[join.on])) for one in (frame, other.frame))
        frame, names = left.join(right.select(kept), on=join.on, how="left"), names | set(kept)
    known = {column.name: column for column in first.columns}
    columns = [known.get(name) or describe(frame, name) for name in frame.columns]
    shop = Shop(first, frame, columns, guess_roles(frame, columns), [join for join, _ in joins])
    for other in others:
        if not _note_attributes(shop, other):
            shop.unused += other.paths
    return shop


def _table(paths: list[Path], opened: OpenTable) -> Table:
    frame = opened.frame.select(opened.columns).collect()
    if all(dtype == pl.String for dtype in frame.dtypes):  # files that were put together repeat the header
        frame = frame.filter(~pl.all_horizontal(pl.col(name).eq_missing(pl.lit(name)) for name in frame.columns))
    if not len(frame):
        raise DataError(f"{opened.origin} has a header and no rows; expected one row a purchase")
    return Table(paths, opened, frame, [describe(frame, name) for name in frame.columns])


def _buys(table: Table) -> int:
    """Return how many of the three needed roles a table has columns for; products that come again count most."""
    roles = table.guess.roles
    item = next((column for column in table.columns if column.name == roles.get("item_id")), None)
    repeats = item is not None and item.rows_a_value > 1.1
    return len(roles.keys() & {"user_id", "time"}) + 3 * repeats


def _joins(first: Table, others: Sequence[Table]) -> tuple[list[tuple[Joined, Table]], list[Table]]:
    """Return the files that bring a customer or a time, in the order in which they are joined, and the others."""
    joins: list[tuple[Joined, Table]] = []
    waiting, names, roles = list(others), set(first.opened.columns), set(first.guess.roles)
    again = True
    while again and not {"user_id", "time"} <= roles:
        again = False
        for other in list(waiting):
            key, brought = other.key(names), other.guess.roles
            if key is None or not brought.keys() & {"user_id", "time"}:
                continue
            brings = tuple(name for name in other.opened.columns if name not in names)
            joins.append((Joined(other.paths[0], key, brings), other))
            names |= set(other.opened.columns)
            waiting.remove(other)
            # A number of the customer that each order has anew is not the customer: another file may say more of it.
            roles |= {role for role, name in brought.items() if role != "user_id" or other.key({name}) is None}
            again = True
            if {"user_id", "time"} <= roles:
                break
    return joins, waiting


def _note_attributes(shop: Shop, other: Table) -> bool:
    """Note a file that tells of products, or of customers, and return whether it is the first."""
    for role, place in (("item_id", "items"), ("user_id", "users")):
        key = shop.guess.roles.get(role)
        if key is not None and other.key({key}) is not None:
            known = {column.name: column.content for column in other.columns if may_be_attribute(column.name)}
            brings = tuple(name for name, kind in known.items() if name != key and kind in ("text", "number"))
            if brings and getattr(shop, place) is None:
                setattr(shop, place, Joined(other.paths[0], key, brings))
                return True
    return False
