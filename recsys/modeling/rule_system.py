"""A rule or classical model with the log it is fitted to: it is fitted anew for every day it is asked at."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from recsys.config import Config, dump_config
from recsys.data.purchases import Histories, Purchases
from recsys.errors import DataError, UsageError
from recsys.evaluation.splits import Fold, make_split
from recsys.modeling.recommenders.base import Recommender
from recsys.modeling.recommenders.registry import BASELINES, require_baseline
from recsys.runs import CONFIG_FILE, HISTORIES_FOLDER, INFO_FILE
from recsys.storage import write_json, write_text


@dataclass(frozen=True)
class RuleSystem:
    """A rule by name, over a log."""

    name: str
    config: Config
    log: Purchases
    _fitted: dict[int, Recommender] = field(default_factory=dict, repr=False)  # of the day asked last

    #: No window that it is asked for was seen before: everything is counted at the day asked.
    seen_before: ClassVar[int | None] = None

    @property
    def last_day(self) -> int:
        return self.log.last_day

    def at(self, day: int) -> Recommender:
        """Return the system fitted to what is known when ``day`` is asked."""
        if day not in self._fitted:
            self._fitted.clear()
            self._fitted[day] = fit_rule(self.name, self.config, self.log.histories(day))
        return self._fitted[day]

    def extended(self, log: Purchases) -> "RuleSystem":
        return RuleSystem(self.name, self.config, log)

    def save(self, folder: Path, *, histories: bool) -> None:
        """Write what :func:`recsys.load` reads into ``folder``; a UsageError where histories are to stay out."""
        if not histories:
            raise UsageError(f"{self.name} counts histories and is nothing without them; save it with histories=True")
        write_text(folder / CONFIG_FILE, dump_config(self.config))
        about = {"system": self.name, "data_fingerprint": self.log.fingerprint, "frame_style": self.log.style.to_json()}
        write_json(folder / INFO_FILE, about)
        self.log.save(folder / HISTORIES_FOLDER)


def fit_rule(name: str, config: Config, known: Histories) -> Recommender:
    """Return the rule or classical model called ``name``, fitted to ``known``, the histories of everybody at a day."""
    require_baseline(name)
    try:
        validation: Fold | None = make_split(known.log, config.split).validation
    except DataError:  # a log so short has no window on which a setting could be chosen
        validation = None
    return BASELINES[name](known, config, validation if validation and _had_ended(validation, known) else None)


def _had_ended(validation: Fold, known: Histories) -> bool:
    """Return whether a setting may be chosen on ``validation``: its window had ended by the day asked.

    Leave-one-out has no windows: there all of its targets are known.
    """
    asked = validation.user_index
    is_known = known.end[asked] > validation.history_end[asked]
    return validation.end_day <= known.day or (validation.start_day == known.day and bool(is_known.all()))
