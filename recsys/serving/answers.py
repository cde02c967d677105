"""From requests to lists, on the thread that owns the model: by the decoder or a rule, filled up, and with reasons."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.config import Config
from recsys.data.days import day_date
from recsys.data.purchases import Histories
from recsys.errors import RecsysError
from recsys.modeling.explain.sentences import ReasonTexts, reasons_table
from recsys.modeling.recommenders.decoder import DecoderRecommender, fill_up
from recsys.modeling.wishes import Scored, WishDecoder
from recsys.schema import DECODER, PAST_ITEM_ID, RANK, SHARE, TEXT, USER_ID
from recsys.serving.jobs import Ask, Job, Jobs
from recsys.serving.kept_rules import KeptRules, Known, Listed
from recsys.serving.live import Live
from recsys.serving.scenarios import ListRules, PinnedItem, ScenarioSettings, apply_rules
from recsys.serving.schemas import Recommend


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

    def recounted(self, live: Live) -> "Served":
        """Return the same model, its transitions, if it has any, counted anew of all purchases but forgotten ones."""
        if not self.decoder.counts_transitions:
            return self  # and nothing is put together in one piece
        decoder = self.decoder.renewed(live.log.histories(live.log.last_day + 1))
        return Served(self.name, self.config, decoder, WishDecoder(decoder))


class Answers:
    """Answers batches of requests out of ``live``, by the served models."""

    def __init__(
        self, live: Live, served: Mapping[str, Served], current: str, scenarios: Mapping[str, ScenarioSettings]
    ) -> None:
        """Take the models by name, and scenarios by name as they change."""
        self.live, self.served, self.current, self.scenarios = live, dict(served), current, dict(scenarios)
        self.jobs, self.rules = Jobs(live, self.scenarios), KeptRules(live)
        self._texts: tuple[int, ReasonTexts] | None = None

    def catch_up(self) -> None:
        """Count what was added since; give models rows for new items."""
        before = self.live.version
        if self.live.catch_up():
            self.served = {name: one.grown(self.live) for name, one in self.served.items()}
        if self.live.version != before:
            self._texts = None
            self.jobs.refresh()

    def answer(self, asks: Sequence[Ask]) -> list[dict[str, Any] | Exception]:
        """Return an answer, or an error, for each of ``asks``."""
        begin = time.perf_counter()
        self.catch_up()
        answers: list[dict[str, Any] | Exception] = [RecsysError("nothing was answered")] * len(asks)
        groups: dict[tuple[str, int, str], list[tuple[int, Job]]] = defaultdict(list)
        predict = self.served[self.current].config.predict
        for place, ask in enumerate(asks):
            try:
                job = self.jobs.job(ask, predict)
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
        self.served = {name: one.recounted(self.live) for name, one in self.served.items()}
        user = int(np.argmax(np.diff(self.live.base.offsets) > 0))
        current = self.current
        for name in self.served:
            self.current = name
            self.answer([Ask(Recommend(customer_id=self.live.users.id_of(user)), "")])
        self.current = current

    def known_to_rule(self, system: str, day: int) -> Known | None:
        """Return what a rule is to be fitted to; None where it was fitted to all that is known."""
        self.catch_up()
        return self.rules.known(system, day)

    def switch(self, name: str) -> None:
        """Let another model answer."""
        self.current, self._texts = name, None
        self.rules = KeptRules(self.live)

    def forget(self, user_id: str) -> None:
        """Read nothing of a user from now on."""
        self.catch_up()
        self.live.forget(user_id)
        self.served = {name: one.recounted(self.live) for name, one in self.served.items()}
        self.rules = KeptRules(self.live)
        self._texts = None
        self.jobs.refresh()

    def _group(self, jobs: list[Job], system: str, day: int, pool: str) -> list[dict[str, Any] | Exception]:
        """Return the answers of jobs that are asked of one system, at one day, out of the same candidates."""
        live, allowed = self.live, self.jobs.candidates(pool, day)
        rows = np.array([job.table_row for job in jobs], dtype=np.int64)
        histories = live.joined([job.whole for job in jobs], rows, day)
        if system == DECODER:
            listed = self._by_decoder(jobs, histories, allowed, day)
        else:
            config = self.served[self.current].config
            listed = [
                self.rules.listed(job, histories.of([row]), allowed, system, config) for row, job in enumerate(jobs)
            ]
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
            k = int(job.candidates(allowed).allowed.sum())
        if not k:
            return listed
        item, score = np.zeros((1, k), dtype=np.int32), np.full((1, k), -np.inf, dtype=np.float32)
        item[0, :n], score[0, :n] = listed.item, listed.score
        filled = fill_up(self.live.cold_start(day, job.table_row), item, score, histories, job.candidates(allowed))
        real = item[0] > 0
        source = ["popular" if is_filled else DECODER for is_filled in filled[0, real]]
        if job.rules.boosts and "popular" in source:
            job.warnings.append("boosts are in units of the decoder's score; what sells best is listed without them")
        return Listed(item[0, real].astype(np.int64), score[0, real], source)

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
        ids, name_of, scores = self.live.item_ids, self.live.item_name, np.round(listed.score.astype(np.float64), 6)
        items = [
            {"item_id": ids[item - 1], "name": name_of(item), "score": score, "source": source}
            | {"reason": None, "because": []}
            for item, score, source in zip(listed.item.tolist(), scores.tolist(), listed.source, strict=True)
        ]
        for rank, item in enumerate(items, start=1):
            item.update(reasons.get(rank, {}))
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
