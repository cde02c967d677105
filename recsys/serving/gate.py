"""What every request passes before its route: keys, rate, size, type and time of its body; and what is counted."""

import asyncio
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.figures import Figures
from recsys.serving.worker import QueueFullError

Role = Literal["reader", "writer", "admin"]
ROLES: Final[tuple[Role, ...]] = ("reader", "writer", "admin")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

MAX_BODY: Final = 4 << 20
_BODY_S: Final = 10.0
#: What needs more than a reader's key; the page itself, and whether the server lives, need none.
_NEEDS: Final[dict[tuple[str, str], Role]] = {
    ("POST", "/v1/events"): "writer",
    ("PUT", "/v1/scenarios"): "writer",
    ("POST", "/v1/scenarios/delete"): "writer",
    ("PUT", "/v1/saved-customers"): "writer",
    ("POST", "/v1/customers/delete"): "admin",
    ("POST", "/v1/admin/model"): "admin",
}
_LISTS: Final = "/v1/recommend"
#: A report has an address that is given to whoever has a key.
_OPEN: Final = ("/health/", "/static/", "/v1/explore/report/")
_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class RefusedError(Exception):
    """A request that does not reach its route."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Rate:
    """Tokens of a bucket for each client, that fill at ``per_second`` and hold those of two seconds, one at least."""

    def __init__(self, per_second: float) -> None:
        self.per_second, self._most = per_second, max(2 * per_second, 1.0)
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> bool:
        """Return whether the client may ask now."""
        now = time.monotonic()
        left, since = self._left.pop(client, (self._most, now))
        left = min(left + (now - since) * self.per_second, self._most)
        self._left[client] = (left - 1 if left >= 1 else left), now
        if len(self._left) > 10_000:
            del self._left[next(iter(self._left))]
        return left >= 1


class Gate:
    """An ASGI application around another one."""

    def __init__(
        self,
        app: ASGIApp,
        figures: Figures,
        keys: Mapping[Role, Iterable[str]],
        rate: Rate,
        routes: Iterable[str],
        require_room: Callable[[], None],
    ) -> None:
        """Take the keys by role, none at all where the server is bound to this machine alone, and known ``routes``.

        ``require_room`` raises a QueueFullError where no list can be made now.
        """
        self.app, self.figures, self.rate = app, figures, rate
        self._require_room = require_room
        self._keys = [(role, key.encode()) for role in ROLES for key in keys.get(role, ())]
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 499

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in own)]
            await send(message)

        try:
            self._admit(scope)
            body = await _read(scope, receive)
            if body is not None:
                await self.app(scope, _replay(body, receive), send_on)
        except RefusedError as refused:
            await _refusal(refused)(scope, receive, send_on)
        finally:  # also where the application has answered 500 and raises, so that the server logs it
            path = scope["path"]
            route = path if path in self._routes else "other"
            self.figures.latency.labels(route).observe(time.perf_counter() - begin)
            self.figures.answers.labels(route, status).inc()

    def _admit(self, scope: Scope) -> None:
        headers = {name: value for name, value in scope["headers"] if name in (b"authorization", b"host")}
        path, needs = scope["path"], _NEEDS.get((scope["method"], scope["path"]), "reader")
        client = scope["client"][0] if scope.get("client") else "?"
        if not self._keys:
            given_host = headers.get(b"host", b"localhost").decode("latin-1").lower()
            host = given_host[1:].partition("]")[0] if given_host[:1] == "[" else given_host.partition(":")[0]
            if host not in LOOPBACK:
                raise RefusedError(
                    403, "foreign_host", f"found Host {host!r}, expected localhost; give keys to serve other machines"
                )
        elif path != "/" and not path.startswith(_OPEN):
            role, given = None, headers.get(b"authorization", b"")
            for place, (known, key) in enumerate(self._keys):
                # All are compared, whichever fits: the time says nothing.
                if hmac.compare_digest(given, b"Bearer " + key):
                    role, client = known, f"key:{place}"
            if role is None:
                raise RefusedError(401, "no_key", "expected a key; send the header Authorization: Bearer KEY")
            if ROLES.index(role) < ROLES.index(needs):
                raise RefusedError(403, "weak_key", f"found a key of a {role}, expected one of a {needs}; ask for it")
        if not path.startswith(_OPEN) and not self.rate.take(client):
            raise RefusedError(
                429, "too_fast", f"more than {self.rate.per_second:g} requests a second; send fewer", retry_after=1
            )
        if path == _LISTS:  # here, where it costs least: refusals further on would slow down all answers
            try:
                self._require_room()
            except QueueFullError as full:
                raise RefusedError(429, "busy", str(full), retry_after=1) from None


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """Return the body of a request, None where the client has gone; refuse one too long, too slow, or not JSON."""
    if scope["method"] in ("GET", "HEAD"):
        return b""
    headers = {name: value for name, value in scope["headers"] if name in (b"content-type", b"content-length")}
    length = headers.get(b"content-length", b"0")
    too_long = RefusedError(413, "too_long", f"found more than {MAX_BODY:,} bytes; send less in one request")
    if length.isdigit() and int(length) > MAX_BODY:
        raise too_long
    parts: list[bytes] = []
    try:
        n_bytes = 0
        async with asyncio.timeout(_BODY_S):
            async for part in Request(scope, receive).stream():
                parts.append(part)
                n_bytes += len(part)
                if n_bytes > MAX_BODY:
                    raise too_long
    except ClientDisconnect:
        return None
    except TimeoutError:
        raise RefusedError(408, "too_slow", f"the body took over {_BODY_S:g} s; send it at once") from None
    body = b"".join(parts)
    media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if body and media_type != b"application/json":
        raise RefusedError(415, "no_json", "expected JSON; send the header Content-Type: application/json")
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refusal(refused: RefusedError) -> JSONResponse:
    headers = {}
    if refused.retry_after is not None:
        headers["retry-after"] = str(refused.retry_after)
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refused.status == 408:  # of other answers the server reads the rest of the body: else the client reads none
        headers["connection"] = "close"
    said = {"error": {"code": refused.code, "message": refused.message, "field": None}}
    return JSONResponse(said, refused.status, headers)
