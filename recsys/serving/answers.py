"""From requests to lists, on the thread that owns the model: whom, when, out of what, by which system."""
# Long because: a request goes one way through it, from ids to an answer.

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Config
from recsys.data.days import day_date, day_number
from recsys.data.purchases import Histories
from recsys.errors import RecsysError, RunError, nearest
from recsys.modeling.explain.sentences import ReasonTexts, reasons_table
from recsys.modeling.recommenders.base import Candidates, Recommender, all_items
from recsys.modeling.recommenders.decoder import DecoderRecommender, fill_up
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.rule_system import fit_rule
from recsys.modeling.wishes import Scored, Wish, WishDecoder
from recsys.schema import DECODER, ITEM_ID, PAST_ITEM_ID, RANK, SHARE, TEXT, USER_ID
from recsys.serving.live import Live
from recsys.serving.live_histories import Whole
from recsys.serving.scenarios import (
    ListRules,
    PinnedItem,
    Rules,
    ScenarioSettings,
    apply_rules,
    choose_variant,
    resolve_rules,
)
from recsys.serving.schemas import Recommend

#: Masks of attributes that are kept.
_MAX_MASKS: Final = 256
#: Rules that are kept fitted.
_MAX_RULES: Final = 8
#: Warnings name so many ids at most.
_NAMED: Final = 3


class RequestError(RecsysError):
    """A request that cannot be answered as it is; ``field`` is the part of it that is meant."""

    def __init__(self, message: str, *, code: str, field: str | None = None, status: int = 422) -> None:
        super().__init__(message)
        self.code, self.field, self.status = code, field, status


class Ask(NamedTuple):
    """A request with the id that its answer bears, and what was shown under it."""

    request: Recommend
    recommendation_id: str
    shown: tuple[str, ...] = ()


class Known(NamedTuple):
    """What is known of everybody at a day, and the version of the live purchases that it is of."""

    version: int
    histories: Histories


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


@dataclass
class Listed:
    """The list of a job: items (n,), scores and where each comes from."""

    item: np.ndarray
    score: np.ndarray
    source: list[str]


@dataclass
class Served:
    """A run whose model answers."""

    name: str
    config: Config
    decoder: DecoderRecommender
    wishes: WishDecoder

    @classmethod
    def over(cls, name: str, config: Config, decoder: DecoderRecommender, live: Live) -> "Served":
        """Return the model of a run over what is known by now."""
        own = DecoderRecommender(decoder.model.eval(), live, decoder.user_codes)
        return cls(name, config, own, WishDecoder(own))

    def grown(self, live: Live) -> "Served":
        """Return the same model with rows for new items."""
        model = self.decoder.model.extended(live.codes)
        decoder = DecoderRecommender(model.eval(), live, self.decoder.user_codes)
        return Served(self.name, self.config, decoder, WishDecoder(decoder))


class Answers:
    """Answers batches of requests out of ``live``, by the served models."""

    def __init__(
        self, live: Live, served: Mapping[str, Served], current: str, scenarios: Mapping[str, ScenarioSettings]
    ) -> None:
        """Take the models by name, and scenarios by name as they change."""
        self.live, self.served, self.current, self.scenarios = live, dict(served), current, dict(scenarios)
        self._masks: dict[tuple[str, str, int], np.ndarray] = {}
        self._candidates: dict[tuple[str, int], np.ndarray] = {}
        self._rules: dict[tuple[str, int], tuple[int, Recommender]] = {}  # with the version of what they were fitted to
        self._texts: tuple[int, ReasonTexts] | None = None
        self._names: dict[int, str] = {}

    def catch_up(self) -> None:
        """Count what was added since; give models rows for new items."""
        before = self.live.version
        if self.live.catch_up():
            self.served = {name: one.grown(self.live) for name, one in self.served.items()}
            self._masks.clear()
        if self.live.version != before:
            self._texts = None
            self._refresh_candidates()

    def answer(self, asks: Sequence[Ask]) -> list[dict[str, Any] | Exception]:
        """Return an answer, or an error, for each of ``asks``."""
        begin = time.perf_counter()
        self.catch_up()
        answers: list[dict[str, Any] | Exception] = [RecsysError("nothing was answered")] * len(asks)
        groups: dict[tuple[str, int, str], list[tuple[int, Job]]] = defaultdict(list)
        for place, ask in enumerate(asks):
            try:
                job = self._job(ask)
            except RecsysError as error:
                answers[place] = error
            else:
                groups[job.request.system, job.day, job.pool].append((place, job))
        for (system, day, pool), jobs in groups.items():
            try:
                made = self._group([job for _, job in jobs], system, day, pool)
            except RecsysError as error:
                made = [error] * len(jobs)
            for (place, _), one in zip(jobs, made, strict=True):
                answers[place] = one
        took = round(1000 * (time.perf_counter() - begin), 2)
        for one in answers:
            if isinstance(one, dict):
                one["took_ms"] = took
        return answers

    def warm_up(self) -> None:
        """Count the tables and make the vectors that the first requests would wait for."""
        self.live.cold_start(self.live.day, 0)
        user = int(np.argmax(np.diff(self.live.base.offsets) > 0))
        current = self.current
        for name in self.served:
            self.current = name
            self.answer([Ask(Recommend(customer_id=self.live.users.id_of(user)), "")])
        self.current = current

    def is_rule(self, system: str) -> bool:
        """Return whether a system is fitted to what is known at a day."""
        return system in BASELINES

    def known_to_rule(self, system: str, day: int) -> "Known | None":
        """Return what a rule is to be fitted to; None where it was fitted to all that is known."""
        self.catch_up()
        kept = self._rules.get((system, day))
        if kept is not None and kept[0] == self.live.version:
            return None
        return Known(self.live.version, self.live.log.histories(day))

    def keep_rule(self, system: str, known: "Known", rule: Recommender) -> None:
        """Answer by a rule that was fitted to what was ``known``."""
        if len(self._rules) >= _MAX_RULES:
            del self._rules[next(iter(self._rules))]
        self._rules[system, known.histories.day] = known.version, rule

    def switch(self, name: str) -> None:
        """Let another model answer."""
        self.current, self._texts = name, None
        self._rules.clear()

    def forget(self, user_id: str) -> None:
        """Read nothing of a user from now on."""
        self.catch_up()
        self.live.forget(user_id)
        self._rules.clear()
        self._texts = None
        self._candidates.clear()

    # Looking up.

    def _job(self, ask: Ask) -> Job:
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
        predict = self.served[self.current].config.predict
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

    def _refresh_candidates(self) -> None:
        now = ("on_sale", self.live.day)
        kept = self._candidates.get(now)
        self._candidates = {key: mask for key, mask in self._candidates.items() if key[0] == "all"}
        if kept is not None:
            fresh = self.live.on_sale(self.live.day)
            self._candidates[now] = kept if np.array_equal(kept, fresh) else fresh

    # Making lists.

    def _group(self, jobs: list[Job], system: str, day: int, pool: str) -> list[dict[str, Any] | Exception]:
        """Return the answers of jobs that are asked of one system, at one day, out of the same candidates."""
        live, allowed = self.live, self.candidates(pool, day)
        rows = np.array([job.table_row for job in jobs], dtype=np.int64)
        histories = live.joined([job.whole for job in jobs], rows, day)
        if system == DECODER:
            listed = self._by_decoder(jobs, histories, allowed, day)
        else:
            listed = [self._by_rule(job, histories.of([row]), allowed, system) for row, job in enumerate(jobs)]
        for row, (job, one) in enumerate(zip(jobs, listed, strict=True)):
            listed[row] = self._ruled(job, one, histories.of([row]))
            if len(listed[row].item) < job.request.k:
                job.warnings.append(
                    f"only {len(listed[row].item)} items are left, asked were {job.request.k}; allow more of them"
                )
        reasons = self._reasons(jobs, histories, listed) if system == DECODER else {}
        return [
            self._said(job, one, reasons.get(row, {})) for row, (job, one) in enumerate(zip(jobs, listed, strict=True))
        ]

    def _by_decoder(self, jobs: list[Job], histories: Histories, allowed: np.ndarray, day: int) -> list[Listed]:
        served = self.served[self.current]
        known = served.decoder.knows(histories)
        scored = [Scored(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(jobs)
        if known.any():
            places = np.flatnonzero(known)
            lists = served.wishes.lists(histories.of(places), allowed, [jobs[place].wish for place in places])
            for place, one in zip(places.tolist(), lists, strict=True):
                scored[place] = one
        listed = [Listed(one.item, one.score, [DECODER] * len(one.item)) for one in scored]
        for row, job in enumerate(jobs):
            if len(listed[row].item) < job.request.k and job.wish.repeats != "only":
                listed[row] = self._filled(job, listed[row], histories.of([row]), allowed, day)
        return listed

    def _filled(self, job: Job, listed: Listed, histories: Histories, allowed: np.ndarray, day: int) -> Listed:
        """Complete a list with what sells best."""
        k, n = job.request.k, len(listed.item)
        if job.wish.whole:  # of which pins may take any
            k = int(self._candidates_of(job, allowed).allowed.sum())
        if not k:
            return listed
        item, score = np.zeros((1, k), dtype=np.int32), np.full((1, k), -np.inf, dtype=np.float32)
        item[0, :n], score[0, :n] = listed.item, listed.score
        filled = fill_up(
            self.live.cold_start(day, job.table_row), item, score, histories, self._candidates_of(job, allowed)
        )
        real = item[0] > 0
        source = ["popular" if is_filled else DECODER for is_filled in filled[0, real]]
        if job.rules.boosts and "popular" in source:
            job.warnings.append("boosts are in units of the decoder's score; what sells best is listed without them")
        return Listed(item[0, real].astype(np.int64), score[0, real], source)

    def _candidates_of(self, job: Job, allowed: np.ndarray) -> Candidates:
        added = job.wish.added
        mask = allowed if added is None else allowed & ~np.isneginf(added)
        return Candidates(mask, job.wish.repeats == "none")

    def _by_rule(self, job: Job, histories: Histories, allowed: np.ndarray, system: str) -> Listed:
        rule = self._rules.get((system, histories.day))
        if rule is None:  # a new day began since it was fitted
            known = Known(self.live.version, self.live.log.histories(histories.day))
            self.keep_rule(system, known, fit_rule(system, self.served[self.current].config, known.histories))
            rule = self._rules[system, histories.day]
        candidates = self._candidates_of(job, allowed)
        if job.rules.boosts:
            job.warnings.append(f"boosts are in units of the decoder's score; {system} is listed without them")
        if job.wish.repeats == "only":
            own = np.zeros(len(allowed), dtype=bool)
            own[np.unique(histories.log.item[: histories.end[0]])] = True
            candidates = Candidates(candidates.allowed & own, False)
        k = int(candidates.allowed.sum()) if job.wish.whole else min(job.request.k, int(candidates.allowed.sum()))
        if not k:
            return Listed(np.zeros(0, np.int64), np.zeros(0, np.float32), [])
        lists = rule[1].recommend(histories, k, candidates)
        real = lists.item[0] > 0
        return Listed(lists.item[0, real].astype(np.int64), lists.score[0, real], [system] * int(real.sum()))

    def _ruled(self, job: Job, listed: Listed, histories: Histories) -> Listed:
        """Return the list as the scenario's pins and its share of discoveries have it."""
        if not job.wish.whole:
            return listed
        pins = [PinnedItem(self.live.item_row.get(pin.item_id, 0), pin.position, pin.item_id) for pin in job.rules.pins]
        rules = ListRules(job.request.k, None, pins, "keep", job.rules.discoveries or 0.0)
        past = histories.log.item[int(histories.begin[0]) : int(histories.end[0])]
        places, warnings = apply_rules(listed.item, listed.score, past, rules)
        job.warnings += warnings
        source_of = dict(zip(listed.item.tolist(), listed.source, strict=True))
        return Listed(
            np.array([one.item_index for one in places], np.int64),
            np.array([one.score for one in places], np.float32),
            [one.source or source_of[one.item_index] for one in places],
        )

    def _reasons(self, jobs: list[Job], histories: Histories, listed: list[Listed]) -> dict[int, dict[int, Any]]:
        """Return by row and rank the text of a reason and the past items that carried it."""
        rows = [row for row, job in enumerate(jobs) if job.request.reasons and len(listed[row].item)]
        if not rows:
            return {}
        item = np.zeros((len(rows), max(len(listed[row].item) for row in rows)), dtype=np.int32)
        for place, row in enumerate(rows):
            item[place, : len(listed[row].item)] = listed[row].item
        decoder = self.served[self.current].decoder
        if self._texts is None or self._texts[0] != histories.day:
            self._texts = histories.day, ReasonTexts(decoder.snapshots.at(histories.day), self.live.labels)
        some = histories.of(rows)
        numbered = pa.table({USER_ID: pa.array([str(place) for place in range(len(histories))], pa.string())})
        some.log.tables["users"] = numbered  # type: ignore[index]
        table = reasons_table(self._texts[1], decoder, some, item)
        found: dict[int, dict[int, Any]] = defaultdict(dict)
        for row in table.select([USER_ID, RANK, PAST_ITEM_ID, SHARE, TEXT]).to_pylist():
            of_rank = found[int(row[USER_ID])].setdefault(row[RANK], {"reason": row[TEXT], "because": []})
            if row[PAST_ITEM_ID] is not None:
                of_rank["because"].append({"item_id": row[PAST_ITEM_ID], "share": round(row[SHARE], 4)})
        return found

    def _said(self, job: Job, listed: Listed, reasons: Mapping[int, Any]) -> dict[str, Any]:
        ids = self.live.item_ids
        items = [
            {"item_id": ids[item - 1], "name": self._name(item), "score": round(float(score), 6), "source": source}
            | reasons.get(rank, {"reason": None, "because": []})
            for rank, (item, score, source) in enumerate(
                zip(listed.item.tolist(), listed.score, listed.source, strict=True), start=1
            )
        ]
        return {
            "recommendation_id": job.ask.recommendation_id,
            "model": self.current,
            "system": job.request.system,
            "snapshot_date": day_date(job.day).isoformat(),
            "took_ms": 0.0,
            "scenario": job.request.scenario,
            "variant": job.variant,
            "items": items,
            "warnings": job.warnings,
        }

    def _name(self, item: int) -> str:
        if item not in self._names:
            self._names[item] = self.live.item_name(item)
        return self._names[item]


def error_of(error: BaseException) -> dict[str, Any]:
    """Return what stands in the place of an answer that failed; what is no error of a request is logged."""
    if not isinstance(error, RecsysError):
        logging.getLogger(__name__).error("a request of a batch failed", exc_info=error)
        return {"error": {"code": "broken", "message": "the server made a mistake; its log says which", "field": None}}
    code = getattr(error, "code", "no_store" if isinstance(error, RunError) else "unusable")
    return {"error": {"code": code, "message": str(error), "field": getattr(error, "field", None)}}
