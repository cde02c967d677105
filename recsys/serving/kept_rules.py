"""Rules to compare with: fitted to what is known at a day once somebody asks for them, and kept until that changes."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from recsys.config import Config
from recsys.data.purchases import Histories
from recsys.modeling.recommenders.base import Candidates, Recommender
from recsys.modeling.rule_system import fit_rule
from recsys.serving.jobs import Job
from recsys.serving.live import Live

#: Rules that are kept fitted.
_MAX_RULES: Final = 8


class Known(NamedTuple):
    """What is known of everybody at a day, and the version of the live purchases that it is of."""

    version: int
    histories: Histories


@dataclass
class Listed:
    """The list of a job: items (n,), scores and where each comes from."""

    item: np.ndarray
    score: np.ndarray
    source: list[str]


class KeptRules:
    """The rules that are fitted by now, by system and day."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._rules: dict[tuple[str, int], tuple[int, Recommender]] = {}  # with the version of what they were fitted to

    def known(self, system: str, day: int) -> Known | None:
        """Return what a rule is to be fitted to; None where it was fitted to all that is known."""
        kept = self._rules.get((system, day))
        if kept is not None and kept[0] == self._live.version:
            return None
        return Known(self._live.version, self._live.log.histories(day))

    def keep(self, system: str, known: Known, rule: Recommender) -> None:
        """Answer by a rule that was fitted to what was ``known``."""
        if len(self._rules) >= _MAX_RULES:
            del self._rules[next(iter(self._rules))]
        self._rules[system, known.histories.day] = known.version, rule

    def listed(self, job: Job, histories: Histories, allowed: np.ndarray, system: str, config: Config) -> Listed:
        """Return the list of a job, for the history of its own, out of the items ``allowed`` (V,)."""
        rule = self._rules.get((system, histories.day))
        if rule is None:  # a new day began since it was fitted
            known = Known(self._live.version, self._live.log.histories(histories.day))
            self.keep(system, known, fit_rule(system, config, known.histories))
            rule = self._rules[system, histories.day]
        candidates = job.candidates(allowed)
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
