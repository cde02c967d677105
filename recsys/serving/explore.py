"""What only the page asks for: the map, items in detail, continuations, previews of rules, the report, pictures."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from recsys.config import RAW_DIR
from recsys.data.days import day_number
from recsys.reports.shell import REPORT_FILE
from recsys.runs import Embeddings, Run
from recsys.serving.item_facts import recommended_to
from recsys.serving.item_points import centred, text_vectors
from recsys.serving.jobs import RequestError
from recsys.serving.page_answers import (
    Continuation,
    OneItem,
    Places,
    Preview,
    continued,
    item_facts,
    map_bytes,
    named_places,
    own_vectors,
    previewed,
)
from recsys.serving.service import Service

PREFIX: Final = "/v1/explore"
#: Seconds for which the address of a report may be opened, without a key.
_TICKET_S: Final = 60
#: The report brings its own styles and pictures; nothing in it runs.
_REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"


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
        """Return the vectors of items, and of their texts once these are read."""
        async with self._making:
            served, n_items = self.service.current, len(self.service.live.item_row)
            if self._made is None or self._made.key != (served.name, n_items):
                made = _Made((served.name, n_items))
                own = await self.service.call(own_vectors, served.decoder)
                if own is not None:
                    made.vectors["items"] = await asyncio.to_thread(centred, own)
                self._made = made
                self._reading = asyncio.create_task(self._add_texts(made))
            return self._made

    async def _add_texts(self, made: _Made) -> None:
        """Add the vectors of texts when they are read: nobody waits for them."""
        embeddings: tuple[Embeddings, ...] = ("text", "bert")
        for embedding in embeddings:
            found = await asyncio.to_thread(text_vectors, embedding, self.run, self.service.live.base)
            if found is not None:
                made.vectors[embedding] = found

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
                made.maps[vectors] = await self.service.call(
                    map_bytes, self.service.live, made.vectors[vectors], vectors, self.run
                )
        return Response(made.maps[vectors], media_type="application/octet-stream")

    async def map_items(self, body: Places) -> dict[str, Any]:
        """Return place, id and name of items that are known."""
        return {"items": await self.service.call(named_places, self.service.live, body)}

    async def item(self, body: OneItem) -> dict[str, Any]:
        """Return what is near an item by each kind of vector, what is bought around it, its sales and its lists."""
        made = await self.made()
        facts: dict[str, Any] = await self.service.call(item_facts, self.service.answers, made.vectors, body)
        lists = await asyncio.to_thread(recommended_to, self.run, body.item_id, body.k)
        if lists is not None:  # the lists may be older than the wish of a customer to be forgotten
            known = self.service.live.user_index
            lists["customers"] = [one for one in lists["customers"] if known(one, None) is not None]
        return facts | {"recommended": lists}

    async def go_on(self, body: Continuation) -> dict[str, Any]:
        """Return how a history may go on, item by item, each with its probability."""
        if body.date is not None:
            await self.service.ahead.count(day_number(body.date))
        steps: dict[str, Any] = await self.service.call(continued, self.service, body)
        return steps

    async def preview(self, body: Preview) -> dict[str, Any]:
        """Return the lists that rules make for customers, and how many items they bring to those drawn."""
        lists: dict[str, Any] = await self.service.call(previewed, self.service.answers, body)
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
