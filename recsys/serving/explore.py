"""What only the page asks for: the map, items in detail, continuations, previews of rules, the report, pictures."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import Field

from recsys.config import RAW_DIR
from recsys.data.days import day_date, day_number
from recsys.data.purchases import Histories
from recsys.errors import UsageError
from recsys.modeling.generation import Method, SamplingConfig
from recsys.modeling.generation.generate import continue_histories
from recsys.modeling.recommenders.base import all_items
from recsys.reports.shell import REPORT_FILE
from recsys.runs import Embeddings, Run
from recsys.serving.answers import Answers, Ask, RequestError
from recsys.serving.item_facts import around, recommended_to, weekly_sales
from recsys.serving.item_points import attributes_of, centred, packed, plane_of, text_vectors
from recsys.serving.live import Live
from recsys.serving.scenarios import Rules, ScenarioSettings
from recsys.serving.schemas import Bought, Day, Id, Recommend, Request
from recsys.serving.service import Service

PREFIX: Final = "/v1/explore"
#: Seconds for which the address of a report may be opened, without a key.
_TICKET_S: Final = 60
_MOST_PLACES: Final = 2_000
_MOST_SHOWN: Final = 12
#: The report brings its own styles and pictures; nothing in it runs.
_REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"


class Places(Request):
    """Items by their place on the map, and by id."""

    places: list[int] = Field([], max_length=_MOST_PLACES)
    item_ids: list[Id] = Field([], max_length=_MOST_PLACES)


class OneItem(Request):
    """An item, and how many of each list are shown around it."""

    item_id: Id
    k: int = Field(12, ge=1, le=50)


class Continuation(Request):
    """A history that is given, and how it is gone on from."""

    history: list[Bought] = Field(max_length=2_000)
    date: Day | None = None
    n: int = Field(8, ge=1, le=24)
    seed: int = Field(42, ge=0, lt=2**31)
    method: Method = "sample"


class Preview(Request):
    """Rules that nobody has saved yet, and whose lists they are tried on."""

    rules: Rules
    customer_ids: list[Id] = Field([], max_length=_MOST_SHOWN)
    k: int = Field(12, ge=1, le=50)
    n_drawn: int = Field(0, ge=0, le=64, description="customers by whose lists coverage is measured, evenly over all")


@dataclass
class _Made:
    """What was made of the items of one model, kept until there is another, or there are more items."""

    key: tuple[str, int]
    vectors: dict[Embeddings, np.ndarray] = field(default_factory=dict)
    maps: dict[Embeddings, bytes] = field(default_factory=dict)


class _Page:
    """The answers that only the page asks for."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._made: _Made | None = None
        self._making = asyncio.Lock()
        self._tickets: dict[str, float] = {}

    @property
    def run(self) -> Run:
        return self.service.runs[self.service.current.name]

    async def made(self) -> _Made:
        """Return the vectors of all kinds that there are."""
        async with self._making:
            served, n_items = self.service.current, len(self.service.live.item_row)
            if self._made is None or self._made.key != (served.name, n_items):
                made = _Made((served.name, n_items))
                own = await self.service.call(_own_vectors, served.decoder)
                if own is not None:
                    made.vectors["items"] = await asyncio.to_thread(centred, own)
                embeddings: tuple[Embeddings, ...] = ("text", "bert")
                for embedding in embeddings:
                    found = await asyncio.to_thread(text_vectors, embedding, self.run, self.service.live.base)
                    if found is not None:
                        made.vectors[embedding] = found
                self._made = made
            return self._made

    async def about(self) -> dict[str, Any]:
        """Say what the page can show of the run that serves."""
        made = await self.made()
        is_reported = (self.run.report_folder / REPORT_FILE).is_file()
        return {"pictures": _pictures(self.run).is_dir(), "report": is_reported, "maps": list(made.vectors)}

    async def map(self, vectors: Embeddings = "items") -> Response:
        """Return all items as points, see :mod:`recsys.serving.item_points`."""
        made = await self.made()
        if vectors not in made.vectors:
            found = ", ".join(made.vectors) or "none"
            raise RequestError(
                f"vectors is {vectors}, of which there are none; expected one of: {found}; see docs/page.md",
                code="no_vectors",
                field="vectors",
                status=404,
            )
        async with self._making:
            if vectors not in made.maps:
                made.maps[vectors] = await self.service.call(_map, self.service.live, made, vectors, self.run)
        return Response(made.maps[vectors], media_type="application/octet-stream")

    async def map_items(self, body: Places) -> dict[str, Any]:
        """Return place, id and name of items that are known."""
        return {"items": await self.service.call(_named_places, self.service.live, body)}

    async def item(self, body: OneItem) -> dict[str, Any]:
        """Return what is near an item by each kind of vector, what is bought around it, its sales and its lists."""
        made = await self.made()
        facts: dict[str, Any] = await self.service.call(_facts, self.service.live, made, body)
        lists = await asyncio.to_thread(recommended_to, self.run, body.item_id, body.k)
        if lists is not None:  # the lists may be older than the wish of a customer to be forgotten
            known = self.service.live.user_index
            lists["customers"] = [one for one in lists["customers"] if known(one, None) is not None]
        return facts | {"recommended": lists}

    async def go_on(self, body: Continuation) -> dict[str, Any]:
        """Return how a history may go on, item by item, each with its probability."""
        steps: dict[str, Any] = await self.service.call(_continued, self.service, body)
        return steps

    async def preview(self, body: Preview) -> dict[str, Any]:
        """Return the lists that rules make for customers, and how many items they bring to those drawn."""
        lists: dict[str, Any] = await self.service.call(_previewed, self.service.answers, body)
        return lists

    async def ticket(self) -> dict[str, str]:
        """Return an address at which the report can be opened once, soon: a frame cannot send a key."""
        now = time.monotonic()
        self._tickets = {ticket: until for ticket, until in self._tickets.items() if until > now}
        ticket = secrets.token_urlsafe()
        self._tickets[ticket] = now + _TICKET_S
        return {"address": f"{PREFIX}/report/{ticket}"}

    async def report(self, ticket: str) -> Response:
        """Return the report of the run that serves."""
        path = self.run.report_folder / REPORT_FILE
        if self._tickets.pop(ticket, 0) < time.monotonic() or not path.is_file():
            raise RequestError(
                "found no report for this address; expected one that was just given; open the page again",
                code="no_report",
                status=404,
            )
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})

    async def picture(self, item_id: str) -> Response:
        """Return the picture of a known item, nothing where the shop has none."""
        if item_id not in self.service.live.item_row:
            return Response(status_code=404)
        folder = _pictures(self.run).resolve()
        path = (folder / item_id[:3] / f"{item_id}.jpg").resolve()
        if path.is_relative_to(folder) and path.is_file():
            return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})
        return Response(status_code=204)


def explore_router(service: Service) -> APIRouter:
    """Return the routes of the page; that of a report is open to whoever was given its address."""
    router, page = APIRouter(prefix=PREFIX, include_in_schema=False), _Page(service)
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("GET", "/about", page.about),
        ("GET", "/map", page.map),
        ("POST", "/map/items", page.map_items),
        ("POST", "/item", page.item),
        ("POST", "/continue", page.go_on),
        ("POST", "/preview", page.preview),
        ("POST", "/report", page.ticket),
        ("GET", "/report/{ticket}", page.report),
        ("GET", "/picture", page.picture),
    ]
    for method, path, answer in routes:
        router.add_api_route(path, answer, methods=[method], response_model=None)
    return router


def _pictures(run: Run) -> Path:
    """Return the folder of the shop's pictures, as H&M's competition has it."""
    raw = run.config.data.raw or RAW_DIR / run.config.data.source
    return (raw if raw.is_dir() else raw.parent) / "images"


# On the thread that owns the model.


def _own_vectors(decoder: Any) -> np.ndarray | None:  # noqa: ANN401 - torch stays under modeling
    try:
        return np.asarray(decoder.unit_vectors()[1:])
    except UsageError:
        return None


def _named(live: Live, item: int) -> dict[str, Any]:
    return {"item_id": live.item_ids[item - 1], "name": live.item_name(item)}


def _named_places(live: Live, body: Places) -> list[dict[str, Any]]:
    places = [place for place in body.places if 0 <= place < len(live.item_ids)]
    places += [live.item_row[item_id] - 1 for item_id in body.item_ids if item_id in live.item_row]
    return [{"place": place} | _named(live, place + 1) for place in places]


def _map(live: Live, made: _Made, embedding: Embeddings, run: Run) -> bytes:
    unit = made.vectors[embedding]
    plane, how = plane_of(unit, run, embedding, pa.array(live.item_ids[: len(unit)]))
    sold = live.at(live.day).sold(28)[1 : len(unit) + 1]
    return packed(plane, attributes_of(live.items[: len(unit)], sold), {"vectors": embedding, "layout": how})


def _facts(live: Live, made: _Made, body: OneItem) -> dict[str, Any]:
    item = live.item_row.get(body.item_id, 0)
    if not item:
        raise RequestError(
            f"item_id {body.item_id!r} is unknown; expected an id as in the purchases; look it up with /v1/items/query",
            code="unknown_item",
            field="item_id",
            status=404,
        )

    def ranked(values: np.ndarray, what: str) -> list[dict[str, Any]]:
        best = np.argsort(-values, kind="stable")[: body.k]
        return [_named(live, int(one)) | {what: values[one].item()} for one in best if values[one] > 0]

    near = {}
    for embedding, unit in made.vectors.items():
        if item <= len(unit):
            cosine = np.append(np.float32(0), unit @ unit[item - 1])
            cosine[item] = 0
            near[embedding] = ranked(cosine, "cosine")
    log = live.log
    counts = {name: ranked(count, "count") for name, count in around(log, item)._asdict().items()}
    weeks = {"end": day_date(log.last_day).isoformat(), "counts": weekly_sales(log, item).tolist()}
    return _named(live, item) | {"near": near, "around": counts, "weeks": weeks}


def _without_forgotten(live: Live, told: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out customers who were forgotten since the lists were written."""
    if told is not None:
        told["customers"] = [one for one in told["customers"] if live.user_index(one, None) is not None]
    return told


def _continued(service: Service, body: Continuation) -> dict[str, Any]:
    live, decoder = service.live, service.current.decoder
    histories = _given(live, body)
    sampling = SamplingConfig(method=body.method, no_repeat=True, max_items=body.n, seed=body.seed)
    found = continue_histories(decoder, histories, sampling, all_items(len(live.item_ids)))
    pairs = zip(found.item[0].tolist(), np.exp(found.log_probability[0]).tolist(), strict=True)
    steps = [_named(live, item) | {"probability": probability} for item, probability in pairs if item]
    return {"steps": steps, "ended": bool(found.ended[0])}


def _given(live: Live, body: Continuation) -> Histories:
    known = [one for one in body.history if one.item_id in live.item_row]
    whole = live.given([(live.item_row[one.item_id], day_number(one.date), one.quantity) for one in known])
    return live.joined([whole], np.array([-1]), live.day if body.date is None else day_number(body.date))


def _previewed(answers: Answers, body: Preview) -> dict[str, Any]:
    """Answer with a scenario that exists only meanwhile; no list is written down."""
    live, name = answers.live, secrets.token_hex(12)
    drawn = np.unique(np.linspace(0, live.base.n_users - 1, body.n_drawn).astype(np.int64)).tolist()
    ids = [*body.customer_ids, *(live.users.id_of(user) for user in drawn)]
    answers.scenarios[name] = ScenarioSettings.model_validate(body.rules.model_dump())
    try:
        made = answers.answer([Ask(Recommend(customer_id=one, k=body.k, scenario=name), "preview") for one in ids])
    finally:
        del answers.scenarios[name]
    for one in made:
        if isinstance(one, Exception):
            raise one
    lists = [one for one in made if isinstance(one, dict)]
    covered = {item["item_id"] for one in lists[len(body.customer_ids) :] for item in one["items"]}
    coverage = {"n_items": len(covered), "n_customers": len(drawn), "of_items": len(live.item_ids)}
    return {"lists": lists[: len(body.customer_ids)], "coverage": coverage}
