"""What requests and answers hold: types, limits and examples, from which the OpenAPI document is made."""
# Long because: it is a list of all requests and answers, and what one of them may hold is found in one place.

import datetime as dt
import re
from math import isfinite
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints

from recsys.modeling.wishes import Repeats as Repeats
from recsys.serving.scenario_figures import ScenarioFigures
from recsys.serving.scenarios import ScenarioSettings

MAX_K: Final = 200
MAX_HISTORY: Final = 2_000
MAX_IDS: Final = 10_000
MAX_BATCH: Final = 64
MAX_EVENTS: Final = 5_000
MAX_PAGE: Final = 500
_NO_TEXT: Final = re.compile("[\\x00\ud800-\udfff]")


def _clean(text: str) -> str:
    if _NO_TEXT.search(text):
        raise ValueError("found a NUL or half of a character pair; expected text; send the id as the shop writes it")
    return text


def _attribute(value: object) -> object:
    if isinstance(value, str):
        return _clean(value)
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    raise ValueError(f"found {repr(value)[:64]}; expected text, a number, true, false or null")


def _iso_day(value: object) -> object:
    if isinstance(value, dt.date) or (isinstance(value, str) and len(value) == len("2024-01-31")):
        return value
    raise ValueError(f"found {repr(value)[:64]}; expected a day such as 2024-01-31")


def _near_us(day: dt.date) -> dt.date:
    if not dt.date(1900, 1, 1) <= day <= dt.date(2200, 1, 1):
        raise ValueError(f"found {day}; expected a day from 1900 to 2200; correct it")
    return day


def _iso_time(value: object) -> object:
    if isinstance(value, dt.datetime) or (isinstance(value, str) and value[4:5] == value[7:8] == "-"):
        return value
    raise ValueError(f"found {repr(value)[:64]}; expected a time such as 2024-01-31T17:45:00")


def _whole(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value  # 12.0 is a whole number of JSON
    raise ValueError(f"found {repr(value)[:64]}; expected a whole number")


Id = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_clean)]
ListId = Annotated[Id, Field(max_length=64)]
Text = Annotated[str, StringConstraints(max_length=256), AfterValidator(_clean)]
Day = Annotated[dt.date, BeforeValidator(_iso_day), AfterValidator(_near_us), Field(examples=["2018-01-01"])]
Time = Annotated[dt.datetime, BeforeValidator(_iso_time), Field(examples=["2018-01-01T10:30:00"])]
Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Whole, Field(ge=1, le=MAX_K, examples=[12])]
Amount = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e6, le=1e6)]
Where = Annotated[dict[Text, Annotated[list[Text], Field(max_length=200)]], Field(max_length=20)]
Ids = Annotated[list[Id], Field(max_length=MAX_IDS)]
Value = Annotated[str | int | float | bool | None, BeforeValidator(_attribute)]


class Request(BaseModel):
    """What every request is: of known fields only."""

    model_config = ConfigDict(extra="forbid")


class Bought(Request):
    """A purchase of a history that is given."""

    item_id: Id
    date: Day
    quantity: Amount = 1.0


class Recommend(Request):
    """Whom to recommend what: a customer, a session or a history; of several the newer events are appended."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"k": 3}, {"history": [], "k": 3, "repeats": "none"}]}
    )

    customer_id: Id | None = None
    session_id: Id | None = None
    history: Annotated[list[Bought], Field(max_length=MAX_HISTORY)] | None = None
    k: Count = 12
    date: Day | None = Field(None, description="the day asked; the day after the newest purchase by default")
    candidates: Literal["all", "on_sale"] | Ids | None = Field(None, description="as the run has it by default")
    exclude: Ids = Field(default_factory=list)
    where: Where = Field(default_factory=dict, description="attribute: values, of which an item has one")
    repeats: Repeats | None = Field(None, description="items bought before: keep, only or none")
    reasons: StrictBool = False
    kept: StrictBool = Field(True, description="whether the list counts in figures and can be continued")
    scenario: Annotated[Id, Field(max_length=64)] | None = None
    system: Annotated[Id, Field(max_length=64)] = Field("decoder", description="decoder, or a rule to compare with")


class More(Request):
    """How many more."""

    k: Count = 12


class Batch(Request):
    """Several requests, answered in their order."""

    requests: Annotated[list[Recommend], Field(min_length=1, max_length=MAX_BATCH)]


class Because(BaseModel):
    """A past purchase that carried an item, and its share."""

    item_id: str
    share: float


class Item(BaseModel):
    """A recommended item."""

    item_id: str
    name: str
    score: float
    source: str = Field(description="decoder, popular (a best seller), pinned, or the rule that was asked")
    reason: str | None = None
    because: list[Because] = Field(default_factory=list)


class Answer(BaseModel):
    """A list, best first."""

    recommendation_id: str
    model: str
    system: str
    snapshot_date: dt.date
    took_ms: float
    scenario: str | None = None
    variant: str | None = None
    items: list[Item]
    warnings: list[str]


class ErrorText(BaseModel):
    """What went wrong: found, expected, what to do."""

    code: str
    message: str
    field: str | None = None


class Failure(BaseModel):
    """The form of every error."""

    error: ErrorText


class BatchAnswer(BaseModel):
    """Answers, and errors in the place of those that failed."""

    answers: list[Answer | Failure]


class Similar(Request):
    """An item whose like is asked for."""

    item_id: Id
    k: Count = 12
    by: Literal["vector", "co_purchases"] = "vector"


class ScoredItem(BaseModel):
    """An item and how near it is."""

    item_id: str
    name: str
    score: float


class SimilarAnswer(BaseModel):
    """Items like one, nearest first."""

    items: list[ScoredItem]


class ItemsQuery(Request):
    """Which items are looked for."""

    ids: Ids | None = None
    search: Text | None = None
    where: Where = Field(default_factory=dict)
    limit: Annotated[Whole, Field(ge=1, le=MAX_PAGE)] = 20
    offset: Annotated[Whole, Field(ge=0, le=10**9)] = 0


class ItemCard(BaseModel):
    """What is known of an item."""

    item_id: str
    name: str
    attributes: dict[str, Any]
    sold_7: int
    sold_28: int


class ItemsAnswer(BaseModel):
    """Items found, best sellers first."""

    total: int
    attributes: list[str]
    items: list[ItemCard]


class CustomersQuery(Request):
    """Which customers are looked for: by ids, by the beginning of an id, or some at random."""

    ids: Ids | None = None
    search: Text | None = None
    random: Annotated[Whole, Field(ge=1, le=100)] | None = None
    limit: Annotated[Whole, Field(ge=1, le=MAX_PAGE)] = 20


class CustomerCard(BaseModel):
    """What is known of a customer."""

    customer_id: str
    n_purchases: int
    first_date: dt.date | None
    last_date: dt.date | None
    attributes: dict[str, Any]


class CustomersAnswer(BaseModel):
    """Customers found."""

    total: int
    customers: list[CustomerCard]


class HistoryQuery(Request):
    """Whose purchases are asked for, as known at a day."""

    customer_id: Id | None = None
    session_id: Id | None = None
    date: Day | None = None
    limit: Annotated[Whole, Field(ge=1, le=5_000)] = 500


class Purchase(BaseModel):
    """One purchase."""

    item_id: str
    name: str
    date: dt.date
    price: float | None
    quantity: float
    basket: int


class HistoryAnswer(BaseModel):
    """The newest purchases before the day, oldest first, and what was bought on the day or later."""

    customer_id: str | None
    session_id: str | None
    date: dt.date
    purchases: list[Purchase]
    later: list[Purchase]


class Event(Request):
    """A purchase that has just been made."""

    event_id: Id
    customer_id: Id | None = None
    session_id: Id | None = None
    item_id: Id
    timestamp: Time
    quantity: Amount = 1.0
    price: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1e9)] | None = None
    channel: Annotated[Id, Field(max_length=64)] | None = None
    recommendation_id: ListId | None = None


class NewItem(BaseModel):
    """An item that is new: its id, and attributes as the item table has them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Value]

    item_id: Id


class Events(Request):
    """Purchases, and items that these are the first of."""

    events: Annotated[list[Event], Field(max_length=MAX_EVENTS)]
    items: Annotated[list[NewItem], Field(max_length=MAX_EVENTS)] = Field(default_factory=list)


class Rejected(BaseModel):
    """An event that was not taken."""

    index: int
    why: str


class EventsAnswer(BaseModel):
    """How many events were taken: these are in the database, and the next request sees them."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class Delete(Request):
    """Who is to be forgotten."""

    customer_id: Id


class Deleted(BaseModel):
    """What was removed."""

    events_removed: int
    tombstone: bool


class SwitchModel(Request):
    """Which of the runs listed at start answers from now on."""

    run: Id


class Models(BaseModel):
    """What is served."""

    model: str
    models: list[str]
    systems: list[str]
    attributes: list[str]
    k_max: int
    data: dict[str, Any]


Name = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_clean)]


class ScenarioName(Request):
    """Which scenario."""

    name: Name


class RemoveScenario(ScenarioName):
    """Which scenario is to go, and who says so."""

    who: Name


class Scenario(RemoveScenario):
    """A scenario: its rules under a name, and who made them so."""

    settings: ScenarioSettings


class Scenarios(BaseModel):
    """All scenarios by name."""

    scenarios: dict[str, ScenarioSettings]


class ScenarioChange(BaseModel):
    """One change: settings before and after, null where there were none."""

    who: str
    made_at: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ScenarioChanges(BaseModel):
    """The changes of a scenario, the oldest first."""

    changes: list[ScenarioChange]


class ScenarioMetrics(BaseModel):
    """What came of lists, by scenario and variant."""

    rows: list[ScenarioFigures]


class SavedCustomers(Request):
    """Customers that the page keeps at hand."""

    customer_ids: Annotated[list[Id], Field(max_length=100)]
