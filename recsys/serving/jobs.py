"""From a request to a job: whom it means, when, and out of what."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import PredictConfig
from recsys.data.days import day_date, day_number
from recsys.errors import RecsysError, RunError, nearest
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.wishes import Wish
from recsys.schema import DECODER, ITEM_ID
from recsys.serving.live import Live
from recsys.serving.live_histories import Whole
from recsys.serving.scenarios import Rules, ScenarioSettings, choose_variant, resolve_rules
from recsys.serving.schemas import Recommend

#: Masks of attributes that are kept.
_MAX_MASKS: Final = 256
#: Warnings name so many ids at most.
_NAMED: Final = 3


class RequestError(RecsysError):
    """A request that cannot be answered as it is; ``field`` is the part of it that is meant."""

    def __init__(self, message: str, *, code: str, field: str | None = None, status: int = 422) -> None:
        super().__init__(message)
        self.code, self.field, self.status = code, field, status


def error_of(error: BaseException) -> dict[str, Any]:
    """Return what stands in the place of an answer that failed; what is no error of a request is logged."""
    if not isinstance(error, RecsysError):
        logging.getLogger(__name__).error("a request of a batch failed", exc_info=error)
        return {"error": {"code": "broken", "message": "the server made a mistake; its log says which", "field": None}}
    code = getattr(error, "code", "no_store" if isinstance(error, RunError) else "unusable")
    return {"error": {"code": code, "message": str(error), "field": getattr(error, "field", None)}}


class Ask(NamedTuple):
    """A request with the id that its answer bears, and what was shown under it."""

    request: Recommend
    recommendation_id: str
    shown: tuple[str, ...] = ()


@dataclass
class Job:
    """A request that was looked up."""

    ask: Ask
    rules: Rules  # of the request and its scenario
    variant: str | None
    whole: Whole
    table_row: int
    day: int
    pool: str  # of candidates: all or on_sale
    wish: Wish
    warnings: list[str] = field(default_factory=list)

    @property
    def request(self) -> Recommend:
        """The request itself."""
        return self.ask.request

    def candidates(self, allowed: np.ndarray) -> Candidates:
        """Return the candidates of the job among those ``allowed`` (V,) to all."""
        added = self.wish.added
        mask = allowed if added is None else allowed & ~np.isneginf(added)
        return Candidates(mask, self.wish.repeats == "none")


class Jobs:
    """Looks requests up in what is known by now; keeps which items are candidates, and have an attribute."""

    def __init__(self, live: Live, scenarios: Mapping[str, ScenarioSettings]) -> None:
        """Take the scenarios by name, as they change."""
        self.live, self.scenarios = live, scenarios
        self._masks: dict[tuple[str, str, int], np.ndarray] = {}
        self._candidates: dict[tuple[str, int], np.ndarray] = {}

    def job(self, ask: Ask, predict: PredictConfig) -> Job:
        """Return what a request means to a run of these settings; RequestError where it cannot be answered."""
        request = ask.request
        rules, variant = self._rules_of(ask)
        if request.system != DECODER and request.system not in BASELINES:
            close = nearest(request.system, [DECODER, *BASELINES])
            raise RequestError(
                f"system is {request.system!r}; expected decoder or a rule; did you mean {close or DECODER!r}?",
                code="unknown_system",
                field="system",
            )
        warnings: list[str] = []
        day = self._day(request)
        whole, table_row = self._whole(request, day, warnings)
        pool = "all" if predict.sold_within_days is None else "on_sale"
        pool = rules.candidates if isinstance(rules.candidates, str) else pool
        repeats = rules.repeats or ("none" if predict.exclude_seen else "keep")
        added = self._added(rules, ask.shown, warnings)
        wish = Wish(request.k, repeats, added, whole=bool(rules.pins or rules.discoveries))
        return Job(ask, rules, variant, whole, table_row, day, pool, wish, warnings)

    def _rules_of(self, ask: Ask) -> tuple[Rules, str | None]:
        """Return the rules of a request and of the scenario it names, and its variant."""
        request, settings, variant = ask.request, None, None
        if request.scenario is not None:
            if request.scenario not in self.scenarios:
                known = ", ".join(self.scenarios) or "none yet: make it with PUT /v1/scenarios"
                raise RequestError(
                    f"scenario {request.scenario!r} is unknown; expected one of {known}",
                    code="unknown_scenario",
                    field="scenario",
                )
            settings = self.scenarios[request.scenario]
            key = request.customer_id or request.session_id or ask.recommendation_id
            variant = choose_variant(request.scenario, settings, key)
        own = {name: getattr(request, name) for name in ("candidates", "repeats", "where", "exclude")}
        return resolve_rules(settings, variant, own), variant

    def day_of(self, request: Recommend) -> int:
        """Return the day that is asked: the day after the newest purchase, one that is given too, unless said."""
        if request.date is not None:
            return day_number(request.date)
        return max(self.live.day, *(day_number(bought.date) + 1 for bought in request.history or ()), 0)

    def _day(self, request: Recommend) -> int:
        day, first = self.day_of(request), self.live.base.first_day
        if day <= first:
            raise RequestError(
                f"date is {day_date(day)}, and nothing was bought before; expected a day after {day_date(first)}",
                code="date_too_early",
                field="date",
            )
        return day

    def _whole(self, request: Recommend, day: int, warnings: list[str]) -> tuple[Whole, int]:
        """Return the history asked about, and the row of its customer in the table of users, or -1."""
        live = self.live
        parts, table_row = [], -1
        if request.customer_id is not None:
            user = live.user_index(request.customer_id, None)
            if user is None and request.history is None and request.session_id is None:
                warnings.append(
                    f"customer_id {request.customer_id!r} is unknown; best sellers are shown; send a history or events"
                )
            if user is not None:
                table_row = user
                parts.append(live.whole(user))
        if request.history is not None:
            parts.append(self._given(request, day, warnings))
        if request.session_id is not None:
            session = live.user_index(None, request.session_id)
            if session is None and len(parts) == 0:
                warnings.append(f"session_id {request.session_id!r} is unknown; what sells best is shown; send events")
            parts.append(live.whole(session))
        if not parts:
            return live.whole(None), table_row
        whole = parts[0]
        for part in parts[1:]:
            whole = live.together(whole, part)
        return whole, table_row

    def _given(self, request: Recommend, day: int, warnings: list[str]) -> Whole:
        events, unknown, later = [], [], 0
        for bought in request.history or ():
            item, on_day = self.live.item_row.get(bought.item_id, 0), day_number(bought.date)
            if not item:
                unknown.append(bought.item_id)
            elif on_day >= day:
                later += 1
            else:
                events.append((item, on_day, bought.quantity))
        if unknown:
            named = ", ".join(repr(item_id) for item_id in unknown[:_NAMED])
            warnings.append(f"history: {len(unknown)} items are unknown and left out, such as {named}")
        if later:
            warnings.append(f"history: {later} purchases of {day_date(day)} or later are not known yet and left out")
        return self.live.given(events)

    def _added(self, rules: Rules, shown: Sequence[str], warnings: list[str]) -> np.ndarray | None:
        """Return what is added to the scores (V,): boosts, and -inf, which rules out; None where it is nothing."""
        live, n_rows = self.live, len(self.live.item_row) + 1
        out = np.zeros(n_rows, dtype=bool)
        if not isinstance(rules.candidates, str | None):
            out[:] = True
            out[self._known(rules.candidates, "candidates")] = False
        for attribute, values in rules.where.items():
            out |= ~self.mask(attribute, values, f"where.{attribute}")
        excluded = [live.item_row.get(item_id, 0) for item_id in (*rules.exclude, *shown)]
        n_unknown = excluded[: len(rules.exclude)].count(0)
        if n_unknown:
            warnings.append(f"exclude: {n_unknown} of {len(rules.exclude)} items are unknown; they cannot be listed")
        out[excluded] = True
        if not out[1:].any() and not rules.boosts:
            return None
        added = np.where(out, -np.inf, 0).astype(np.float32)
        for boost in rules.boosts:
            if boost.item_ids:
                added[self._known(boost.item_ids, "scenario.boosts")] += np.float32(boost.add)
            for attribute, values in boost.where.items():
                added[self.mask(attribute, values, f"scenario.boosts.{attribute}")] += np.float32(boost.add)
        return added

    def _known(self, item_ids: Sequence[str], field_name: str) -> list[int]:
        rows = [self.live.item_row.get(item_id, 0) for item_id in item_ids]
        if 0 in rows:
            place = rows.index(0)
            raise RequestError(
                f"{field_name}: {rows.count(0)} of {len(rows)} items are unknown, such as {item_ids[place]!r}; "
                "expected ids as in the purchases; look them up with /v1/items/query",
                code="unknown_item",
                field=f"{field_name}.{place}",
            )
        return rows

    def mask(self, attribute: str, values: Sequence[str], field_name: str) -> np.ndarray:
        """Return (V,) bool, which items have one of ``values`` in an attribute."""
        columns = [name for name in self.live.items.column_names if name != ITEM_ID]
        if attribute not in columns:
            close = nearest(attribute, columns)
            raise RequestError(
                f"items have no attribute {attribute!r}; expected {', '.join(columns) or 'none: there are none'}"
                f"{f'; did you mean {close}?' if close else ''}",
                code="unknown_attribute",
                field=field_name,
            )
        masks = [self._mask(attribute, value, field_name) for value in values]
        return np.logical_or.reduce(masks) if masks else np.zeros(len(self.live.item_row) + 1, dtype=bool)

    def _mask(self, attribute: str, value: str, field_name: str) -> np.ndarray:
        key = attribute, value, len(self.live.item_row)
        if key not in self._masks:
            texts = self.live.items[attribute].cast(pa.string()).combine_chunks()
            has = np.asarray(pc.fill_null(pc.equal(texts, value), False))
            if not has.any():
                close = nearest(value, pc.unique(texts).drop_null().to_pylist()[:5000])
                raise RequestError(
                    f"no item has {attribute} {value!r}; expected a value as in the table of items"
                    f"{f'; did you mean {close!r}?' if close else ''}",
                    code="unknown_value",
                    field=field_name,
                )
            if len(self._masks) >= _MAX_MASKS:
                del self._masks[next(iter(self._masks))]
            self._masks[key] = np.append(False, has)
        return self._masks[key]

    def candidates(self, pool: str, day: int) -> np.ndarray:
        """Return the mask (V,) of candidates; the same array as long as they are the same."""
        key = pool, day if pool == "on_sale" else 0
        n_rows = len(self.live.item_row) + 1
        if key not in self._candidates or len(self._candidates[key]) != n_rows:
            if len(self._candidates) >= _MAX_MASKS:
                self._candidates.clear()
            self._candidates[key] = self.live.on_sale(day) if pool == "on_sale" else all_items(n_rows - 1)
        return self._candidates[key]

    def refresh(self) -> None:
        """Count candidates by what is known now; masks that stay the same stay the same arrays."""
        now = ("on_sale", self.live.day)
        kept = self._candidates.get(now)
        self._candidates = {key: mask for key, mask in self._candidates.items() if key[0] == "all"}
        if kept is not None:
            fresh = self.live.on_sale(self.live.day)
            self._candidates[now] = kept if np.array_equal(kept, fresh) else fresh
