"""Answers that only the page asks for, made on the thread that owns the model."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic import Field

from recsys.data.days import day_date, day_number
from recsys.data.purchases import Histories
from recsys.errors import UsageError
from recsys.modeling.generation import Method, SamplingConfig
from recsys.modeling.generation.generate import continue_histories
from recsys.modeling.recommenders.base import all_items
from recsys.runs import Embeddings, Run
from recsys.serving.answers import Answers
from recsys.serving.item_facts import around, weekly_sales
from recsys.serving.item_points import attributes_of, packed, plane_of
from recsys.serving.jobs import Ask
from recsys.serving.live import Live
from recsys.serving.lookups import known_item
from recsys.serving.scenarios import Rules, ScenarioSettings
from recsys.serving.schemas import Bought, Day, Id, Recommend, Request
from recsys.serving.service import Service

_MOST_PLACES: Final = 2_000
_MOST_SHOWN: Final = 12


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


def own_vectors(decoder: Any) -> np.ndarray | None:  # noqa: ANN401 - torch stays under modeling
    """Return the decoder's vectors of items (N, D), None where it has no transformer."""
    try:
        return np.asarray(decoder.unit_vectors()[1:])
    except UsageError:
        return None


def _named(live: Live, item: int) -> dict[str, Any]:
    return {"item_id": live.item_ids[item - 1], "name": live.item_name(item)}


def named_places(live: Live, body: Places) -> list[dict[str, Any]]:
    """Return place, id and name of items, of the map or by id, that are known."""
    places = [place for place in body.places if 0 <= place < len(live.item_ids)]
    places += [live.item_row[item_id] - 1 for item_id in body.item_ids if item_id in live.item_row]
    return [{"place": place} | _named(live, place + 1) for place in places]


def map_bytes(live: Live, unit: np.ndarray, embedding: Embeddings, run: Run) -> bytes:
    """Return the items with vectors ``unit`` (N, D) as the map of the page reads them."""
    plane, how = plane_of(unit, run, embedding, pa.array(live.item_ids[: len(unit)]))
    sold = live.at(live.day).sold(28)[1 : len(unit) + 1]
    return packed(plane, attributes_of(live.items[: len(unit)], sold), {"vectors": embedding, "layout": how})


def item_facts(answers: Answers, vectors: Mapping[Embeddings, np.ndarray], body: OneItem) -> dict[str, Any]:
    """Return what is near an item, what is bought around it, and its sales."""
    answers.catch_up()
    live, item = answers.live, known_item(answers.live, body.item_id)

    def ranked(values: np.ndarray, what: str) -> list[dict[str, Any]]:
        best = np.argsort(-values, kind="stable")[: body.k]
        return [_named(live, int(one)) | {what: values[one].item()} for one in best if values[one] > 0]

    near = {}
    for embedding, unit in vectors.items():
        if item <= len(unit):
            cosine = np.append(np.float32(0), unit @ unit[item - 1])
            cosine[item] = 0
            near[embedding] = ranked(cosine, "cosine")
    log = live.log
    counts = {name: ranked(count, "count") for name, count in around(log, item)._asdict().items()}
    weeks = {"end": day_date(log.last_day).isoformat(), "counts": weekly_sales(log, item).tolist()}
    return _named(live, item) | {"near": near, "around": counts, "weeks": weeks}


def continued(service: Service, body: Continuation) -> dict[str, Any]:
    """Return how a given history may go on, item by item, with probabilities."""
    service.answers.catch_up()
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


def previewed(answers: Answers, body: Preview) -> dict[str, Any]:
    """Return the lists of rules, by a scenario that exists only meanwhile; none is written down."""
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
