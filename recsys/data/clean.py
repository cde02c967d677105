"""From raw tables to cleaned events: what cannot be used is counted and dropped, never a reason to crash.

A row is counted under the first rule that drops it, in the order of the report.
"""

from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.config import DataConfig
from recsys.data.cleaned import Cleaned, Part, Report
from recsys.data.days import day_number
from recsys.data.encode import BAD_DAY, Columns, encode_columns, ranked, require_few_channels
from recsys.data.engine import Engine
from recsys.data.ids import ABSENT, UNKNOWN, ascending, occurring, ranks_in, texts_of, with_attributes
from recsys.data.order import Events, occurrences_of
from recsys.data.refusals import no_rows, require_usable
from recsys.data.sources.base import RawTables


def clean(tables: RawTables, config: DataConfig, engine: Engine) -> Cleaned:
    """Return the events of ``tables`` that can be used and that ``config`` wants, with dense indices.

    DataError where nothing is left, or where ``config.strict`` and there is a finding.
    """
    report = Report()
    item_table, known_items = read_table(tables, "items", schema.ITEM_ID, engine, report)
    part = clean_part(tables, known_items, config, engine, report)
    promotions = require_usable(part, tables, known_items, config, engine, report)
    items = with_attributes(part.item_ids, item_table, schema.ITEM_ID)
    return Cleaned(part.events, items, part.users, report, promotions, tuple(part.channels.to_pylist()))


def clean_part(tables: RawTables, known_items: pa.Array, config: DataConfig, engine: Engine, report: Report) -> Part:
    """Return what can be used of ``tables``, counted in ``report``; ``known_items`` are the ids of its item table."""
    user_table, known_users = read_table(tables, "users", schema.USER_ID, engine, report)
    columns, texts = encode_columns(tables, engine, {schema.ITEM_ID: known_items, schema.USER_ID: known_users})
    sold = texts.pop(schema.ITEM_ID)
    columns["item"], items, known_item = ranks_in(known_items, sold, add=tables.adds_items)
    columns["user"], users, known_user = ranks_in(known_users, texts.pop(schema.USER_ID), add=True)
    mask, wanted = _apply_rules(columns, tables, config, len(items), report)
    kept = slice(None) if mask.all() else mask  # a slice copies nothing
    columns = {name: column[kept] for name, column in columns.items()}
    _note_findings(columns, tables, known_user, report)
    habits = _habits(columns, tables)
    if wanted is None:
        wanted = known_item & (not tables.sold_items_only)
    item, item_ids = occurring(columns["item"], items, wanted)
    user, user_ids = occurring(columns["user"], users, known_user & (not config.limits_histories))
    types = tables.events.collect_schema()
    labels = {name: ranked(texts.pop(name), kept, types[name]) for name in list(texts)}
    channel, channels = labels.get(schema.CHANNEL, (None, pa.array([], pa.string())))
    require_few_channels(len(channels))
    user -= np.int32(1)
    events = Events(
        user=user,
        item=item,
        day=columns["day"],
        millisecond=columns.get("millisecond"),
        price=columns.get(schema.PRICE),
        channel=None if channel is None else channel.astype(np.int8),
        quantity=columns.get(schema.QUANTITY),
        basket=labels.get(schema.BASKET_ID, (None,))[0],
    )
    user_table = with_attributes(user_ids, user_table, schema.USER_ID)
    return Part(events, item_ids, user_table, channels, sold.values, habits)


def read_table(tables: RawTables, table: str, column: str, engine: Engine, report: Report) -> tuple[pa.Table, pa.Array]:
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
    if not len(read) and table == "items" and not tables.sold_items_only:
        raise no_rows(table, tables)
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
    for name in (name for name, rule in dropping.items() if rule.is_no_purchase):
        drop(dropping[name].name, columns[name])
    drop("missing_item_id", item == ABSENT)
    drop("bad_date", day == BAD_DAY)
    for name in (name for name, rule in dropping.items() if not rule.is_no_purchase):
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


def _note_findings(columns: Columns, tables: RawTables, known_user: np.ndarray, report: Report) -> None:
    """Count what is amiss in the rows that stay; a negative price becomes NaN, a missing quantity 1."""
    if tables.users is not None and not tables.partial_users:
        report.found["unknown_user"] = int(occurrences_of(columns["user"], len(known_user) + 1)[1:][~known_user].sum())
    if schema.PRICE in columns:
        price = columns[schema.PRICE]
        report.found["missing_price"] = int(np.count_nonzero(np.isnan(price)))
        report.found["negative_price"] = int(np.count_nonzero(price < 0))
        # Adding 0 makes one zero of the two, and NaN is written anew: equal values have equal bits on every engine.
        price += np.float32(0)
        price[~(price >= 0)] = np.nan
    if schema.QUANTITY in columns:
        quantity = columns[schema.QUANTITY]
        report.found["negative_quantity"] = int(np.count_nonzero(quantity < 0))
        report.found["zero_quantity"] = int(np.count_nonzero(quantity == 0))
        absent = np.isnan(quantity)
        report.found["missing_quantity"] = int(np.count_nonzero(absent))
        quantity += np.float32(0)
        quantity[absent] = 1
    for name, rule in tables.rules_of("events").items():
        if not rule.drops:
            report.found[rule.name] = int(np.count_nonzero(columns[name]))


def _habits(columns: Columns, tables: RawTables) -> np.ndarray:
    rows_of_user, n_once = occurrences_of(columns["user"], 1), 0
    if tables.limits:  # somebody's own file, whose columns may be taken for what they are not
        days = np.unique(columns["user"].astype(np.int64) * 2**32 + columns["day"])
        n_once = int(np.count_nonzero(np.bincount(days >> 32, minlength=1) == 1))
    return np.array([np.count_nonzero(rows_of_user), n_once, rows_of_user.max()])
