"""The routes: each reads a request, asks the service, and says the answer as JSON."""

import datetime as dt
import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from recsys import __version__
from recsys.data.days import day_date
from recsys.errors import RecsysError, RunError, nearest
from recsys.serving import schemas
from recsys.serving.explore import explore_router
from recsys.serving.gate import Gate, Rate, Role
from recsys.serving.jobs import RequestError
from recsys.serving.lookups import find_customers, find_items, purchases_of, similar_items
from recsys.serving.scenario_figures import scenario_figures
from recsys.serving.service import Service
from recsys.serving.worker import HANGS_AFTER_S, DeadlineError, QueueFullError

_STATIC: Final = Path(__file__).with_name("static")
_FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": schemas.Failure} for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
}

#: Names of the fields of all requests.
_FIELDS: Final = sorted(
    {
        name
        for model in vars(schemas).values()
        if isinstance(model, type) and issubclass(model, schemas.Request)
        for name in model.model_fields
    }
)


def build_app(service: Service, keys: Mapping[Role, Iterable[str]], rate: float) -> ASGIApp:
    """Return the application: routes over ``service``, behind ``keys`` by role and ``rate`` requests a second."""
    app = FastAPI(
        title="recsys",
        version=__version__,
        description="Recommends what each customer will buy next. Errors have one form: found, expected, what to do.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_FAILURES,
    )
    _add_errors(app)
    _add_lists(app, service)
    _add_lookups(app, service)
    _add_writing(app, service)
    _add_scenarios(app, service)
    _add_state(app, service)
    app.include_router(explore_router(service))
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    return Gate(app, service.figures, keys, Rate(rate), paths, service.worker.require_room)


def said(value: Any) -> Response:  # noqa: ANN401 - what JSON can hold
    """Return an answer; it is made by us, and not checked again."""
    return Response(json.dumps(value), media_type="application/json")


def _add_lists(app: FastAPI, service: Service) -> None:
    @app.post("/v1/recommend", response_model=schemas.Answer)
    async def recommend(request: schemas.Recommend) -> Response:
        """Recommend items to a customer, a session, or somebody with a given history."""
        return said(await service.recommend(request))

    @app.post("/v1/recommend/batch", response_model=schemas.BatchAnswer)
    async def batch(request: schemas.Batch) -> Response:
        """Answer several requests; an error stands in the place of one that failed."""
        return said({"answers": await service.recommend_all(request.requests)})

    @app.post("/v1/recommend/{recommendation_id}/next", response_model=schemas.Answer)
    async def following(recommendation_id: schemas.ListId, request: schemas.More) -> Response:
        """Recommend the next items after those that were shown under an id."""
        return said(await service.next(recommendation_id, request.k))


def _add_lookups(app: FastAPI, service: Service) -> None:
    @app.post("/v1/similar", response_model=schemas.SimilarAnswer)
    async def similar(request: schemas.Similar) -> Response:
        """Find items like one."""
        return said(await service.call(similar_items, service.answers, request))

    @app.post("/v1/items/query", response_model=schemas.ItemsAnswer)
    async def items(request: schemas.ItemsQuery) -> Response:
        """Find items by id, by words, by attributes."""
        return said(await service.call(find_items, service.answers, request))

    @app.post("/v1/customers/query", response_model=schemas.CustomersAnswer)
    async def customers(request: schemas.CustomersQuery) -> Response:
        """Find customers by id, by the beginning of an id, or some at random."""
        return said(await service.call(find_customers, service.answers, request, secrets.randbits(32)))

    @app.post("/v1/customers/history", response_model=schemas.HistoryAnswer)
    async def history(request: schemas.HistoryQuery) -> Response:
        """Say what a customer or a session bought."""
        return said(await service.call(purchases_of, service.answers, request))


def _add_writing(app: FastAPI, service: Service) -> None:
    @app.post("/v1/events", response_model=schemas.EventsAnswer)
    async def events(request: schemas.Events) -> Response:
        """Take purchases; the next request sees them."""
        return said(await service.take(request))

    @app.post("/v1/customers/delete", response_model=schemas.Deleted)
    async def delete(request: schemas.Delete) -> Response:
        """Forget a customer: their events are removed, and the log says nothing of them any more."""
        return said({"events_removed": await service.forget(request.customer_id), "tombstone": True})

    @app.post("/v1/admin/model", response_model=schemas.Models)
    async def switch(request: schemas.SwitchModel) -> Response:
        """Let another of the runs listed at start answer."""
        await service.switch(request.run)
        return said(service.about())

    @app.put("/v1/saved-customers", response_model=schemas.SavedCustomers)
    async def save(request: schemas.SavedCustomers) -> Response:
        """Keep customers at hand for the page."""
        await run_in_threadpool(service.store.save_users, request.customer_ids)
        return said(request.model_dump())

    @app.get("/v1/saved-customers", response_model=schemas.SavedCustomers)
    async def saved() -> Response:
        """Return the customers kept at hand."""
        return said({"customer_ids": await run_in_threadpool(service.store.saved_users)})


def _add_scenarios(app: FastAPI, service: Service) -> None:
    @app.get("/v1/scenarios", response_model=schemas.Scenarios)
    async def scenarios() -> Response:
        """Return all scenarios."""
        return said({"scenarios": await run_in_threadpool(service.store.scenarios)})

    @app.put("/v1/scenarios", response_model=schemas.Scenario)
    async def put(request: schemas.Scenario) -> Response:
        """Add a scenario or replace it; who did it is kept."""
        await service.put_scenario(request.name, request.settings, request.who)
        return said(request.model_dump(mode="json"))

    @app.post("/v1/scenarios/delete", response_model=schemas.RemoveScenario)
    async def remove(request: schemas.RemoveScenario) -> Response:
        """Remove a scenario; who did it is kept."""
        await service.remove_scenario(request.name, request.who)
        return said(request.model_dump())

    @app.post("/v1/scenarios/changes", response_model=schemas.ScenarioChanges)
    async def changes(request: schemas.ScenarioName) -> Response:
        """Say who changed a scenario, when, and how."""
        made = await run_in_threadpool(service.store.scenario_changes, request.name)
        return said({"changes": [one._asdict() for one in made]})

    @app.get("/v1/metrics/scenarios", response_model=schemas.ScenarioMetrics)
    async def figures() -> Response:
        """Say what came of the lists of each scenario and variant, by events that name a list."""
        rows = await run_in_threadpool(scenario_figures, service.store)
        return said({"rows": [row.model_dump() for row in rows]})


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=schemas.Models)
    async def models() -> Response:
        """Say what is served."""
        return said(service.about())

    @app.get("/health/live")
    async def live() -> dict[str, bool]:
        """Say that the process lives."""
        return {"live": True}

    @app.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Say that the model answers, also where so many ask that some are refused."""
        if not service.worker.is_answering:
            why = f"the model's thread has ended, or has not answered for {HANGS_AFTER_S:g} s; restart the server"
            raise RequestError(why, code="not_ready", status=503)
        return {"ready": True}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        now = dt.datetime.now(dt.UTC).date()
        service.figures.staleness.set((now - day_date(service.live.day - 1)).days)
        return Response(generate_latest(service.figures.registry), media_type=CONTENT_TYPE_LATEST)

    if _STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=_STATIC), name="static")
        page = (_STATIC / "index.html").read_bytes()

        @app.get("/", include_in_schema=False)
        async def index() -> Response:
            return Response(page, media_type="text/html; charset=utf-8")


def _found(error: Mapping[str, Any]) -> str:
    """Return what was found and what was expected, by an error of validation."""
    message: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        close = nearest(error["loc"][-1], _FIELDS)
        return f"found a field that is not known{f'; did you mean {close}?' if close else '; expected none'}"
    if error["type"] == "missing":
        return "found nothing; expected a value, as /openapi.json says"
    return message if message.startswith("found") else f"found {str(error['input'])[:64]!r}; {message}"


def _add_errors(app: FastAPI) -> None:
    """Give every error one form."""

    def failure(status: int, code: str, message: str, field: str | None = None, after: int | None = None) -> Response:
        headers = {} if after is None else {"Retry-After": str(after)}
        body = json.dumps({"error": {"code": code, "message": message, "field": field}})
        return Response(body, status, headers, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("body", "path", "query")]
        message = f"{_found(first)}; correct {'.'.join(place) or 'the body'}"
        if first["type"] == "json_invalid":
            return failure(400, "no_json", f"the body is no JSON: {first['ctx']['error']}; correct it")
        return failure(422, "invalid", message, ".".join(place) or None)

    @app.exception_handler(RequestError)
    async def wrong(_: Request, error: RequestError) -> Response:
        return failure(error.status, error.code, str(error), error.field)

    @app.exception_handler(QueueFullError)
    async def full(_: Request, error: QueueFullError) -> Response:
        return failure(429, "busy", str(error), after=1)

    @app.exception_handler(DeadlineError)
    async def late(_: Request, error: DeadlineError) -> Response:
        return failure(503, "late", str(error), after=1)

    @app.exception_handler(RunError)
    async def unstored(_: Request, error: RunError) -> Response:
        return failure(503, "no_store", str(error), after=5)

    @app.exception_handler(RecsysError)
    async def other(_: Request, error: RecsysError) -> Response:
        return failure(422, "unusable", str(error))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:
            return failure(400, "no_json", "the body cannot be read; expected JSON in UTF-8; correct it")
        known = {404: "no such address", 405: f"{request.method} is not meant here"}
        message = f"{known.get(error.status_code, 'refused')}; expected one of /openapi.json; see docs/serving.md"
        answer = failure(error.status_code, f"http_{error.status_code}", message)
        if error.status_code == 405:  # of all routes at the address: the framework names those of the first
            there = [
                route for route in app.routes if isinstance(route, Route) and route.matches(request.scope)[0].value
            ]
            methods = {method for route in there for method in route.methods or ()}
            answer.headers["Allow"] = ", ".join(sorted(methods)) or answer.headers.get("Allow", "")
        return answer

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return failure(500, "broken", "the server made a mistake; its log says which; try again, or tell who runs it")
