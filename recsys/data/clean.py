"""From raw tables to cleaned events: what cannot be used is counted and dropped, never a reason to crash.

A row is counted under the first rule that drops it, in the order of the report.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.config import DataConfig
from recsys.data.days import day_number
from recsys.data.encode import BAD_DAY, Columns, channel_ranks, encode_columns, ranked
from recsys.data.engine import Engine
from recsys.data.expressions import valid_time
from recsys.data.ids import ABSENT, UNKNOWN, Ids, distinct_ids, ids_of, with_attributes
from recsys.data.order import Events
from recsys.data.planned_promotions import promotions_of, require_sold, usable_promotions
from recsys.data.reading.layout import LINE
from recsys.data.sources.base import MOST_LOST, Limit, RawTables
from recsys.errors import DataError

#: Rules that carry out what the configuration asks for: no fault of the data.
ASKED_FOR = ("before_start", "from_end_on", "not_in_top_k_items", "history_too_short", "history_too_long")
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

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Cleaned:
    """Events that stay, in no order, and the tables that their indices point into."""

    events: Events
    items: pa.Table  # row i for item_index i+1
    users: pa.Table  # row u for user_index u
    report: Report
    promotions: pa.Table | None = None  # as in :mod:`recsys.schema`; None where the source has none
    channels: tuple[str, ...] = ()  # names of channels 1, 2, …


def clean(tables: RawTables, config: DataConfig, engine: Engine) -> Cleaned:
    """Return the events of ``tables`` that can be used and that ``config`` wants, with dense indices.

    Raises:
        DataError: nothing is left, or ``config.strict`` and there is a finding.
    """
    report = Report()
    items = known_items = _read_ids(tables, "items", schema.ITEM_ID, engine, report)
    users = known_users = _read_ids(tables, "users", schema.USER_ID, engine, report)
    if tables.items is not None and tables.partial_items:
        items = items.united(distinct_ids(tables.events, schema.ITEM_ID, engine).values)
    columns, labels = encode_columns(tables, items, users, engine)
    if (columns["user"] == UNKNOWN).any():
        # Rare where a table of all customers exists, so that a pass over the ids of all events is mostly saved.
        users = users.united(distinct_ids(tables.events, schema.USER_ID, engine).values)
        columns, labels = encode_columns(tables, items, users, engine)
    known_user = np.asarray(known_users.holds(users.values))
    kept, most_sold = _apply_rules(columns, tables, config, report)
    if report.kept < report.rows_read:
        columns = {name: column[kept] for name, column in columns.items()}
    _note_findings(columns, tables, users, known_user, report)
    promotions = None
    if tables.promotions is not None:
        promotions, report.found[BAD_PROMOTION] = usable_promotions(tables.promotions, engine, _origin(tables))
    _refuse_losses(tables, engine, report)
    _refuse(tables, known_items, config, engine, report)
    known_item = np.asarray(known_items.holds(items.values)) & (tables.items is not None and not tables.sold_items_only)
    item_stays = known_item if most_sold is None else np.isin(np.arange(len(items)), most_sold)
    channel, channels = channel_ranks(columns.get(schema.CHANNEL), labels.get(schema.CHANNEL))
    basket = columns.get(schema.BASKET_ID)
    item, item_ids = _compact(columns["item"], items, item_stays)
    user_stays = known_user & (tables.users is not None and not config.limits_histories)
    user, user_ids = _compact(columns["user"], users, user_stays)
    basket = None if basket is None else ranked(basket)[0]
    named = {name: columns.get(name) for name in ("millisecond", schema.PRICE, schema.QUANTITY)}
    events = Events(user, item + np.int32(1), columns["day"], channel=channel, basket=basket, **named)
    item_table = _described(item_ids, tables.items, schema.ITEM_ID, engine)
    user_table = _described(user_ids, tables.users, schema.USER_ID, engine)
    if promotions is not None:
        require_sold(promotions, items, _origin(tables))
        promotions = promotions_of(promotions, item_ids)
    return Cleaned(events, item_table, user_table, report, promotions, channels)


def _read_ids(tables: RawTables, table: str, column: str, engine: Engine, report: Report) -> Ids:
    """Return the ids of ``table`` (else of the events), noting what its rules and repetitions count."""
    frame: nw.LazyFrame[Any] | None = getattr(tables, table)
    if frame is None:
        return distinct_ids(tables.events, column, engine)
    rules = {f"_rule_{position}": rule for position, rule in enumerate(tables.rules) if rule.table == table}
    read = engine.collect(frame.select(column, *(rule.rows.alias(name) for name, rule in rules.items())))
    for name, rule in rules.items():
        report.found[rule.name] = int(pc.sum(read[name]).as_py() or 0)
    ids = ids_of(read[column].combine_chunks(), column)
    if not len(read) and not (tables.sold_items_only if table == "items" else tables.partial_users):
        where = f"the table of {table} beside {_origin(tables)}"
        raise DataError(f"{where} has a header and no rows; expected one row an id")
    report.found |= {f"repeated_{column}_in_{table}": ids.n_repeated, f"missing_{column}_in_{table}": ids.n_absent}
    return ids


def _described(ids: pa.Array, frame: nw.LazyFrame[Any] | None, column: str, engine: Engine) -> pa.Table:
    """Return ``ids`` beside the attributes that ``frame`` has for them; read last, so that they are held briefly."""
    if frame is None:
        return pa.table({column: ids})
    attributes = [name for name in frame.collect_schema().names() if name != column and not name.startswith("_")]
    return with_attributes(ids, engine.collect(frame.select(column, *attributes)), column)


def _apply_rules(
    columns: Columns, tables: RawTables, config: DataConfig, report: Report
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which rows (E,) bool stay, and the ranks of the most sold items where only these are wanted."""
    kept = np.ones(len(columns["day"]), dtype=bool)
    report.rows_read = len(kept)
    for rule, drops in _drop_masks(columns, tables, config):
        _drop(rule, drops, kept, report)
    most_sold = None
    if config.top_k_items is not None:
        most_sold = _most_sold(columns["item"][kept], config.top_k_items)
        _drop("not_in_top_k_items", ~np.isin(columns["item"], most_sold), kept, report)
    if config.limits_histories:
        _limit_histories(columns["user"], kept, config, report)
    report.kept = int(np.count_nonzero(kept))
    return kept, most_sold


def _drop(rule: str, drops: np.ndarray, kept: np.ndarray, report: Report) -> None:
    report.dropped[rule] = int(np.count_nonzero(drops & kept))
    kept &= ~drops


def _most_sold(items: np.ndarray, k: int) -> np.ndarray:
    """Return the k values with the most rows in ``items`` (n,); of equally many the smallest, whose id is smallest.

    >>> _most_sold(np.array([3, 1, 1, 0, 3]), 2).tolist()
    [1, 3]
    """
    sold = np.bincount(items)
    return np.argsort(-sold, kind="stable")[: min(k, np.count_nonzero(sold))]


def _limit_histories(user: np.ndarray, kept: np.ndarray, config: DataConfig, report: Report) -> None:
    """Drop the ``kept`` rows (E,) of every user who has too few or too many of them."""
    lengths = np.bincount(user[kept])
    report.before_history_limits = {"events": int(lengths.sum()), "users": int(np.count_nonzero(lengths))}
    length = np.zeros(len(kept), dtype=np.int64)
    length[kept] = lengths[user[kept]]
    if config.min_history is not None:
        _drop("history_too_short", length < config.min_history, kept, report)
    if config.max_history is not None:
        _drop("history_too_long", length > config.max_history, kept, report)


def _drop_masks(columns: Columns, tables: RawTables, config: DataConfig) -> Iterator[tuple[str, np.ndarray]]:
    yield "missing_user_id", columns["user"] == ABSENT
    dropping = [(n, rule) for n, rule in enumerate(tables.rules) if rule.drops and rule.table == "events"]
    # What a map says is no purchase, such as a line of sums, needs neither product nor date.
    yield from ((rule.name, columns[f"rule_{n}"]) for n, rule in dropping if rule.is_stated)
    yield "missing_item_id", columns["item"] == ABSENT
    yield "bad_date", columns["day"] == BAD_DAY
    yield from ((rule.name, columns[f"rule_{n}"]) for n, rule in dropping if not rule.is_stated)
    yield "unknown_item", columns["item"] == UNKNOWN
    if config.start is not None:
        yield "before_start", columns["day"] < day_number(config.start)
    if config.end is not None:
        yield "from_end_on", columns["day"] >= day_number(config.end)


def _note_findings(columns: Columns, tables: RawTables, users: Ids, known_user: np.ndarray, report: Report) -> None:
    """Count what is amiss in the rows that stay; a negative price becomes NaN, a missing quantity 1."""
    if tables.users is not None and not tables.partial_users:
        if len(columns["user"]) and not known_user[columns["user"]].any():
            raise _nobody_known(columns["user"], known_user, users, _origin(tables))
        report.found["unknown_user"] = int(np.count_nonzero(~known_user[columns["user"]]))
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
    for position, rule in enumerate(tables.rules):
        if not rule.drops and rule.table == "events":
            report.found[rule.name] = int(np.count_nonzero(columns[f"rule_{position}"]))


def _nobody_known(user: np.ndarray, known_user: np.ndarray, users: Ids, origin: str) -> DataError:
    buyers = np.unique(user)
    there = users.values.filter(pa.array(known_user))
    shown = f"; there stand {there[0].as_py()!r} and the like" if len(there) else ""
    return DataError(
        f"none of the {len(buyers):,} customers of {origin}, e.g. {users.values[int(buyers[0])].as_py()!r}, stands in "
        f"the table of users beside it{shown}; name the column of the same ids (users: user_id: COLUMN)"
    )


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
    return ", ".join(f"{row[limit.shown]!r}" + (f" (line {row[LINE]})" if has_line else "") for row in rows)


def _refuse(tables: RawTables, known_items: Ids, config: DataConfig, engine: Engine, report: Report) -> None:
    origin = _origin(tables)
    if not report.rows_read:
        raise DataError(f"{origin} has a header and no rows; expected one row a purchase")
    counts = ", ".join(f"{rule} {rows:,}" for rule, rows in report.dropped.items() if rows)
    if not report.kept:
        example = _bad_date_example(tables, engine) if report.dropped["bad_date"] else ""
        example += _unknown_item_example(tables, known_items, engine) if report.dropped["unknown_item"] else ""
        raise DataError(
            f"{origin}: none of the {report.rows_read:,} rows is left (dropped: {counts}){example}; "
            "check the columns, the item table and what is asked for (data.start, data.end, data.min_history, …)"
        )
    findings = ", ".join(f"{name} {rows:,}" for name, rows in report.findings().items())
    if config.strict and findings:
        raise DataError(f"{origin}: --strict, and validation found {findings}; mend the input or go without --strict")


def _origin(tables: RawTables) -> str:
    return ", ".join(str(path) for path in tables.inputs[:1]) or tables.origin


def _unknown_item_example(tables: RawTables, known: Ids, engine: Engine) -> str:
    sold = distinct_ids(tables.events, schema.ITEM_ID, engine).values
    unknown = sold.filter(pc.invert(known.holds(sold)))
    return f", e.g. the item {unknown[0].as_py()!r}; the item table has {known.values[0].as_py()!r}"


def _bad_date_example(tables: RawTables, engine: Engine) -> str:
    if tables.events.collect_schema()[schema.TIME] != nw.String:
        return ""
    bad = tables.events.select(schema.TIME, valid=valid_time(schema.TIME)).filter(nw.col("valid").is_null())
    return f", e.g. the date {engine.collect(bad.head(1))[schema.TIME][0].as_py()!r}, expected YYYY-MM-DD"


def _compact(ranks: np.ndarray, ids: Ids, stays: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """Return ``ranks`` (E,) int32 among the ids that occur or ``stays`` (n,), and only those ids."""
    stays = stays | (np.bincount(ranks, minlength=len(ids)) > 0)
    if stays.all():
        return ranks, ids.values
    renumbered = (np.cumsum(stays) - 1).astype(np.int32)
    return renumbered[ranks], ids.values.filter(pa.array(stays))
