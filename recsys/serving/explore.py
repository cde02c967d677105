"""What only the page asks for: the map, items in detail, continuations, the report, pictures."""

import asyncio
import datetime as dt
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import narwhals as nw
import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from recsys.config import RAW_DIR
from recsys.data.days import day_date, day_number
from recsys.data.frames import given_histories
from recsys.data.purchases import Histories
from recsys.errors import DataError, UsageError
from recsys.modeling.generation import Method, SamplingConfig
from recsys.modeling.recommenders.base import all_items
from recsys.reports.item_map.layout import unit_vectors
from recsys.reports.shell import REPORT_FILE
from recsys.runs import Embeddings, Run
from recsys.serving.item_facts import around, recommended_to, weekly_sales
from recsys.serving.item_points import attributes_of, packed, plane_of, text_vectors

router = APIRouter(prefix="/v1/explore", include_in_schema=False)

#: Seconds for which the address of a report may be opened without a key.
_TICKET_SECONDS: Final = 60
_MOST_PLACES: Final = 2_000
#: The report brings its own styles and pictures and runs nothing.
_REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Places(_Body):
    """Items by their place on the map, or by id."""

    places: list[int] = Field([], max_length=_MOST_PLACES)
    item_ids: list[str] = Field([], max_length=_MOST_PLACES)


class OneItem(_Body):
    """An item by its id."""

    item_id: str = Field(max_length=200)
    k: int = Field(12, ge=1, le=50)


class Purchase(_Body):
    """A purchase of a history that is given."""

    item_id: str = Field(max_length=200)
    date: dt.date
    quantity: float = Field(1, gt=0)


class Continuation(_Body):
    """A history, of a customer or given, and how it is gone on from."""

    customer_id: str | None = Field(None, max_length=200)
    history: list[Purchase] | None = Field(None, max_length=5_000)
    date: dt.date | None = None
    n: int = Field(8, ge=1, le=24)
    seed: int = Field(42, ge=0, lt=2**31)
    method: Method = "sample"
    temperature: float = Field(1, gt=0, le=5)


@dataclass
class _Made:
    """What was made of the items of one model, kept until there is another or there are more items."""

    key: tuple[str, int]
    vectors: dict[Embeddings, np.ndarray] = field(default_factory=dict)
    maps: dict[Embeddings, bytes] = field(default_factory=dict)


@dataclass
class _Kept:
    """What the page's part of the service remembers."""

    made: _Made | None = None
    making: asyncio.Lock = field(default_factory=asyncio.Lock)
    tickets: dict[str, float] = field(default_factory=dict)


def _kept(request: Request) -> _Kept:
    state = request.app.state
    if not hasattr(state, "explore"):
        state.explore = _Kept()
    return state.explore


async def _made(request: Request) -> _Made:
    """Return the vectors of all kinds that there are, made once."""
    service, kept = request.app.state.service, _kept(request)
    async with kept.making:
        served, n_items = service.current, await service.call(lambda: len(service.live.item_ids))
        if kept.made is None or kept.made.key != (served.name, n_items):
            made = _Made((served.name, n_items))
            own = await service.call(_own_vectors, served.system)
            if own is not None:
                made.vectors["items"] = await asyncio.to_thread(unit_vectors, own)
            kinds: tuple[Embeddings, ...] = ("text", "bert")
            for kind in kinds:
                found = await asyncio.to_thread(text_vectors, kind, served.run, served.system.log)
                if found is not None:
                    made.vectors[kind] = found
            kept.made = made
        return kept.made


def _own_vectors(system: Any) -> np.ndarray | None:  # noqa: ANN401 - a decoder, or a rule without vectors
    try:
        return np.asarray(system.vectors()[1:])
    except (AttributeError, UsageError):
        return None


@router.get("/about")
async def about(request: Request) -> dict[str, Any]:
    """Return what the page can show of the run that serves."""
    served = request.app.state.service.current
    made = await _made(request)
    return {
        "pictures": _pictures(served.run).is_dir(),
        "report": (served.run.report_folder / REPORT_FILE).is_file(),
        "maps": list(made.vectors),
        "continues": hasattr(served.system, "generate"),
    }


@router.get("/map")
async def item_map(request: Request, vectors: Embeddings = "items") -> Response:
    """Return all items as points, see :mod:`recsys.serving.item_points`."""
    service, made = request.app.state.service, await _made(request)
    if vectors not in made.vectors:
        found = ", ".join(made.vectors) or "none"
        raise DataError(f"vectors is {vectors}, of which the run has no item vectors; expected one of: {found}")
    async with _kept(request).making:
        if vectors not in made.maps:
            made.maps[vectors] = await service.call(_map, service, made.vectors[vectors], vectors)
    return Response(made.maps[vectors], media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})


def _map(service: Any, unit: np.ndarray, kind: Embeddings) -> bytes:  # noqa: ANN401
    live = service.live
    plane, how = plane_of(unit, service.current.run, kind, pa.array(live.item_ids[: len(unit)]))
    sold = np.asarray(live.at(live.day).sold(28))[1 : len(unit) + 1]
    attributes = attributes_of(_table(live)[: len(unit)], sold)
    return packed(plane, attributes, {"vectors": kind, "layout": how})


def _table(live: Any) -> pa.Table:  # noqa: ANN401
    return live.items if isinstance(live.items, pa.Table) else nw.from_native(live.items, pass_through=True).to_arrow()


@router.post("/map/items")
async def map_items(request: Request, body: Places) -> dict[str, Any]:
    """Return place, id and name of items: of the map, or of those of given ids that are known."""
    live = request.app.state.service.live

    def named() -> list[dict[str, Any]]:
        places = [place for place in body.places if 0 <= place < len(live.item_ids)]
        places += [live.item_row[item_id] - 1 for item_id in body.item_ids if item_id in live.item_row]
        return [{"place": place} | _named(live, place + 1) for place in places]

    return {"items": await request.app.state.service.call(named)}


def _named(live: Any, item: int) -> dict[str, Any]:  # noqa: ANN401
    return {"item_id": live.item_ids[item - 1], "name": live.item_name(item)}


@router.post("/item")
async def item(request: Request, body: OneItem) -> dict[str, Any]:
    """Return what is near an item by each kind of vector, what is bought around it, its sales and its lists."""
    service, made = request.app.state.service, await _made(request)
    facts: dict[str, Any] = await service.call(_facts, service, made, body)
    told = await asyncio.to_thread(recommended_to, service.current.run, body.item_id, body.k)
    return facts | {"recommended": told}


def _facts(service: Any, made: _Made, body: OneItem) -> dict[str, Any]:  # noqa: ANN401
    live = service.live
    item = _known(live, body.item_id)
    log = live.log

    def ranked(values: np.ndarray, what: str) -> list[dict[str, Any]]:
        best = np.argsort(-values, kind="stable")[: body.k]
        return [_named(live, int(one)) | {what: values[one].item()} for one in best if values[one] > 0]

    near = {}
    for kind, unit in made.vectors.items():
        if item <= len(unit):
            cosine = np.concatenate([[0], unit @ unit[item - 1]])
            cosine[item] = 0
            near[kind] = ranked(cosine, "cosine")
    counts = {name: ranked(count, "count") for name, count in around(log, item)._asdict().items()}
    weeks = weekly_sales(log, item)
    last = {"last_week_ends": day_date(log.last_day).isoformat(), "counts": weeks.tolist()}
    return _named(live, item) | {"near": near, "around": counts, "weeks": last}


def _known(live: Any, item_id: str) -> int:  # noqa: ANN401
    found = live.item_row.get(item_id)
    if found is None:
        raise DataError(f"item_id is {item_id!r}, which is unknown; expected an id such as {live.item_ids[0]!r}")
    return int(found)


@router.post("/continue")
async def go_on(request: Request, body: Continuation) -> dict[str, Any]:
    """Return how a history may go on, item by item, each with its probability."""
    service = request.app.state.service
    steps: dict[str, Any] = await service.call(_continued, service, body)
    return steps


def _continued(service: Any, body: Continuation) -> dict[str, Any]:  # noqa: ANN401
    system, live = service.current.system, service.live
    if not hasattr(system, "generate"):
        raise UsageError(f"{system.name} cannot continue histories; serve a decoder")
    histories = _histories(live, body, live.day if body.date is None else day_number(body.date))
    sampling = SamplingConfig(body.method, body.temperature, None, None, True, body.n, body.seed)
    found = system.generate(histories, sampling, all_items(len(live.item_ids)))
    pairs = zip(found.item[0].tolist(), np.exp(found.log_probability[0]).tolist(), strict=True)
    steps = [_named(live, item) | {"probability": probability} for item, probability in pairs if item]
    return {"steps": steps, "ended": bool(found.ended[0])}


def _histories(live: Any, body: Continuation, day: int) -> Histories:  # noqa: ANN401
    if body.history is not None:
        events = [(one.item_id, one.date, one.quantity) for one in body.history]
        given = given_histories(live.log, [events], day)
        if given.unknown_items:
            _known(live, str(given.unknown_items[0][1]))
        return given.histories
    index = live.log.user_index_of(pa.array([body.customer_id], pa.string()))
    if index[0] < 0:
        raise DataError(f"customer_id is {body.customer_id!r}, which is unknown; give a known id, or a history")
    return live.log.histories(day).of(index)


@router.post("/report")
async def report_ticket(request: Request) -> dict[str, str]:
    """Return an address at which the report can be opened once, soon: a frame cannot send a key."""
    tickets, now = _kept(request).tickets, time.monotonic()
    for old in [ticket for ticket, until in tickets.items() if until < now]:
        del tickets[old]
    ticket = secrets.token_urlsafe()
    tickets[ticket] = now + _TICKET_SECONDS
    return {"address": f"{router.prefix}/report?ticket={ticket}"}


@router.get("/report")
async def report(request: Request, ticket: str) -> Response:
    """Return the report of the run that serves, for a frame in which nothing runs."""
    if _kept(request).tickets.pop(ticket, 0) < time.monotonic():
        raise DataError("ticket is unknown or too old; expected one that was just given: open the page again")
    path = request.app.state.service.current.run.report_folder / REPORT_FILE
    if not path.is_file():
        raise DataError(f"{path} is missing; write it with `recsys report`")
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


@router.get("/picture")
async def picture(request: Request, item_id: str) -> Response:
    """Return the picture of a known item, where the shop has one."""
    service = request.app.state.service
    folder = _pictures(service.current.run).resolve()
    if item_id in service.live.item_row:
        path = (folder / item_id[:3] / f"{item_id}.jpg").resolve()
        if path.is_relative_to(folder) and path.is_file():
            return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})
    return Response(status_code=404)


def _pictures(run: Run) -> Path:
    """Return the folder of the shop's pictures, as H&M's competition has it."""
    raw = run.config.data.raw or RAW_DIR / run.config.data.source
    return (raw if raw.is_dir() else raw.parent) / "images"
