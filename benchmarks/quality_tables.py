"""From lists to the rows of ``quality-<data>.json`` and its section of RESULTS.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.fusion import fuse_reciprocal_ranks
from benchmarks.quality_data import DataSet, Part
from benchmarks.quality_lists import ListedFold, member, seed_of
from recsys.evaluation.metrics import user_values
from recsys.evaluation.metrics.base import hits_of
from recsys.evaluation.results import Cell, Cells
from recsys.evaluation.scoring import Column, FoldLists, Settings, score_systems
from recsys.schema import DECODER

#: What stands for the mean over the folds where a fold is named.
MEAN = "mean"


@dataclass(frozen=True)
class Scored:
    """One part of the targets: all systems on it, by fold and on their mean."""

    part: Part
    best_rule: str | None  # None where no rule is asked
    n_users: dict[str, int]  # fold → customers who have such targets
    tables: dict[str, Cells]  # fold, or mean → system → metric → cell
    differences: dict[str, Cells]  # the decoder minus each system
    averages: dict[str, tuple[str, ...]]  # a system that is the mean of others → these, one a seed


#: System and metric → what each of Q users got (Q,) float64.
Values = dict[Column, np.ndarray]


def score_part(
    part: Part,
    listed: list[ListedFold],
    data_set: DataSet,
    settings: Settings,
    given: Mapping[str, Values] | None = None,
) -> Scored | None:
    """Return the scores on a part's targets; None where no customer has any.

    The best rule by the part's first metric is fused with every other system but what was trained. With ``given``
    values of what was trained, by fold, its lists are not looked at.
    """
    folds = folds_of(part, listed)
    if not folds:
        return None
    members = {name for names in settings.averages.values() for name in names}
    others = [name for name in folds[0].lists if name not in members]
    best = _best_rule(folds, data_set.rules, part.metrics[0], settings) if data_set.rules else None
    if given is not None:
        folds = [replace(fold, lists={name: fold.lists[name] for name in others}) for fold in folds]
    if best is not None:
        folds = [_with_fusions(fold, best, [name for name in others if name != best]) for fold in folds]
    values = [({} if given is None else given[one.fold.name]) | values_of(one, part.metrics) for one in folds]
    valued = [FoldLists(one.fold, {}, values=of) for one, of in zip(folds, values, strict=True)]
    scores = score_systems(valued, settings)
    return Scored(
        part,
        best,
        {fold["start"]: fold["n_users"] for fold in scores["folds"]},
        {MEAN: scores["systems"]} | {fold["start"]: fold["systems"] for fold in scores["folds"]},
        {MEAN: scores["differences"]} | {fold["start"]: fold["differences"] for fold in scores["folds"]},
        settings.averages,
    )


def folds_of(part: Part, listed: list[ListedFold]) -> list[FoldLists]:
    """Return the folds with the part's targets and lists alone, without folds of which nobody has such targets."""
    folds = [one.lists[part.exclude_seen].only(one.chosen[part.targets]) for one in listed]
    return [one for one in folds if len(one.fold.user_index)]


def values_of(one: FoldLists, metrics: Sequence[str]) -> Values:
    """Return what each user of a fold got from each system, by these metrics."""
    fold, cutoffs = one.fold, tuple(sorted({int(name.partition("@")[2]) for name in metrics}))
    n_relevant = np.diff(fold.target_offsets)
    values: Values = {}
    for system, items in one.lists.items():
        of_system = user_values(hits_of(items, fold.target_offsets, fold.target_item), n_relevant, cutoffs)
        values |= {(system, metric): of_system[metric] for metric in metrics}
    return values


def settings_for(seeds: Sequence[int], n_resamples: int, systems: tuple[str, ...] = (DECODER,)) -> Settings:
    """Return what is wanted of every part: a trained system's value for a customer is the mean over its seeds."""
    averages = {system: tuple(member(one, system) for one in seeds) for system in systems}
    return Settings((), n_resamples, averages)


def fusion(best: str, other: str) -> str:
    """Return what the fusion of two systems' lists is called.

    >>> fusion("repeat", "item_knn")
    'rrf(repeat, item_knn)'
    """
    return f"rrf({best}, {other})"


def _best_rule(folds: list[FoldLists], rules: tuple[str, ...], metric: str, settings: Settings) -> str:
    own = [replace(fold, lists={rule: fold.lists[rule] for rule in rules}) for fold in folds]
    valued = [FoldLists(fold.fold, {}, values=values_of(fold, [metric])) for fold in own]
    table = score_systems(valued, replace(settings, n_resamples=1, averages={}))["systems"]
    return max(rules, key=lambda rule: float(table[rule][metric]["value"]))


def _with_fusions(fold: FoldLists, best: str, others: list[str]) -> FoldLists:
    lists: dict[str, np.ndarray] = dict(fold.lists)
    for other in others:
        pair = (fold.lists[best], fold.lists[other])
        lists[fusion(best, other)] = fuse_reciprocal_ranks(pair, fold.lists[best].shape[1])
    return replace(fold, lists=lists)


def rows_of(scored: Scored) -> Iterator[dict[str, Any]]:
    """Yield a row for each system, metric and fold; that of a trained one also holds each seed's own mean."""
    for system, metric, fold, cell in _cells(scored, scored.tables):
        row = {"system": system, "metric": metric, "segment": scored.part.segment, "fold": fold, **cell}
        if system in scored.averages:
            own = {seed_of(name): scored.tables[fold][name][metric]["value"] for name in scored.averages[system]}
            yield row | {"seeds": list(own), "per_seed": {str(seed): value for seed, value in own.items()}}
        else:
            yield row | {"seeds": []}


def differences_of(scored: Scored) -> Iterator[dict[str, Any]]:
    """Yield a row for the decoder minus each other system, by metric and fold."""
    seeds = [seed_of(name) for name in scored.averages[DECODER]]
    for system, metric, fold, cell in _cells(scored, scored.differences):
        names = {"system": DECODER, "to": system, "metric": metric, "segment": scored.part.segment, "fold": fold}
        yield names | cell | {"seeds": seeds}


def _members(scored: Scored) -> set[str]:
    return {name for names in scored.averages.values() for name in names}


def _cells(scored: Scored, tables: dict[str, Cells]) -> Iterator[tuple[str, str, str, Cell]]:
    members = _members(scored)
    for metric in scored.part.metrics:
        for fold, table in tables.items():
            for system in table:
                if system not in members:
                    yield system, metric, fold, table[system][metric]


def markdown_of(scored: Scored) -> str:
    """Return the tables of a part, one a metric, best system first."""
    return "\n".join(_table(scored, metric) for metric in scored.part.metrics)


def _table(scored: Scored, metric: str) -> str:
    mean, folds = scored.tables[MEAN], list(scored.n_users)
    systems = sorted(mean.keys() - _members(scored), key=lambda system: -float(mean[system][metric]["value"] or 0))
    shown = folds if len(folds) > 1 else []
    customers = ", ".join(f"{n:,}" for n in scored.n_users.values())
    own = ", ".join(f"{mean[name][metric]['value']:.4f} ({seed_of(name)})" for name in scored.averages[DECODER])
    lines = [
        f"### {scored.part.segment}: {metric.upper().replace('_', ' ')}",
        "",
        f"Customers: {customers}. The decoder's seeds: {own}.",
        "",
        f"| system | value | {''.join(f'{fold} | ' for fold in shown)}decoder minus it |",
        f"|---|---:|{'---:|' * len(shown)}---:|",
    ]
    for system in systems:
        by_fold = "".join(f"{scored.tables[fold][system][metric]['value']:.4f} | " for fold in shown)
        apart = "" if system == DECODER else _text(scored.differences[MEAN][system][metric], sign="+")
        lines.append(f"| {system} | {_text(mean[system][metric])} | {by_fold}{apart} |")
    return "\n".join([*lines, ""])


def _text(cell: Cell, sign: str = "") -> str:
    value = f"{cell['value']:{sign}.4f}"
    return value if cell["low"] is None else f"{value} [{cell['low']:{sign}.4f}, {cell['high']:{sign}.4f}]"
