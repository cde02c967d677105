"""Tables and queries of databases, read through SQLAlchemy in one transaction that cannot write."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.reading.files import one_line
from recsys.data.reading.layout import FileForm, OpenTable
from recsys.errors import DataError, UsageError

_ROWS: Final = 1 << 16
#: What refuses every write from then on, by the kind of database.
_READ_ONLY: Final = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}
#: What the extra ``sql`` brings, for addresses that name no driver.
_DRIVERS: Final = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
#: Environment variable of a password that was typed into an address.
PASSWORD_VARIABLE: Final = "SHOP_PASSWORD"  # noqa: S105 - its name


def is_database(place: str) -> bool:
    """Return whether ``place`` is the address of a database."""
    return re.match(r"^[a-z][a-z0-9+]*://", place) is not None and not place.startswith("file:")


def without_password(url: str) -> str:
    """Return an address without the password typed into it, which becomes an environment variable of this process."""
    typed = re.match(r"[^:]+://[^:/@]*:([^@]+)@", url)
    if typed is None or "${" in typed[1]:
        return url
    os.environ[PASSWORD_VARIABLE] = unquote(typed[1])
    return f"{url[: typed.start(1)]}${{{PASSWORD_VARIABLE}}}{url[typed.end(1) :]}"


def resolved_address(url: str) -> tuple[str, str]:
    """Return what SQLAlchemy connects to, and how messages call it: without credentials.

    ``${NAME}`` in the address is replaced by the environment's variable; a UsageError says that it is not set.
    """
    shown = re.sub(r"//[^/@]*@", "//…@", url)
    scheme, _, place = url.partition("://")
    at = place.rfind("@")

    def value(match: re.Match[str]) -> str:
        said = os.environ[match[1]]
        return quote(said, safe="") if match.start() < at else said  # a password may hold any sign

    try:
        return f"{_DRIVERS.get(scheme, scheme)}://" + re.sub(r"\$\{(\w+)\}", value, place), shown
    except KeyError as error:
        raise UsageError(
            f"{shown}: the environment has no variable {error}; set it, or write the name of one that is set"
        ) from error


def open_database(url: str, form: FileForm, scratch: Path) -> OpenTable:
    """Return a table of a database, or what a query gives, read in one transaction that cannot write.

    ``${NAME}`` in the address is replaced by the environment's variable: there credentials belong. UsageError where it
    is not set, or SQLAlchemy or a driver is not installed; DataError where the database or the table cannot be read.
    """
    try:
        sql = import_module("sqlalchemy")
    except ImportError as error:
        raise UsageError("reading a database needs SQLAlchemy: pip install 'recsys[sql]'") from error
    address, shown = resolved_address(url)
    # A database without an encoding of its own would give bytes.
    is_unencoded = address.startswith("postgresql+psycopg:") and "client_encoding" not in address
    stored = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    engine = None
    try:
        options = {"connect_args": {"client_encoding": "utf8"}} if is_unencoded else {}
        engine = sql.create_engine(_read_only(address), **options)
        with engine.connect() as connection:
            if statement := _READ_ONLY.get(connection.dialect.name):
                connection.execute(sql.text(statement))
            chosen = sql.text(form.query) if form.query else _whole_table(connection, form.table, shown, sql)
            result = connection.execution_options(stream_results=True, max_row_buffer=_ROWS).execute(chosen)
            n_rows = _store(result, stored, shown)
    except (sql.exc.SQLAlchemyError, RuntimeError, TypeError, ValueError) as error:  # drivers have some of their own
        reason = one_line(error).replace(address, shown)
        advice = "check the address, the table and who may read it"
        if "invalid byte sequence" in reason:
            advice = "say how its text is encoded with ?client_encoding=latin1 or so behind the address"
        raise DataError(f"{shown} cannot be read ({reason}); {advice}") from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{shown} needs the driver {error.name}; pip install 'recsys[sql]', or pip install {error.name}"
        ) from error
    finally:
        if engine is not None:
            engine.dispose()
    return OpenTable(pl.scan_parquet(stored, glob=False), shown, n_rows)


def _whole_table(connection: Any, table: str | None, shown: str, sql: Any) -> Any:  # noqa: ANN401 - an extra
    known = sql.inspect(connection)
    tables = [*known.get_table_names(), *known.get_view_names()]
    if table not in tables:
        what = "names no table" if table is None else f"has no table {table}"
        raise DataError(f"{shown} {what}; found {', '.join(tables) or 'none'}; say table: NAME or query: SELECT …")
    return sql.select(sql.text("*")).select_from(sql.table(table))


def _store(result: Any, stored: Path, shown: str) -> int:  # noqa: ANN401 - SQLAlchemy is an extra
    """Write the rows of a result as text to a Parquet file, and return how many they are."""
    names, n_rows = [str(name) for name in result.keys()], 0  # noqa: SIM118 - no mapping
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{shown} gives two columns called {twice[0]}; call one of them otherwise (SELECT … AS …)")
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(stored, schema, compression="lz4") as writer:
        for rows in result.partitions(_ROWS):
            columns = [pa.array([_text(value) for value in column], pa.string()) for column in zip(*rows, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            n_rows += len(rows)
    return n_rows


def _read_only(url: str) -> str:
    """Return the address of a SQLite file such that it is neither made nor written."""
    if not url.startswith("sqlite:///") or "mode=" in url:
        return url
    path = url.removeprefix("sqlite:///")
    if not Path(path).is_file():
        raise DataError(f"{path} is missing; put the database there or name another")
    return f"sqlite:///file:{Path(path).resolve()}?mode=ro&uri=true"


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
