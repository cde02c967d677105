"""From lists and targets to the tables of ``metrics.json``; knows arrays and names, no files and no model."""

from dataclasses import dataclass, field

import numpy as np

from recsys.evaluation.bootstrap import bootstrap, interval, mean_of_folds
from recsys.evaluation.metrics import user_values
from recsys.evaluation.metrics.base import hits_of
from recsys.evaluation.metrics.coverage import catalogue_coverage_at_k
from recsys.evaluation.metrics.novelty import novelty_at_k
from recsys.evaluation.results import Cell, Cells, RunCells
from recsys.evaluation.splits import Fold, targets_left

#: A system and a metric at a cutoff.
Column = tuple[str, str]


@dataclass(frozen=True)
class FoldLists:
    """A fold, and the lists of K items that each system recommended to its Q users."""

    fold: Fold
    lists: dict[str, np.ndarray]  # system → (Q, K) item_index, padded with 0
    n_candidates: int | None = None  # for coverage; left out where it is not known
    n_buyers: np.ndarray | None = None  # (n_items + 1,) customers who bought each item before, for novelty
    n_customers: int = 0  # customers among whom those buyers are counted
    values: dict[Column, np.ndarray] = field(default_factory=dict)  # (Q,) float64, of systems without lists here

    def only(self, chosen: np.ndarray) -> "FoldLists":
        """Return the same with the targets ``chosen`` (n,) bool alone, of the users who have one of them."""
        has_one, _ = targets_left(self.fold.target_offsets, chosen)
        return FoldLists(self.fold.of_targets(chosen), {system: items[has_one] for system, items in self.lists.items()})


@dataclass(frozen=True)
class Settings:
    """Which numbers are wanted."""

    cutoffs: tuple[int, ...]
    n_resamples: int
    #: Systems without lists, each before all others: the mean, by customer, of those named, such as a decoder per seed.
    averages: dict[str, tuple[str, ...]] = field(default_factory=dict)


def score_systems(fold_lists: list[FoldLists], settings: Settings) -> RunCells:
    """Return ``systems`` (means over folds), the first's ``differences`` to each other, and ``folds``."""
    columns, means = _means(fold_lists, settings)
    coverage = [
        {
            (system, f"coverage@{k}"): catalogue_coverage_at_k(items, one.n_candidates, k)
            for system, items in one.lists.items()
            for k in settings.cutoffs
            if one.n_candidates is not None
        }
        for one in fold_lists
    ]
    mean_coverage = {column: float(np.mean([of_fold[column] for of_fold in coverage])) for column in coverage[0]}
    by_fold = [
        {"start": fold.name, "n_users": len(fold.user_index)} | _cells(columns, means[:, place], coverage[place])
        for place, fold in enumerate(one.fold for one in fold_lists)
    ]
    return {**_cells(columns, mean_of_folds(means), mean_coverage), "folds": by_fold}


def score_segment(fold_lists: list[FoldLists], chosen: list[np.ndarray], settings: Settings) -> tuple[Cells, int]:
    """Return the systems' table, empty without users, by the ``chosen`` targets alone, and how many users have any."""
    kept = [one.only(mask) for one, mask in zip(fold_lists, chosen, strict=True)]
    kept = [one for one in kept if len(one.fold.user_index)]
    if not kept:
        return {}, 0
    columns, means = _means(kept, settings)
    n_users = len(np.unique(np.concatenate([one.fold.user_index for one in kept])))
    return _cells(columns, mean_of_folds(means), {})["systems"], n_users


def _means(fold_lists: list[FoldLists], settings: Settings) -> tuple[list[Column], np.ndarray]:
    values = [_values(one, settings) for one in fold_lists]
    columns = list(values[0])
    stacked = [np.stack([of_fold[column] for column in columns], axis=1) for of_fold in values]
    return columns, bootstrap([one.fold.user_index for one in fold_lists], stacked, settings.n_resamples)


def _values(fold_lists: FoldLists, settings: Settings) -> dict[Column, np.ndarray]:
    values = dict(fold_lists.values)
    fold = fold_lists.fold
    n_relevant = np.diff(fold.target_offsets)
    for system, items in fold_lists.lists.items():
        hits = hits_of(items, fold.target_offsets, fold.target_item)
        values |= {(system, name): one for name, one in user_values(hits, n_relevant, settings.cutoffs).items()}
        if fold_lists.n_buyers is not None:
            for k in settings.cutoffs:
                values[system, f"novelty@{k}"] = novelty_at_k(items, fold_lists.n_buyers, fold_lists.n_customers, k)
    averages = {
        (name, metric): np.mean([values[member, metric] for member in members], axis=0)
        for name, members in settings.averages.items()
        for system, metric in values
        if system == members[0]
    }
    return averages | values


def _cells(columns: list[Column], means_RM: np.ndarray, coverage: dict[Column, float]) -> RunCells:
    systems: Cells = {}
    differences: Cells = {}
    first, position = columns[0][0], {column: number for number, column in enumerate(columns)}
    for (system, metric), number in position.items():
        wanted = [(systems, means_RM[:, number])]
        if system != first:
            wanted.append((differences, means_RM[:, position[first, metric]] - means_RM[:, number]))
        for table, means in wanted:
            if np.isfinite(means[0]):
                low, high = interval(means[1:])
                table.setdefault(system, {})[metric] = Cell(value=float(means[0]), low=low, high=high)
    for (system, metric), share in coverage.items():
        systems[system][metric] = Cell(value=share, low=None, high=None)
    return {"systems": systems, "differences": differences}
