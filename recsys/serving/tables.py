"""The tables of the service's database, and the rows that go in and out."""

from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

#: Of the tables below; a database of a higher version is not opened.
VERSION: Final = 1
METADATA = sa.MetaData()


def _number() -> sa.Column[int]:
    """Return the column that numbers rows in the order in which they come."""
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("seq", kind, primary_key=True, autoincrement=True)


def _text(name: str, *, is_optional: bool = False, **settings: Any) -> sa.Column[str]:  # noqa: ANN401 - a flag each
    return sa.Column(name, sa.Text, nullable=is_optional, **settings)


ABOUT = sa.Table(
    "recsys_store",
    METADATA,
    sa.Column("version", sa.Integer, nullable=False),
    _text("key"),
    _text("log", is_optional=True),  # fingerprint of the purchases that events came on top of
    sa.Column("n_before", sa.BigInteger),  # the last event that came before these were prepared
)
EVENTS = sa.Table(
    "events",
    METADATA,
    _number(),
    _text("event_id", unique=True),
    _text("user_id", is_optional=True),
    _text("session_id", is_optional=True),
    _text("item_id"),
    _text("time"),
    sa.Column("quantity", sa.Double, nullable=False),
    sa.Column("price", sa.Double),
    _text("channel", is_optional=True),
    _text("recommendation_id", is_optional=True),
    sqlite_autoincrement=True,  # else the number of a removed row may be given again
)
_NAMES_LIST = EVENTS.c.recommendation_id.isnot(None)
sa.Index("named_lists", EVENTS.c.recommendation_id, sqlite_where=_NAMES_LIST, postgresql_where=_NAMES_LIST)
ITEMS = sa.Table("items", METADATA, _number(), _text("item_id", unique=True), _text("attributes"))
RECOMMENDATIONS = sa.Table(
    "recommendations",
    METADATA,
    _text("recommendation_id", primary_key=True),
    _text("made_at", index=True),
    _text("user_id", is_optional=True),
    _text("session_id", is_optional=True),
    _text("scenario", is_optional=True),
    _text("variant", is_optional=True),
    _text("model"),
    _text("request"),
    _text("shown"),
)
TOMBSTONES = sa.Table("tombstones", METADATA, _text("user_hash", primary_key=True))
SCENARIOS = sa.Table("scenarios", METADATA, _text("name", primary_key=True), _text("settings"))
CHANGES = sa.Table(
    "scenario_changes",
    METADATA,
    _number(),
    _text("name"),
    _text("who"),
    _text("made_at"),
    _text("before", is_optional=True),
    _text("after", is_optional=True),
)
SAVED_USERS = sa.Table("saved_users", METADATA, _number(), _text("user_id"))


class EventRow(NamedTuple):
    """One purchase that was sent, of a user or a session; ``time`` is kept as it is given."""

    event_id: str
    user_id: str | None
    session_id: str | None
    item_id: str
    time: datetime
    quantity: float = 1.0
    price: float | None = None
    channel: str | None = None
    recommendation_id: str | None = None


class RecommendationRow(NamedTuple):
    """One list that was shown: ``request`` is JSON, ``shown`` the item ids in their order as JSON."""

    recommendation_id: str
    made_at: str
    user_id: str | None
    session_id: str | None
    scenario: str | None
    variant: str | None
    model: str
    request: str
    shown: str


class ScenarioChange(NamedTuple):
    """Who changed a scenario when, and its settings before and after; None where there was none."""

    who: str
    made_at: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Outcome(NamedTuple):
    """A purchase that names a recommendation, and what that one had shown."""

    recommendation_id: str
    scenario: str | None
    variant: str | None
    shown: str
    item_id: str
    quantity: float
    price: float | None
