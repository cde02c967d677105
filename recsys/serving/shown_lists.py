"""Lists that were shown: saved before anybody sees them, or in memory while the database is written anew."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from recsys.errors import RunError
from recsys.serving.database import Database
from recsys.serving.tables import EVENTS, RECOMMENDATIONS, Outcome, RecommendationRow

#: Lists removed, or saved late, at a time: others are saved in between. A batch brings fewer than grow old.
_FEW: Final = 256


class ShownLists:
    """The lists in a database; several threads may call it."""

    def __init__(self, database: Database, is_removed: Callable[[str], bool]) -> None:
        """Take what tells the ids of removed users, whose lists are not kept."""
        self._database, self._is_removed = database, is_removed
        self._lock = threading.Lock()
        self._late: dict[str, RecommendationRow] = {}  # of the time in which they are held
        self._is_held = False

    def save(self, rows: Sequence[RecommendationRow]) -> None:
        """Keep what was shown, in one transaction; a row whose id is there replaces it. Removed users' are not kept.

        While they are :meth:`held`, they stay in memory: nobody waits for a file that is written anew.
        """
        with self._lock:
            if self._is_held:
                self._late |= {row.recommendation_id: row for row in rows}
            elif rows:
                self._save(rows)
                self._save_late()

    def find(self, recommendation_id: str) -> RecommendationRow | None:
        """Return what was shown under an id; None where nothing is known of it."""
        if (late := self._late.get(recommendation_id)) is not None:
            return late
        wanted = sa.select(RECOMMENDATIONS).where(RECOMMENDATIONS.c.recommendation_id == recommendation_id)
        with self._database.reading() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else RecommendationRow(*row)

    def prune(self, before: str) -> bool:
        """Remove a few of the lists shown before the time ``before``; return whether none is left."""
        with self._lock:
            return not self._is_held and self._remove(RECOMMENDATIONS.c.made_at < before) < _FEW

    def outcomes(self) -> tuple[dict[tuple[str | None, str | None], int], list[Outcome]]:
        """Return the number of lists by scenario and variant, and the purchases that name one, in their order."""
        lists, events = RECOMMENDATIONS.c, EVENTS.c
        group = (lists.scenario, lists.variant)
        bought = (events.item_id, events.quantity, events.price)
        joined = sa.select(lists.recommendation_id, *group, lists.shown, *bought).order_by(events.seq)
        joined = joined.join_from(RECOMMENDATIONS, EVENTS, lists.recommendation_id == events.recommendation_id)
        with self._database.reading() as connection:
            sizes = connection.execute(sa.select(*group, sa.func.count()).group_by(*group)).all()
            return {(scenario, variant): n for scenario, variant, n in sizes}, [
                Outcome(*row) for row in connection.execute(joined)
            ]

    def remove_of(self, user_id: str) -> None:
        """Remove the lists of a user, a few at a time."""
        while self._remove(RECOMMENDATIONS.c.user_id == user_id) == _FEW:
            pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """Save no list until the end of the block, when those of the meantime are saved, a few at a time."""
        with self._lock:  # whoever saves now is done before
            self._is_held = True
        try:
            yield
        finally:
            try:
                while self._is_held:
                    with self._lock:
                        self._save_late()
                        self._is_held = bool(self._late)
            except RunError:  # they are saved with the next ones
                logging.getLogger(__name__).exception("lists of the time of a deletion could not be saved")
            finally:
                self._is_held = False

    def _save_late(self) -> None:
        """Save a few of those that were held."""
        if some := list(self._late.values())[:_FEW]:
            self._save(some)
            for row in some:
                del self._late[row.recommendation_id]

    def _save(self, rows: Sequence[RecommendationRow]) -> None:
        with self._database.writing(is_durable=False) as connection:
            removed = {row.user_id for row in rows if row.user_id is not None and self._is_removed(row.user_id)}
            # Of several with one id the last holds; PostgreSQL would refuse both in one statement.
            kept = {row.recommendation_id: row._asdict() for row in rows if row.user_id not in removed}
            if kept:
                connection.execute(self._saving, list(kept.values()))

    @cached_property
    def _saving(self) -> sa.Insert:
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(RECOMMENDATIONS)
        newer = {name: insert.excluded[name] for name in RecommendationRow._fields[1:]}
        return insert.on_conflict_do_update(index_elements=["recommendation_id"], set_=newer)

    def _remove(self, which: sa.ColumnElement[bool]) -> int:
        """Remove a few of some lists; return how many. They are looked for without the lock of the writers."""
        name = RECOMMENDATIONS.c.recommendation_id
        with self._database.reading() as connection:
            names = connection.execute(sa.select(name).where(which).limit(_FEW)).scalars().all()
        if names:
            with self._database.writing(is_durable=False) as connection:
                connection.execute(RECOMMENDATIONS.delete().where(name.in_(names)))
        return len(names)
