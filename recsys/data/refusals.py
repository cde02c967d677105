"""Purchases that are refused as a whole: what their rows look like together, in one line with examples."""

import narwhals as nw
import pyarrow as pa
import pyarrow.compute as pc

from recsys import schema
from recsys.config import DataConfig
from recsys.data.cleaned import Part, Report
from recsys.data.engine import Engine
from recsys.data.expressions import valid_time
from recsys.data.ids import ascending
from recsys.data.planned_promotions import require_sold, usable_promotions
from recsys.data.reading.layout import LINE
from recsys.data.reading.limits import MOST_LOST, ONCE_SHARE, TILL_SHARE, Limit
from recsys.data.sources.base import RawTables
from recsys.errors import DataError

#: Users from which on one should not have so large a share of the rows, and not so many of them come but once.
_MANY_USERS = 20
#: What promotions that cannot be used are counted under.
BAD_PROMOTION = "bad_promotion"


def require_usable(
    part: Part, tables: RawTables, known_items: pa.Array, config: DataConfig, engine: Engine, report: Report
) -> pa.Table | None:
    """Return the promotions that can be used; DataError where the events, or the tables beside them, cannot.

    No event of ``part`` is looked at: it may stand for the parts of all customers. The report learns of customers who
    may be none, and of promotions.
    """
    promotions = None
    _refuse_users(part, tables, engine, report)
    if tables.promotions is not None:
        promotions, report.found[BAD_PROMOTION] = usable_promotions(tables.promotions, engine, _origin(tables))
    _refuse_losses(tables, engine, report)
    _refuse(tables, part.sold, known_items, config, engine, report)
    if promotions is not None:
        require_sold(promotions, ascending(part.sold) if tables.adds_items else known_items, _origin(tables))
    return promotions


def no_rows(table: str, tables: RawTables) -> DataError:
    """Return what is said of an empty ``table`` beside the events."""
    return DataError(f"the table of {table} beside {_origin(tables)} has a header and no rows; expected one row an id")


def _refuse_users(part: Part, tables: RawTables, engine: Engine, report: Report) -> None:
    n_users, n_once, most_rows = part.habits.tolist()
    if n_users >= _MANY_USERS and most_rows > TILL_SHARE * report.kept:
        report.found["rows_of_one_user"] = most_rows  # a till, or everybody without a card
    if n_users >= _MANY_USERS and n_once > ONCE_SHARE * n_users:
        report.found["users_seen_on_one_day"] = n_once  # is it the customer's id, or the order's?
    if not report.kept or report.found.get("unknown_user") != report.kept or tables.users is None:
        return
    user_id = nw.col(schema.USER_ID).cast(nw.String)
    met, there = (
        engine.collect(frame.select(user_id).filter(user_id.str.len_chars() > 0).head(1))[schema.USER_ID].to_pylist()
        for frame in (tables.events, tables.users)
    )
    if not there and not report.found["missing_user_id_in_users"]:
        raise no_rows("users", tables)
    shown = f"; there stand {there[0]!r} and the like" if there else ""
    raise DataError(
        f"none of the {n_users:,} customers of {_origin(tables)}, e.g. {met[0]!r}, stands in the table of users beside "
        f"it{shown}; name the column of the same ids (users: user_id: COLUMN)"
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
