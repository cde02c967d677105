"""A client of the service, of the standard library alone.

>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     [item["name"] for item in client.recommend(customer_id="1", k=2)["items"]]
['WHITE BREAD', 'BANANAS']
"""
# Long because: two thirds are the forms of requests and answers, and a client is one file to copy.

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Literal, NotRequired, Self, TypedDict, Unpack
from urllib.parse import quote, urlsplit

from recsys.errors import RecsysError, UsageError

#: A day or a time, or its ISO text.
Time = dt.date | str
#: Attribute: values, of which an item has one.
Where = Mapping[str, Sequence[str]]


class ClientError(RecsysError):
    """The service refused a request or could not be reached.

    ``code`` is the service's word for the error, or ``unreachable``, ``timeout`` or ``no_json``; ``field`` the place in
    the request, ``status`` that of HTTP, ``retry_after`` the seconds after which to ask again: None where not known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.status, self.retry_after = code, message, field, status, retry_after


class Bought(TypedDict):
    """A purchase of a history that is given."""

    item_id: str
    date: Time
    quantity: NotRequired[float]


class RecommendRequest(TypedDict, total=False):
    """Whom to recommend what; the service says what each is by default."""

    customer_id: str
    session_id: str
    history: Sequence[Bought]
    k: int
    date: Time
    candidates: Literal["all", "on_sale"] | Sequence[str]
    exclude: Sequence[str]
    where: Where
    repeats: Literal["keep", "only", "none"]
    reasons: bool
    scenario: str
    system: str


class Because(TypedDict):
    """A past purchase that carried an item, and its share."""

    item_id: str
    share: float


class RecommendedItem(TypedDict):
    """A place of a list."""

    item_id: str
    name: str
    score: float
    source: str
    reason: str | None
    because: list[Because]


class Recommendation(TypedDict):
    """A list, best first; ``recommendation_id`` goes into events of what was bought out of it."""

    recommendation_id: str
    model: str
    system: str
    snapshot_date: str
    took_ms: float
    scenario: str | None
    variant: str | None
    items: list[RecommendedItem]
    warnings: list[str]


class ErrorText(TypedDict):
    """What is wrong with one request of a batch."""

    code: str
    message: str
    field: str | None


class Failure(TypedDict):
    """What stands in a batch in place of a list that could not be made."""

    error: ErrorText


class SimilarItem(TypedDict):
    """An item and how near it is."""

    item_id: str
    name: str
    score: float


class Event(TypedDict):
    """A purchase, of a customer or a session; sent again under its ``event_id`` it counts once."""

    event_id: str
    customer_id: NotRequired[str]
    session_id: NotRequired[str]
    item_id: str
    timestamp: Time
    quantity: NotRequired[float]
    price: NotRequired[float]
    channel: NotRequired[str]
    recommendation_id: NotRequired[str]


class Rejected(TypedDict):
    """An event that was not taken, by its place among those sent."""

    index: int
    why: str


class EventsAnswer(TypedDict):
    """What became of events."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class ItemsQuery(TypedDict, total=False):
    """Which items are looked for."""

    ids: Sequence[str]
    search: str
    where: Where
    limit: int
    offset: int


class CustomersQuery(TypedDict, total=False):
    """Which customers are looked for: by ids, by the beginning of one, or some at random."""

    ids: Sequence[str]
    search: str
    random: int
    limit: int


class HistoryQuery(TypedDict, total=False):
    """Whose purchases are asked for, and at which day."""

    customer_id: str
    session_id: str
    date: Time
    limit: int


class Client:
    """Asks a service; several threads may share it, each request having a connection of its own that is kept open.

    Every method raises a ClientError where the service refuses, is not there, or takes longer than ``timeout`` seconds.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 10.0) -> None:
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        except ValueError:  # of the port, or of an IPv6 address
            is_address = False
        if not is_address:
            raise UsageError(f"{url} is no address of a service; expected one such as http://127.0.0.1:8000")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError("the key holds signs that no header may; expected the key as the service was given it")
        self._url, self._timeout, self._parts = url, timeout, parts
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers |= {} if key is None else {"Authorization": f"Bearer {key}"}
        self._idle: list[HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
        while (connection := self._kept()) is not None:
            connection.close()

    def recommend(self, **request: Unpack[RecommendRequest]) -> Recommendation:
        """Return a list for a customer, a session or a history; for nobody the best sellers."""
        return self._call("POST", "/v1/recommend", request)

    def next(self, recommendation_id: str, k: int = 12) -> Recommendation:
        """Return the ``k`` best items that were not yet shown under an id."""
        return self._call("POST", f"/v1/recommend/{quote(recommendation_id, safe='')}/next", {"k": k})

    def batch(self, requests: Sequence[RecommendRequest]) -> list[Recommendation | Failure]:
        """Return a list, or what is wrong, for each of ``requests``, in their order."""
        return self._call("POST", "/v1/recommend/batch", {"requests": requests})["answers"]

    def similar(self, item_id: str, k: int = 12, by: Literal["vector", "co_purchases"] = "vector") -> list[SimilarItem]:
        """Return the ``k`` items nearest to an item, or most bought with it."""
        return self._call("POST", "/v1/similar", {"item_id": item_id, "k": k, "by": by})["items"]

    def items(self, **query: Unpack[ItemsQuery]) -> dict[str, Any]:
        """Return ``total``, ``attributes`` and the ``items`` found."""
        return self._call("POST", "/v1/items/query", query)

    def customers(self, **query: Unpack[CustomersQuery]) -> dict[str, Any]:
        """Return ``total`` and the ``customers`` found."""
        return self._call("POST", "/v1/customers/query", query)

    def history(self, **query: Unpack[HistoryQuery]) -> dict[str, Any]:
        """Return the ``purchases`` before a day, and those of that day and ``later``."""
        return self._call("POST", "/v1/customers/history", query)

    def send_events(self, events: Iterable[Event], items: Iterable[Mapping[str, Any]] = ()) -> EventsAnswer:
        """Send purchases, and new items with their ids and attributes; when this returns, they are on disk."""
        return self._call("POST", "/v1/events", {"events": list(events), "items": list(items)})

    def delete_customer(self, customer_id: str) -> dict[str, Any]:
        """Remove what the service keeps of a customer; the key must be an admin's."""
        return self._call("POST", "/v1/customers/delete", {"customer_id": customer_id})

    def scenarios(self) -> dict[str, Any]:
        """Return the settings of all scenarios by name."""
        return self._call("GET", "/v1/scenarios")["scenarios"]

    def put_scenario(self, name: str, settings: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Add a scenario or replace its settings."""
        return self._call("PUT", "/v1/scenarios", {"name": name, "settings": settings, "who": who})

    def remove_scenario(self, name: str, who: str) -> dict[str, Any]:
        """Remove a scenario."""
        return self._call("POST", "/v1/scenarios/delete", {"name": name, "who": who})

    def scenario_changes(self, name: str) -> list[dict[str, Any]]:
        """Return who changed a scenario when, and from what to what, the oldest first."""
        return self._call("POST", "/v1/scenarios/changes", {"name": name})["changes"]

    def metrics(self) -> list[dict[str, Any]]:
        """Return what came of the lists, a row for each scenario and variant."""
        return self._call("GET", "/v1/metrics/scenarios")["rows"]

    def models(self) -> dict[str, Any]:
        """Return what is served: models, systems, attributes and data."""
        return self._call("GET", "/v1/models")

    def switch_model(self, run: str) -> dict[str, Any]:
        """Let another of the models answer from now on; the key must be an admin's."""
        return self._call("POST", "/v1/admin/model", {"run": run})

    def ready(self) -> bool:
        """Return whether the service is there and answers requests."""
        try:
            self._call("GET", "/health/ready")
        except ClientError:
            return False
        return True

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body, allow_nan=False, default=_iso_text).encode()
        status, headers, raw = self._exchange(method, self._parts.path.rstrip("/") + path, data)
        try:
            answer = json.loads(raw)
        except ValueError as error:
            message = f"{self._url}{path} answered {status} with no JSON; check that the address is a service's"
            raise ClientError("no_json", message, status=status) from error
        if status >= 400:
            said = answer.get("error") if isinstance(answer, dict) else None
            said = said if isinstance(said, dict) else {}
            wait = headers.get("Retry-After", "")
            raise ClientError(
                said.get("code", "unknown"),
                said.get("message", f"{self._url}{path} answered {status}"),
                field=said.get("field"),
                status=status,
                retry_after=float(wait) if wait.isdigit() else None,
            )
        return answer

    def _exchange(self, method: str, path: str, data: bytes | None, *, again: bool = False) -> tuple[Any, ...]:
        """Return status, headers and body of an answer.

        What was sent on a kept connection that the server had closed meanwhile is sent once more, on a new one. Where
        the first was read after all, events still count once, and only ``next`` skips some items.
        """
        kept = None if again else self._kept()
        connection = kept or self._connect()
        try:
            connection.request(method, path, data, self._headers)
            response = connection.getresponse()
            raw = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            if kept is not None and isinstance(error, ConnectionError):
                return self._exchange(method, path, data, again=True)
            code, what = "unreachable", f"cannot be reached ({error or type(error).__name__}); check that it runs"
            if isinstance(error, TimeoutError):
                code, what = (
                    "timeout",
                    f"did not answer within {self._timeout:g} s; ask again, or wait longer: timeout=",
                )
            raise ClientError(code, f"{self._url} {what}") from error
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, response.headers, raw

    def _kept(self) -> HTTPConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout)


def _iso_text(value: object) -> str:
    if isinstance(value, dt.date):  # a datetime is one
        return value.isoformat()
    raise TypeError(f"found {value!r} of type {type(value).__name__}; expected text, a number, a date or a list")
