"""The service behind the routes: models over live purchases, the database, and the thread that owns the models."""

import asyncio
import datetime as dt
import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from weakref import WeakValueDictionary

import pyarrow as pa
from starlette.concurrency import run_in_threadpool

from recsys.data.days import day_date
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.wishes import on_one_thread
from recsys.runs import Run
from recsys.schema import DECODER, ITEM_ID
from recsys.serving.ahead import Ahead
from recsys.serving.answers import Answers, Served
from recsys.serving.figures import Figures
from recsys.serving.jobs import Ask, RequestError, error_of
from recsys.serving.live import Live
from recsys.serving.opening import decoder_of, events_since, open_models, saved_scenarios, zone_of
from recsys.serving.scenarios import ScenarioSettings
from recsys.serving.schemas import MAX_K, Event, Events, Recommend
from recsys.serving.store import Store
from recsys.serving.tables import EventRow, RecommendationRow
from recsys.serving.worker import MAX_BATCH, QueueFullError, Worker

#: Days that an answer can be continued, and counts in the figures of scenarios.
KEPT_DAYS: Final = 90
#: Hours that a purchase may lie ahead of the server's clock: shops have other time zones.
_HOURS_AHEAD: Final = 26


class Service:
    """Answers of the served models; what is written is seen by the next request."""

    def __init__(self, runs: Sequence[Run], store: Store, *, most_waiting: int = 64, deadline_s: float = 2.0) -> None:
        """Open the runs, the first to answer; a RunError says which cannot be served, and why."""
        self.store, self.figures = store, Figures()
        models = open_models(runs)
        self.runs = {run.name: run for run in runs}
        first = models[runs[0].name]
        settings = first.config.predict
        self.live = Live(
            first.log,
            segment=settings.segment,
            on_sale_days=settings.sold_within_days,
            forgotten=store.forgotten(first.log.user_ids),
        )
        served = {
            name: Served.over(name, model.config, decoder_of(model).decoder, self.live)
            for name, model in models.items()
        }
        self._zone, self._pruned_on = zone_of(first.config), ""
        self.answers = Answers(self.live, served, runs[0].name, saved_scenarios(store))
        rows, left_out = events_since(store, first.log, self.live)
        self.notes = left_out
        self.live.add(rows, store.items())
        self.answers.catch_up()
        self.answers.warm_up()
        self._writing = asyncio.Lock()
        self._catching_up: asyncio.Future[Any] | None = None
        self._continued: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.worker: Worker[Ask, dict[str, Any]] = Worker(
            self._answer,
            start=on_one_thread,
            most_waiting=most_waiting,
            deadline_s=deadline_s,
            wait=self.figures.wait,
            size=self.figures.batch,
        )
        self.ahead = Ahead(self.answers, self.worker)

    @property
    def current(self) -> Served:
        """The model that answers."""
        return self.answers.served[self.answers.current]

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - of any kind
        """Return what ``function`` gives, run alone on the thread that owns models and live purchases."""
        return await self.worker.call(function, *args)

    async def recommend(self, request: Recommend) -> dict[str, Any]:
        """Return the answer to a request; its id is in the database before."""
        await self.ahead.prepare(request)
        return await self.worker.submit(Ask(request, secrets.token_hex(12)))

    async def recommend_all(self, requests: Sequence[Recommend]) -> list[dict[str, Any]]:
        """Return an answer to each request, or an error in its place."""
        self.worker.require_room()  # once: they are let in together
        answers: list[dict[str, Any] | BaseException] = []
        for group in self.ahead.groups(requests):
            for request in group:  # one after another: what one needs is there for the next
                await asyncio.gather(self.ahead.prepare(request), return_exceptions=True)
            waiting = [self.worker.put(Ask(request, secrets.token_hex(12))) for request in group]
            answers += await asyncio.gather(*waiting, return_exceptions=True)
        return [answer if isinstance(answer, dict) else error_of(answer) for answer in answers]

    async def next(self, recommendation_id: str, k: int) -> dict[str, Any]:
        """Return the next ``k`` items of an earlier answer, none of which was shown under its id."""
        # Of two that ask at once the second must not be shown what the first is.
        async with self._continued.setdefault(recommendation_id, asyncio.Lock()):
            row = await run_in_threadpool(self.store.lists.find, recommendation_id)
            if row is None:
                raise RequestError(
                    f"recommendation_id {recommendation_id[:64]!r} is unknown; expected one of the last {KEPT_DAYS} "
                    "days; ask /v1/recommend for a new list",
                    code="unknown_recommendation",
                    field="recommendation_id",
                    status=404,
                )
            request = Recommend.model_validate_json(row.request).model_copy(update={"k": k})
            shown = tuple(json.loads(row.shown))
            await self.ahead.prepare(request)
            return await self.worker.submit(Ask(request, recommendation_id, shown))

    def _answer(self, asks: Sequence[Ask]) -> list[dict[str, Any] | Exception]:
        """Return the answers of a batch; what was shown is kept before anybody sees it."""
        answers = self.answers.answer(asks)
        made_at = _ago(0)
        if made_at[:10] != self._pruned_on and self.store.lists.prune(_ago(KEPT_DAYS)):  # a few with each batch
            self._pruned_on = made_at[:10]
        rows = [
            RecommendationRow(
                recommendation_id=ask.recommendation_id,
                made_at=made_at,
                user_id=ask.request.customer_id,
                session_id=ask.request.session_id,
                scenario=answer["scenario"],
                variant=answer["variant"],
                model=answer["model"],
                request=ask.request.model_dump_json(exclude_defaults=True),
                shown=json.dumps([*ask.shown, *(item["item_id"] for item in answer["items"])]),
            )
            for ask, answer in zip(asks, answers, strict=True)
            if isinstance(answer, dict) and ask.request.kept
        ]
        self.store.lists.save(rows)
        return answers

    async def take(self, events: Events) -> dict[str, Any]:
        """Write events to the database, then count them; return what became of each."""
        items = {one.item_id: dict(one.__pydantic_extra__ or {}) for one in events.items}
        self._require_attributes(items)
        rejected, rows = [], []
        for index, event in enumerate(events.events):
            why = self._why_not(event, items)
            if why is None:
                rows.append(self._row(event))
            else:
                rejected.append({"index": index, "why": why})
        customers = pa.array(sorted({row.user_id for row in rows if row.user_id is not None}), pa.string())
        gone = customers.filter(pa.array(await run_in_threadpool(self.store.forgotten, customers))).to_pylist()
        if gone:
            why = "the customer was deleted; expected one who was not; send it under another customer_id"
            places = [index for index, event in enumerate(events.events) if event.customer_id in gone]
            rejected += [{"index": index, "why": why} for index in places]
            rows = [row for row in rows if row.user_id not in gone]
        async with self._writing:
            new_items = {item_id: about for item_id, about in items.items() if not self.live.knows_item(item_id)}
            if new_items:
                await run_in_threadpool(self.store.add_items, new_items)
            is_new = await run_in_threadpool(self.store.add_events, rows)
            self.live.add([row for row, new in zip(rows, is_new, strict=True) if new], new_items)
        counts = {"accepted": sum(is_new), "duplicates": len(is_new) - sum(is_new), "rejected": len(rejected)}
        if len(rows) >= MAX_BATCH and (self._catching_up is None or self._catching_up.done()):
            with suppress(QueueFullError):  # so many take a while: no list is to wait for them
                self._catching_up = asyncio.ensure_future(self.worker.call(self.answers.catch_up))
        for outcome, count in counts.items():
            self.figures.events.labels(outcome).inc(count)
        return counts | {"rejected": rejected}

    def _require_attributes(self, items: dict[str, dict[str, Any]]) -> None:
        known = [name for name in self.live.items.column_names if name != ITEM_ID]
        for item_id, about in items.items():
            for name, value in about.items():
                if name not in known:
                    raise RequestError(
                        f"items: {item_id!r} has the attribute {name!r}; expected some of {', '.join(known)}",
                        code="unknown_attribute",
                        field="items",
                    )
                if value is not None and self.live.attribute(name, value) is None:
                    raise RequestError(
                        f"items: {item_id!r} has the {name} {repr(value)[:64]}; expected {self.live.items[name].type}",
                        code="invalid",
                        field="items",
                    )

    def _why_not(self, event: Event, items: dict[str, dict[str, Any]]) -> str | None:
        """Return why an event cannot be taken."""
        if (event.customer_id is None) == (event.session_id is None):
            return "found both or none of customer_id and session_id; expected one of them; send the event again"
        if event.item_id not in items and not self.live.knows_item(event.item_id):
            return (
                f"item {event.item_id!r} is unknown; expected one of the catalogue, or a new one beside the events, as "
                f'"items": [{{"item_id": {json.dumps(event.item_id)}}}] with its attributes'
            )
        latest = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(hours=_HOURS_AHEAD)
        if not dt.datetime(1970, 1, 2) <= self._local(event.timestamp) <= latest:
            return f"the time is {event.timestamp}; expected one from 1970 on that is not in the future; correct it"
        return None

    def _local(self, time: dt.datetime) -> dt.datetime:
        """Return a time as the shop's clock shows it; one without a zone is taken for that."""
        is_local = time.tzinfo is None or time.year in (dt.MINYEAR, dt.MAXYEAR)  # which a zone may lead out of
        return time.replace(tzinfo=None) if is_local else time.astimezone(self._zone).replace(tzinfo=None)

    def _row(self, event: Event) -> EventRow:
        return EventRow(
            event.event_id,
            event.customer_id,
            event.session_id,
            event.item_id,
            self._local(event.timestamp),
            event.quantity,
            event.price,
            event.channel,
            event.recommendation_id,
        )

    async def put_scenario(self, name: str, settings: ScenarioSettings, who: str) -> None:
        """Add a scenario or replace it, for the next request; who did it is kept."""
        async with self._writing:  # of two changes at once memory and database keep the same one
            await run_in_threadpool(self.store.put_scenario, name, settings.model_dump(exclude_defaults=True), who)
            self.answers.scenarios[name] = settings

    async def remove_scenario(self, name: str, who: str) -> None:
        """Remove a scenario; RequestError where there is none."""
        async with self._writing:
            if not await run_in_threadpool(self.store.remove_scenario, name, who):
                raise RequestError(
                    f"scenario {name!r} is unknown; expected one of {', '.join(self.answers.scenarios) or 'none yet'}",
                    code="unknown_scenario",
                    field="name",
                    status=404,
                )
            self.answers.scenarios.pop(name, None)

    async def forget(self, user_id: str) -> int:
        """Remove what the database holds of a customer, and read nothing of the log about them from now on."""
        async with self._writing:  # an event that is on its way would make the user known again
            try:
                n_events = await run_in_threadpool(self.store.delete_user, user_id)
            finally:  # whatever becomes of the file, and however many wait
                await run_in_threadpool(self.worker.run, self.answers.forget, user_id)
        return n_events

    async def switch(self, name: str) -> None:
        """Let another of the runs listed at start answer; RequestError where it was not listed."""
        if name not in self.answers.served:
            raise RequestError(
                f"run {name[:64]!r} is not served; expected one of {', '.join(self.answers.served)}; name it at "
                "start with --also",
                code="unknown_model",
                field="run",
                status=404,
            )
        await self.call(self.answers.switch, name)

    def about(self) -> dict[str, Any]:
        """Return what is served."""
        live = self.live
        return {
            "model": self.answers.current,
            "models": list(self.answers.served),
            "systems": [DECODER, *BASELINES],
            "attributes": [name for name in live.items.column_names if name != ITEM_ID],
            "k_max": MAX_K,
            "data": {
                "n_users": len(live.users),
                "n_items": len(live.item_row),
                "first_date": day_date(live.base.first_day).isoformat(),
                "last_date": day_date(live.day - 1).isoformat(),
            },
        }

    def close(self) -> None:
        """Answer what waits, then close the database."""
        self.ahead.close()
        self.worker.close()
        self.store.close()


def _ago(days: int) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat(timespec="seconds")
