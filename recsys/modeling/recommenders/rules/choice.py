"""Numbers that a rule chooses on the validation window, once for a log: each test window asks for the same ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from recsys.config import Config
from recsys.data.purchases import Histories, Purchases
from recsys.evaluation.metrics import average_precisions
from recsys.evaluation.splits import Fold
from recsys.modeling.recommenders.base import Candidates, all_items

#: Customers on whom numbers are chosen, and their events, about.
MAX_USERS, MAX_EVENTS = 4_096, 100_000
_CHOSEN: Final[WeakKeyDictionary[Purchases, dict[str, Any]]] = WeakKeyDictionary()


Value = TypeVar("Value")


def once_for(log: Purchases, config: Config, name: str, make: Callable[[], Value]) -> Value:
    """Return what ``make`` chose for the rule called ``name`` on the validation window of ``log``."""
    key = f"{name} {config.split.model_dump_json()} {config.predict.model_dump_json()}"
    chosen: dict[str, Value] = _CHOSEN.setdefault(log, {})
    if key not in chosen:
        chosen[key] = make()
    return chosen[key]


def choose(
    fit: Callable[[Histories, Config], Any],
    log: Purchases,
    config: Config,
    validation: Fold | None,
    tried: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Return the fields of the best MAP@12 on ``validation``, of those ``tried`` one after the other; none without it.

    ``fit`` gives the rule of what is known then, a dataclass. Some users are asked, evenly drawn, so that it takes a
    second or two.
    """
    if validation is None:
        return {}
    return once_for(log, config, fit.__qualname__, lambda: _best_fields(fit, log, config, validation, tried))


def _best_fields(
    fit: Callable[[Histories, Config], Any],
    log: Purchases,
    config: Config,
    validation: Fold,
    tried: Mapping[str, Sequence[float]],
) -> dict[str, float]:
    rule = fit(validation.everybody(log), config)
    n_users, n_events = len(validation.user_index), int(validation.histories(log).n_events.sum())
    step = 1 + max(n_users // MAX_USERS, n_events // MAX_EVENTS)
    fold, k = validation.of_users(np.arange(0, n_users, step)), min(12, log.n_items)
    histories, candidates = fold.histories(log), Candidates(all_items(log.n_items), config.predict.exclude_seen)

    @cache
    def quality(fields: tuple[tuple[str, float], ...]) -> float:
        lists = replace(rule, **dict(fields)).recommend(histories, k, candidates)
        return float(average_precisions(lists.item, fold, k).mean())

    fields: dict[str, float] = {name: getattr(rule, name) for name in tried}
    for name, values in tried.items():
        fields[name] = max(values, key=lambda value: quality(tuple((fields | {name: value}).items())))
    return fields
