"""One database of the service, SQLite or PostgreSQL: readers side by side, one writer at a time."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from recsys.data.reading.databases import resolved_address
from recsys.data.reading.files import one_line
from recsys.errors import RunError, UsageError

#: Seconds that a server may take to answer, or another program to write into the same SQLite file.
_PATIENCE: Final = 5
#: What names the lock of the writers of a PostgreSQL database, among all that programs may take there.
_WRITERS_LOCK: Final = 0x7265_6373_7973


class Database:
    """Connections to a database; several threads may use them.

    Writers wait for one another, also those of other processes: rows that are numbered become visible in the order of
    their numbers, so who has read up to a number has missed none. A reader sees one state of the database throughout.
    Whatever the database refuses is a RunError of one line, without credentials.
    """

    def __init__(self, url: str) -> None:
        self._address, self.shown = resolved_address(url)
        scheme, _, path = self._address.partition(":///")
        self.is_sqlite = scheme == "sqlite" and path not in ("", ":memory:")
        if not (self.is_sqlite or self._address.startswith("postgresql+psycopg://")):
            raise UsageError(
                f"{self.shown} is no address of a store; expected sqlite:///FILE or postgresql://HOST/NAME"
            )
        self._lock = threading.Lock()
        try:
            if self.is_sqlite:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                self._writer, self._reader = _sqlite(self._address), _sqlite(self._address, is_reader=True)
            else:
                options = {"client_encoding": "utf8", "connect_timeout": _PATIENCE}
                options |= {"keepalives_idle": _PATIENCE, "tcp_user_timeout": 1000 * _PATIENCE}  # of a lost network
                self._writer = sa.create_engine(self._address, pool_pre_ping=True, connect_args=options)
                self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ")
        except OSError as error:
            raise RunError(f"{self.shown} cannot be made ({error.strerror}); name another place") from error
        except ImportError as error:
            raise UsageError(f"{self.shown} needs a driver ({error}); pip install 'recsys[sql]'") from error
        except SQLAlchemyError as error:
            raise UsageError(f"{self.shown} is no address ({one_line(error)}); write it anew") from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection that cannot see what is written meanwhile."""
        with self._explained(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, *, is_durable: bool = True) -> Iterator[sa.Connection]:
        """Yield the only connection that writes; all is committed at the end, or nothing where it fails.

        What is not durable survives a crash of this program, but perhaps not one of the machine.
        """
        with self._explained(), self._lock:
            engine = self._writer.execution_options(is_durable=is_durable)
            with engine.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS_LOCK)))
                    if not is_durable:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield connection

    def scrub(self) -> None:
        """Write a SQLite file anew, so that no byte of a removed row stays in it or in its write-ahead log.

        PostgreSQL's own vacuum frees what was removed there. RunError where another program keeps reading the file.
        """
        if not self.is_sqlite:
            return
        # Zeros over removed rows (secure_delete) miss copies that stay behind where a page of an index was split.
        with self._explained(), self._lock:
            connection = self._writer.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                is_busy = cursor.fetchall()[0][0]
            finally:
                connection.close()
        if is_busy:
            raise RunError(f"{self.shown} is read by another program, so removed bytes stay in its log; do it again")

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._reader.dispose()
            self._writer.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            reason = one_line(getattr(error, "orig", None) or error).replace(self._address, self.shown)
            advice = "check that it is there and may be written"
            if "locked" in reason:
                advice = "another program writes into it: stop that, or name another store"
            elif "not a database" in reason:
                advice = "expected a SQLite database: name another file"
            elif not self.is_sqlite:
                advice = "check the address, and that the server runs"
            raise RunError(f"the store {self.shown} cannot be used ({reason}); {advice}") from error


def _sqlite(address: str, *, is_reader: bool = False) -> sa.Engine:
    engine = sa.create_engine(address, connect_args={"timeout": _PATIENCE})

    @sa.event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver thinks fit
        words = ["query_only = ON"] if is_reader else ["journal_mode = WAL", "secure_delete = ON"]
        for each in words:
            connection.execute(f"PRAGMA {each}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if is_reader:
            connection.exec_driver_sql("BEGIN")
            return
        options: Any = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options.get('is_durable', True) else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
