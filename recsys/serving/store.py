"""What the service keeps in a database: live events, new items, lists that were shown, scenarios, removed users.

Of a removed user only a hash stays, under a key of this database: it tells whether an id that somebody has is a removed
one, and equal ids have other hashes in other databases.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import RunError
from recsys.serving.database import Database
from recsys.serving.shown_lists import ShownLists
from recsys.serving.tables import (
    ABOUT,
    CHANGES,
    EVENTS,
    ITEMS,
    METADATA,
    RECOMMENDATIONS,
    SAVED_USERS,
    SCENARIOS,
    TOMBSTONES,
    VERSION,
    EventRow,
    ScenarioChange,
)

#: Rows read, or ids asked for, at a time.
_PAGE: Final = 10_000


class Store:
    """The tables of the service in one database; several threads may call it.

    RunError: the database cannot be read or written, says the message why.
    """

    def __init__(self, database: Database, key: str) -> None:
        self._database, self._key = database, bytes.fromhex(key)
        self._gone = self.tombstones()
        self._deleting = threading.Lock()
        self._unsure: set[str] = set()  # ids of events of which the database did not say that it has them
        self.lists = ShownLists(database, lambda user_id: self._hash(user_id) in self._gone)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open ``sqlite:///FILE`` or ``postgresql://HOST/NAME``, whose tables are made where there are none.

        ``${NAME}`` in the address is replaced by the environment's variable. UsageError where the address is none of
        these; RunError where the database cannot be used, is another program's, or a newer version's.
        """
        database = Database(url)
        try:
            with database.reading() as connection:  # before anything is written into what may be another program's
                _require_ours(connection, database)
            with database.writing() as connection:
                key = _key_of(connection)
            return cls(database, key)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def add_events(self, rows: Sequence[EventRow]) -> list[bool]:
        """Add events in one transaction, on disk when this returns; return which of them are new.

        An event whose id is there already is not, nor is one of a removed user, which is not kept. After a RunError it
        may be there all the same: it is new when it is sent again.
        """
        is_new: list[bool] = []
        try:
            with self._database.writing() as connection:
                removed = self._removed(connection, (row.user_id for row in rows))
                known = _present(connection, EVENTS.c.event_id, (row.event_id for row in rows))
                there = known & self._unsure
                known -= there
                for row in rows:
                    is_new.append(row.event_id not in known and row.user_id not in removed)
                    known.add(row.event_id)
                new = [row for row, new in zip(rows, is_new, strict=True) if new and row.event_id not in there]
                if new:
                    connection.execute(EVENTS.insert(), [row._asdict() | {"time": row.time.isoformat()} for row in new])
        except RunError:
            self._unsure |= {row.event_id for row, new in zip(rows, is_new, strict=False) if new}
            raise
        self._unsure -= known
        return is_new

    def events(self, after: int = 0) -> Iterator[tuple[int, EventRow]]:
        """Yield the events behind number ``after`` with their numbers, in the order in which they came."""
        while True:
            page = sa.select(EVENTS).where(EVENTS.c.seq > after).order_by(EVENTS.c.seq).limit(_PAGE)
            with self._database.reading() as connection:  # anew for each page: a long reader would let the log grow
                rows = connection.execute(page).all()
            for seq, *values in rows:
                event = EventRow(*values)
                yield seq, event._replace(time=datetime.fromisoformat(values[4]))
                after = seq
            if len(rows) < _PAGE:
                return

    def events_before(self, fingerprints: Collection[str]) -> int:
        """Return the number of the last event that came before the purchases of ``fingerprints`` were prepared.

        These are the purchases that events come on top of from now on, the first of them as it is now.
        """
        with self._database.writing() as connection:
            log, before = connection.execute(sa.select(ABOUT.c.log, ABOUT.c.n_before)).one()
            if log is not None and log not in fingerprints:
                before = connection.execute(sa.select(sa.func.max(EVENTS.c.seq))).scalar()
            connection.execute(ABOUT.update().values(log=next(iter(fingerprints)), n_before=before or 0))
        return before or 0

    def add_items(self, items: Mapping[str, Mapping[str, str | float | int | bool | None]]) -> None:
        """Add attributes of items; those of an item that is there already stay."""
        with self._database.writing() as connection:
            known = _present(connection, ITEMS.c.item_id, items)
            rows = [{"item_id": name, "attributes": _json(items[name])} for name in items if name not in known]
            if rows:
                connection.execute(ITEMS.insert(), rows)

    def items(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of added items by id, in the order in which they came."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(ITEMS).order_by(ITEMS.c.seq)).all()
        return {item_id: json.loads(attributes) for _, item_id, attributes in rows}

    def delete_user(self, user_id: str) -> int:
        """Remove all that is kept of a user, and remember a hash alone; return the number of events.

        No byte of the id stays in a SQLite file, which is written anew. Doing it again does no harm. Events wait for
        that; lists do not.
        """
        own = EVENTS.c.user_id == user_id
        with self._deleting:
            self.lists.remove_of(user_id)  # most of them, without holding up others
            with self._database.reading() as connection:  # they are looked for before the lock is taken
                numbers = connection.execute(sa.select(EVENTS.c.seq).where(own)).scalars().all()
                last = connection.execute(sa.select(sa.func.max(EVENTS.c.seq))).scalar() or 0
            with self._database.writing() as connection:
                n_events = connection.execute(EVENTS.delete().where(EVENTS.c.seq > last, own)).rowcount
                for begin in range(0, len(numbers), _PAGE):
                    some = EVENTS.c.seq.in_(numbers[begin : begin + _PAGE])
                    n_events += connection.execute(EVENTS.delete().where(some)).rowcount
                for table in (RECOMMENDATIONS, SAVED_USERS):
                    connection.execute(table.delete().where(table.c.user_id == user_id))
                if not self._removed(connection, [user_id]):
                    connection.execute(TOMBSTONES.insert().values(user_hash=self._hash(user_id)))
                self._gone.add(self._hash(user_id))  # before another writer's turn
            with self.lists.held():
                self._database.scrub()
        return n_events

    def tombstones(self) -> set[str]:
        """Return the hashes of removed users."""
        with self._database.reading() as connection:
            return set(connection.execute(sa.select(TOMBSTONES.c.user_hash)).scalars())

    def forgotten(self, ids: pa.Array) -> np.ndarray:
        """Return which of the user ``ids`` (n,) are those of removed users, (n,) bool."""
        removed = self.tombstones()
        if not removed:
            return np.zeros(len(ids), dtype=bool)
        return np.fromiter((self._hash(str(user_id)) in removed for user_id in ids.to_pylist()), bool, len(ids))

    def scenarios(self) -> dict[str, dict[str, Any]]:
        """Return the settings of all scenarios by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(SCENARIOS).order_by(SCENARIOS.c.name)).all()
        return {name: json.loads(settings) for name, settings in rows}

    def put_scenario(self, name: str, settings: Mapping[str, Any], who: str) -> None:
        """Add a scenario, or replace its settings, and keep who did it."""
        self._change(name, _json(settings), who)

    def remove_scenario(self, name: str, who: str) -> bool:
        """Remove a scenario and keep who did it; return whether there was one."""
        return self._change(name, None, who)

    def scenario_changes(self, name: str) -> list[ScenarioChange]:
        """Return the changes of a scenario, the oldest first."""
        wanted = sa.select(CHANGES).where(CHANGES.c.name == name).order_by(CHANGES.c.seq)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [ScenarioChange(row.who, row.made_at, _value(row.before), _value(row.after)) for row in rows]

    def saved_users(self) -> list[str]:
        """Return the users that were saved, in their order."""
        with self._database.reading() as connection:
            return list(connection.execute(sa.select(SAVED_USERS.c.user_id).order_by(SAVED_USERS.c.seq)).scalars())

    def save_users(self, user_ids: Sequence[str]) -> None:
        """Keep these users instead of those that were saved, removed ones apart."""
        with self._database.writing() as connection:
            removed = self._removed(connection, user_ids)
            connection.execute(SAVED_USERS.delete())
            rows = [{"user_id": user_id} for user_id in user_ids if user_id not in removed]
            if rows:
                connection.execute(SAVED_USERS.insert(), rows)

    def _change(self, name: str, after: str | None, who: str) -> bool:
        with self._database.writing() as connection:
            place = SCENARIOS.c.name == name
            before = connection.execute(sa.select(SCENARIOS.c.settings).where(place)).scalar()
            if before is None and after is None:
                return False
            connection.execute(SCENARIOS.delete().where(place))
            if after is not None:
                connection.execute(SCENARIOS.insert().values(name=name, settings=after))
            made_at = datetime.now(UTC).isoformat(timespec="seconds")
            change = {"name": name, "who": who, "made_at": made_at, "before": before, "after": after}
            connection.execute(CHANGES.insert().values(change))
        return True

    def _hash(self, user_id: str) -> str:
        return hashlib.blake2b(user_id.encode(), key=self._key, digest_size=20).hexdigest()

    def _removed(self, connection: sa.Connection, user_ids: Iterable[str | None]) -> set[str]:
        """Return those of ``user_ids`` that were removed."""
        hashes = {self._hash(user_id): user_id for user_id in set(user_ids) if user_id is not None}
        return {hashes[each] for each in _present(connection, TOMBSTONES.c.user_hash, hashes)}


def _require_ours(connection: sa.Connection, database: Database) -> None:
    tables = set(sa.inspect(connection).get_table_names())
    if ABOUT.name in tables:
        if (version := connection.execute(sa.select(ABOUT.c.version)).scalar() or 0) > VERSION:
            raise RunError(
                f"{database.shown} was written by a newer recsys (tables of version {version}, expected {VERSION} or "
                "less); update recsys, or name another store"
            )
    elif foreign := tables if database.is_sqlite else tables & set(METADATA.tables):
        raise RunError(
            f"{database.shown} holds other tables ({', '.join(sorted(foreign)[:5])}) and no store of recsys; name "
            "another database"
        )


def _key_of(connection: sa.Connection) -> str:
    """Return the key of the tombstones' hashes; the tables are made where there are none."""
    METADATA.create_all(connection)
    key = connection.execute(sa.select(ABOUT.c.key)).scalar()
    if key is None:
        key = secrets.token_hex(32)
        connection.execute(ABOUT.insert().values(version=VERSION, key=key))
    return key


def _present(connection: sa.Connection, column: sa.Column[str], values: Iterable[str]) -> set[str]:
    """Return which of ``values`` stand in a column."""
    wanted, found = list(dict.fromkeys(values)), set[str]()
    for begin in range(0, len(wanted), _PAGE):  # a statement takes some ten thousand values
        found |= set(connection.execute(sa.select(column).where(column.in_(wanted[begin : begin + _PAGE]))).scalars())
    return found


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _value(text: str | None) -> Any:  # noqa: ANN401 - whatever JSON holds
    return None if text is None else json.loads(text)
