"""What came of lists: hits, revenue and positions of what was bought, by scenario and variant."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, Field
from scipy.stats import binomtest

from recsys.evaluation.bootstrap import CONFIDENCE, RESAMPLING_SEED, interval
from recsys.serving.store import Store
from recsys.serving.tables import Outcome

_N_RESAMPLES: Final = 1_000


class Estimate(BaseModel):
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float


class ScenarioFigures(BaseModel):
    """What came of the lists of a scenario and variant."""

    scenario: str | None
    variant: str | None
    n_recommendations: int
    n_bought: int = Field(description="items bought out of lists that showed them, once a list")
    hit_rate: Estimate = Field(description="share of lists out of which something was bought")
    revenue: Estimate = Field(description="of one list on average")
    mean_position: Estimate | None = Field(description="of what was bought; null where nothing was")


def scenario_figures(store: Store) -> list[ScenarioFigures]:
    """Return the figures of each scenario and variant, and of lists without one.

    A purchase counts if it names a list that showed its item, once for both together; without a price it brings no
    revenue. The interval of the hit rate is Wilson's, the others are of a bootstrap over lists with a fixed seed.
    """
    sizes, outcomes = store.lists.outcomes()
    bought = _bought(outcomes)
    groups = sorted(sizes, key=lambda group: tuple((name is not None, name or "") for name in group))
    return [_figures(*group, sizes[group], list(bought[group].values())) for group in groups]


#: The position and the revenue of each item bought out of one list.
_Bought = dict[str, tuple[int, float]]


def _bought(outcomes: Sequence[Outcome]) -> dict[tuple[str | None, str | None], dict[str, _Bought]]:
    """Return what was bought out of each list, by scenario and variant, then the list's id."""
    found: dict[tuple[str | None, str | None], dict[str, _Bought]] = defaultdict(dict)
    shown: dict[str, list[str]] = {}
    for outcome in outcomes:
        name, item_id = outcome.recommendation_id, outcome.item_id
        shown[name] = shown.get(name) or json.loads(outcome.shown)
        if item_id in shown[name] and outcome.quantity > 0:
            items = found[outcome.scenario, outcome.variant].setdefault(name, {})
            items.setdefault(item_id, (shown[name].index(item_id) + 1, outcome.quantity * (outcome.price or 0.0)))
    return found


def _figures(scenario: str | None, variant: str | None, n: int, bought: list[_Bought]) -> ScenarioFigures:
    pairs = [list(items.values()) for items in bought]
    n_bought_M = np.array([len(each) for each in pairs])
    position_M, revenue_M = (np.array([sum(pair[part] for pair in each) for each in pairs]) for part in (0, 1))
    generator, m = np.random.default_rng(RESAMPLING_SEED), len(pairs)
    revenues, positions = np.zeros(_N_RESAMPLES), np.zeros(_N_RESAMPLES)
    for draw in range(_N_RESAMPLES if m else 0):
        # Of n lists drawn out of n, a binomial number are of those with purchases; the others add nothing.
        revenues[draw] = revenue_M[generator.integers(m, size=generator.binomial(n, m / n))].sum() / n
        drawn = generator.integers(m, size=m)
        positions[draw] = position_M[drawn].sum() / n_bought_M[drawn].sum()
    n_bought = int(n_bought_M.sum())
    return ScenarioFigures(
        scenario=scenario,
        variant=variant,
        n_recommendations=n,
        n_bought=n_bought,
        hit_rate=wilson(m, n),
        revenue=_estimate(revenue_M.sum() / n, revenues),
        mean_position=_estimate(position_M.sum() / n_bought, positions) if m else None,
    )


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = interval(resampled)
    return Estimate(value=float(value), low=low or 0.0, high=high or 0.0)


def wilson(n_hits: int, n: int) -> Estimate:
    """Return a share with Wilson's interval (1927), which stays within 0 and 1 and is not empty for 0 of n.

    >>> wilson(0, 10)
    Estimate(value=0.0, low=0.0, high=0.2775...)
    """
    low, high = binomtest(n_hits, n).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(value=n_hits / n, low=float(low), high=float(high))
