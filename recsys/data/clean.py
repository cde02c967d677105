"""From raw tables to cleaned events: what cannot be used is counted and dropped, never a reason to crash.

A row is counted under the first rule that drops it, in the order of the report.
"""

from dataclasses import dataclass, field
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.config import DataConfig
from recsys.data.days import day_number
from recsys.data.encode import BAD_DAY, Columns, encode_columns, ranked, require_few_channels
from recsys.data.engine import Engine
from recsys.data.expressions import valid_time
from recsys.data.ids import ABSENT, UNKNOWN, ascending, occurring, ranks_in, texts_of, with_attributes
from recsys.data.order import Events
from recsys.data.planned_promotions import require_sold, usable_promotions
from recsys.data.reading.layout import LINE
from recsys.data.reading.limits import MOST_LOST, Limit
from recsys.data.sources.base import RawTables
from recsys.errors import DataError

#: Rules that carry out what the configuration asks for: no fault of the data.
ASKED_FOR = ("before_start", "from_end_on", "not_in_top_k_items", "history_too_short", "history_too_long")
#: Of so many users one should not have so large a share of the rows, and not so many of them come but once.
_MANY_USERS, _TILL_SHARE, _ONCE_SHARE = 20, 0.2, 0.9
#: What promotions that cannot be used are counted under.
BAD_PROMOTION = "bad_promotion"


@dataclass
class Report:
    """What validation found; every figure is a number of rows."""

    rows_read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # by rule
    found: dict[str, int] = field(default_factory=dict)  # kept, or mended, although something is amiss
    kept: int = 0
    exact_duplicates: int = 0  # kept rows equal to another in every column: they are quantities
    before_history_limits: dict[str, int] = field(default_factory=dict)  # events and users, where there are limits

    def findings(self) -> dict[str, int]:
        """Return everything that ``--strict`` objects to."""
        dropped = {rule: rows for rule, rows in self.dropped.items() if rule not in ASKED_FOR}
        return {name: rows for name, rows in (dropped | self.found).items() if rows}


@dataclass(frozen=True)
class Cleaned:
    """Events that stay, in no order, and the tables that their indices point into."""

    events: Events
    items: pa.Table  # row i for item_index i+1
    users: pa.Table  # row u for user_index u
    report: Report
    promotions: pa.Table | None = None  # item_id, start, end (dates, or days since 1970), medium, share
    channels: tuple[str, ...] = ()  # names of channels 1, 2, …


def clean(tables: RawTables, config: DataConfig, engine: Engine) -> Cleaned:
    """Return the events of ``tables`` that can be used and that ``config`` wants, with dense indices.

    DataError where nothing is left, or where ``config.strict`` and there is a finding.
    """
    report = Report()
    item_table, known_items = _read_table(tables, "items", schema.ITEM_ID, engine, report)
    user_table, known_users = _read_table(tables, "users", schema.USER_ID, engine, report)
    columns, texts = encode_columns(tables, engine, {schema.ITEM_ID: known_items, schema.USER_ID: known_users})
    sold, add_sold = texts.pop(schema.ITEM_ID), tables.items is None or tables.partial_items
    columns["item"], items, known_item = ranks_in(known_items, sold, add=add_sold)
    columns["user"], users, known_user = ranks_in(known_users, texts.pop(schema.USER_ID), add=True)
    mask, wanted = _apply_rules(columns, tables, config, len(items), report)
    kept = slice(None) if mask.all() else mask  # a slice copies nothing
    columns = {name: column[kept] for name, column in columns.items()}
    _note_findings(columns, tables, users, known_user, report)
    promotions = None
    if tables.promotions is not None:
        promotions, report.found[BAD_PROMOTION] = usable_promotions(tables.promotions, engine, _origin(tables))
    _refuse_losses(tables, engine, report)
    _refuse(tables, sold.values, known_items, config, engine, report)
    if promotions is not None:
        require_sold(promotions, items, _origin(tables))
    if wanted is None:
        wanted = known_item & (not tables.sold_items_only)
    item, item_ids = occurring(columns["item"], items, wanted)
    user, user_ids = occurring(columns["user"], users, known_user & (not config.limits_histories))
    types = tables.events.collect_schema()
    labels = {name: ranked(texts.pop(name), kept, types[name]) for name in list(texts)}
    channel, channels = labels.get(schema.CHANNEL, (None, pa.array([], pa.string())))
    require_few_channels(len(channels))
    events = Events(
        user=user - np.int32(1),
        item=item,
        day=columns["day"],
        millisecond=columns.get("millisecond"),
        price=columns.get(schema.PRICE),
        channel=None if channel is None else channel.astype(np.int8),
        quantity=columns.get(schema.QUANTITY),
        basket=labels.get(schema.BASKET_ID, (None,))[0],
    )
    item_table = with_attributes(item_ids, item_table, schema.ITEM_ID)
    user_table = with_attributes(user_ids, user_table, schema.USER_ID)
    return Cleaned(events, item_table, user_table, report, promotions, tuple(channels.to_pylist()))


def _read_table(
    tables: RawTables, table: str, column: str, engine: Engine, report: Report
) -> tuple[pa.Table, pa.Array]:
    """Return ``table`` (of no rows where there is none) and its ids, ascending, noting what is amiss with it."""
    frame: nw.LazyFrame[Any] | None = getattr(tables, table)
    if frame is None:
        none = pa.array([], pa.string())
        return pa.table({column: none}), none
    rules = tables.rules_of(table)
    attributes = [name for name in frame.collect_schema().names() if name != column and not name.startswith("_")]
    read = engine.collect(frame.select(column, *attributes, *(rule.rows.alias(name) for name, rule in rules.items())))
    for name, rule in rules.items():
        report.found[rule.name] = int(pc.sum(read[name]).as_py() or 0)
    if not len(read) and not (tables.sold_items_only if table == "items" else tables.partial_users):
        where = f"the table of {table} beside {_origin(tables)}"
        raise DataError(f"{where} has a header and no rows; expected one row an id")
    rows = texts_of(read, column)
    ids = ascending(rows)
    n_present = pc.sum(pc.greater(pc.utf8_length(rows), 0)).as_py() or 0
    report.found[f"repeated_{column}_in_{table}"] = n_present - len(ids)
    report.found[f"missing_{column}_in_{table}"] = len(rows) - n_present
    return read.select([column, *attributes]), ids


def _apply_rules(
    columns: Columns, tables: RawTables, config: DataConfig, n_items: int, report: Report
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which rows (E,) bool stay, and which items (n_items,) bool are the most sold, where only these stay."""
    user, item, day = columns["user"], columns["item"], columns["day"]
    kept = np.ones(len(day), dtype=bool)
    report.rows_read = len(day)

    def drop(rule: str, rows: np.ndarray) -> None:
        report.dropped[rule] = int(np.count_nonzero(rows & kept))
        kept[rows] = False

    dropping = {name: rule for name, rule in tables.rules_of("events").items() if rule.drops}
    drop("missing_user_id", user == ABSENT)
    # What a map says is no purchase, such as a line of sums, needs neither product nor date.
    for name in (name for name, rule in dropping.items() if rule.is_stated):
        drop(dropping[name].name, columns[name])
    drop("missing_item_id", item == ABSENT)
    drop("bad_date", day == BAD_DAY)
    for name in (name for name, rule in dropping.items() if not rule.is_stated):
        drop(dropping[name].name, columns[name])
    drop("unknown_item", item == UNKNOWN)
    if config.start is not None:
        drop("before_start", day < day_number(config.start))
    if config.end is not None:
        drop("from_end_on", day >= day_number(config.end))
    most_sold = None
    if config.top_k_items is not None:
        sold = np.bincount(item[kept], minlength=n_items + 1)[1:]
        # Of equally many the smallest id.
        first = np.argsort(-sold, kind="stable")[: min(config.top_k_items, np.count_nonzero(sold))]
        most_sold = np.isin(np.arange(n_items), first)
        drop("not_in_top_k_items", ~np.append(False, most_sold)[item])  # items that are UNKNOWN are dropped by now
    if config.limits_histories:
        lengths = np.bincount(user[kept], minlength=user.max(initial=0) + 1)
        report.before_history_limits = {"events": int(lengths.sum()), "users": int(np.count_nonzero(lengths))}
        if config.min_history is not None:
            drop("history_too_short", lengths[user] < config.min_history)
        if config.max_history is not None:
            drop("history_too_long", lengths[user] > config.max_history)
    report.kept = int(np.count_nonzero(kept))
    return kept, most_sold


def _note_findings(
    columns: Columns, tables: RawTables, users: pa.Array, known_user: np.ndarray, report: Report
) -> None:
    """Count what is amiss in the rows that stay; a negative price becomes NaN, a missing quantity 1."""
    if tables.users is not None and not tables.partial_users:
        is_known = known_user[columns["user"] - 1]
        if len(is_known) and not is_known.any():
            buyers, there = np.unique(columns["user"]), users.filter(pa.array(known_user))
            shown = f"; there stand {there[0].as_py()!r} and the like" if len(there) else ""
            raise DataError(
                f"none of the {len(buyers):,} customers of {_origin(tables)}, e.g. "
                f"{users[int(buyers[0]) - 1].as_py()!r}, stands in the table of users beside it{shown}; name the "
                "column of the same ids (users: user_id: COLUMN)"
            )
        report.found["unknown_user"] = int(np.count_nonzero(~is_known))
    if schema.PRICE in columns:
        price = columns[schema.PRICE]
        report.found["missing_price"] = int(np.count_nonzero(np.isnan(price)))
        report.found["negative_price"] = int(np.count_nonzero(price < 0))
        # Adding 0 makes one zero of the two, and NaN is written anew: equal values have equal bits on every engine.
        columns[schema.PRICE] = np.where(price >= 0, price + np.float32(0), np.float32(np.nan))
    if schema.QUANTITY in columns:
        report.found["negative_quantity"] = int(np.count_nonzero(columns[schema.QUANTITY] < 0))
        report.found["zero_quantity"] = int(np.count_nonzero(columns[schema.QUANTITY] == 0))
        absent = np.isnan(columns[schema.QUANTITY])
        report.found["missing_quantity"] = int(np.count_nonzero(absent))
        columns[schema.QUANTITY] = np.where(absent, np.float32(1), columns[schema.QUANTITY] + np.float32(0))
    for name, rule in tables.rules_of("events").items():
        if not rule.drops:
            report.found[rule.name] = int(np.count_nonzero(columns[name]))
    rows_of_user = np.bincount(columns["user"], minlength=1)
    if np.count_nonzero(rows_of_user) >= _MANY_USERS and rows_of_user.max() > _TILL_SHARE * len(columns["user"]):
        report.found["rows_of_one_user"] = int(rows_of_user.max())  # a till, or everybody without a card
    if tables.limits:  # somebody's own file, whose columns may be taken for what they are not
        days = np.unique(columns["user"].astype(np.int64) * 2**32 + columns["day"])
        on_days = np.bincount(days >> 32, minlength=1)
        n_once = int(np.count_nonzero(on_days == 1))
        if np.count_nonzero(on_days) >= _MANY_USERS and n_once > _ONCE_SHARE * np.count_nonzero(on_days):
            report.found["users_seen_on_one_day"] = n_once  # is it the customer's id, or the order's?


def _refuse_losses(tables: RawTables, engine: Engine, report: Report) -> None:
    """Raise a DataError where rows were not read, or more than a few are lost for a reason that nobody stated."""
    if tables.n_records is not None and report.rows_read != tables.n_records:
        raise DataError(
            f"{_origin(tables)}: {report.rows_read:,} rows were read, but the file holds {tables.n_records:,}; look "
            "for a quotation mark that is not closed, or save it again"
        )
    for limit in tables.limits:
        lost = report.dropped.get(limit.name, 0) or report.found.get(limit.name, 0)
        if lost > MOST_LOST * report.rows_read:
            raise DataError(
                f"{_origin(tables)}: {lost:,} of {report.rows_read:,} rows ({lost / report.rows_read:.0%}) have "
                f"{limit.name}, e.g. {_examples(tables, limit, engine)}; {limit.advice()}"
            )


def _examples(tables: RawTables, limit: Limit, engine: Engine) -> str:
    """Return up to three values that a limit is about, with the lines of the file where these are known."""
    has_line = LINE in tables.events.collect_schema().names()
    chosen = tables.events.filter(limit.rows).select(limit.shown, *([LINE] if has_line else [])).head(3)
    rows = engine.collect(chosen).to_pylist()
    shown = (f"{row[limit.shown]!r}" + (f" (line {row[LINE]})" if has_line else "") for row in rows)
    return ", ".join(dict.fromkeys(shown))


def _refuse(
    tables: RawTables, sold: pa.Array, known_items: pa.Array, config: DataConfig, engine: Engine, report: Report
) -> None:
    origin = _origin(tables)
    if not report.rows_read:
        raise DataError(f"{origin} has a header and no rows; expected one row a purchase")
    if not report.kept:
        example = ""
        if report.dropped["bad_date"] and tables.events.collect_schema()[schema.TIME] == nw.String:
            bad = tables.events.select(schema.TIME, valid=valid_time(schema.TIME)).filter(nw.col("valid").is_null())
            found = engine.collect(bad.head(1))[schema.TIME][0].as_py()
            example = f", e.g. the date {found!r}, expected YYYY-MM-DD"
        if report.dropped["unknown_item"]:
            unknown = ascending(sold.filter(pc.invert(pc.is_in(sold, value_set=known_items))))
            known = known_items[0].as_py()
            example += f", e.g. the item {unknown[0].as_py()!r}; the item table has {known!r}"
        counts = ", ".join(f"{rule} {rows:,}" for rule, rows in report.dropped.items() if rows)
        raise DataError(
            f"{origin}: none of the {report.rows_read:,} rows is left (dropped: {counts}){example}; "
            "check the columns, the item table and what is asked for (data.start, data.end, data.min_history, …)"
        )
    findings = ", ".join(f"{name} {rows:,}" for name, rows in report.findings().items())
    if config.strict and findings:
        raise DataError(f"{origin}: --strict, and validation found {findings}; mend the input or go without --strict")


def _origin(tables: RawTables) -> str:
    return ", ".join(str(path) for path in tables.inputs[:1]) or tables.origin
