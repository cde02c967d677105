"""From lists and targets to the tables of ``metrics.json``; knows arrays and names, no files and no model."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from recsys.evaluation.bootstrap import Bootstrap, Sample, bootstrap, interval, mean_of_folds
from recsys.evaluation.metrics import catalogue_coverage_at_k, hits_of, novelty_at_k, user_values
from recsys.evaluation.results import Cells, FoldCells, RunCells, to_cell


@dataclass(frozen=True)
class FoldLists:
    """The users of one fold, what they bought, and what each system recommended to them.

    Shapes: Q users, n targets, K items of a list, V = n_items + 1.
    """

    start: str
    user_index: np.ndarray  # (Q,)
    target_offsets: np.ndarray  # (Q+1,)
    target_item: np.ndarray  # (n,)
    lists: dict[str, np.ndarray]  # system → (Q, K) item_index, padded with 0
    n_candidates: int | None = None  # for coverage; left out where it is not known
    n_buyers: np.ndarray | None = None  # (V,) customers who bought each item before, for novelty
    n_customers: int = 0  # customers among whom those buyers are counted


@dataclass(frozen=True)
class Settings:
    """Which numbers are wanted.

    A system in ``averages`` has no lists of its own: its value for a customer is the mean of the values of the systems
    named there, such as one decoder per seed. It stands before all others, and customers are redrawn afterwards, so it
    stays paired with every system.
    """

    cutoffs: tuple[int, ...]
    n_resamples: int
    confidence: float
    seed: int
    averages: dict[str, tuple[str, ...]] = field(default_factory=dict)


def score_systems(folds: list[FoldLists], settings: Settings) -> RunCells:
    """Return ``systems``, ``folds`` and ``differences`` as ``metrics.json`` holds them.

    ``systems`` is the mean over folds; its intervals redraw customers, not rows (see
    :mod:`recsys.evaluation.bootstrap`). Differences are those of the first system to each of the others, on the same
    draws. Catalogue coverage is a property of all lists together and has no interval.
    """
    columns, drawn = _draw([_columns(fold, settings) for fold in folds], folds, settings)
    coverages = [_coverage(fold, settings.cutoffs) for fold in folds]
    mean = Bootstrap(mean_of_folds(drawn.measured), mean_of_folds(drawn.resampled))
    by_fold: list[FoldCells] = []
    for number, (fold, coverage) in enumerate(zip(folds, coverages, strict=True)):
        means = Bootstrap(drawn.measured[number], drawn.resampled[:, number])
        by_fold.append(
            {
                "start": fold.start,
                "n_users": len(fold.user_index),
                "systems": _merged(_table(columns, means, settings), coverage),
                "differences": _differences(columns, means, settings),
            }
        )
    return {
        "systems": _merged(_table(columns, mean, settings), _mean_coverage(coverages)),
        "differences": _differences(columns, mean, settings),
        "folds": by_fold,
    }


def score_segment(folds: list[FoldLists], chosen: list[np.ndarray], settings: Settings) -> tuple[Cells, int]:
    """Return the systems' table when only the ``chosen`` targets of each fold count, and how many users have any.

    A user of several folds counts once in the size. A segment without users has an empty table.
    """
    kept = [only(fold, mask) for fold, mask in zip(folds, chosen, strict=True)]
    kept = [fold for fold in kept if len(fold.user_index)]
    if not kept:
        return {}, 0
    columns, drawn = _draw([_columns(fold, settings, novelty=False) for fold in kept], kept, settings)
    mean = Bootstrap(mean_of_folds(drawn.measured), mean_of_folds(drawn.resampled))
    return _table(columns, mean, settings), len(np.unique(np.concatenate([fold.user_index for fold in kept])))


def only(fold: FoldLists, chosen: np.ndarray) -> FoldLists:
    """Return the fold with the ``chosen`` (n,) targets, without the users who have none of them."""
    left = np.concatenate([[0], np.cumsum(chosen)])[fold.target_offsets]
    has = np.diff(left) > 0
    offsets = np.concatenate([[0], left[1:][has]])
    lists = {system: items[has] for system, items in fold.lists.items()}
    return FoldLists(fold.start, fold.user_index[has], offsets, fold.target_item[chosen], lists)


def _columns(fold: FoldLists, settings: Settings, *, novelty: bool = True) -> dict[tuple[str, str], np.ndarray]:
    """Return the values (Q,) of each (system, metric), averages first."""
    cutoffs = settings.cutoffs
    columns: dict[tuple[str, str], np.ndarray] = {}
    n_relevant = np.diff(fold.target_offsets)
    for system, items in fold.lists.items():
        hits = hits_of(items, fold.target_offsets, fold.target_item)
        for metric, values in user_values(hits, n_relevant, cutoffs).items():
            columns[system, metric] = values
        if novelty and fold.n_buyers is not None:
            for k in cutoffs:
                columns[system, f"novelty@{k}"] = novelty_at_k(items, fold.n_buyers, fold.n_customers, k)
    averages = {
        (name, metric): np.mean([columns[member, metric] for member in members], axis=0)
        for name, members in settings.averages.items()
        for system, metric in columns
        if system == members[0]
    }
    return averages | columns


def _draw(
    columns: list[dict[tuple[str, str], np.ndarray]], folds: list[FoldLists], settings: Settings
) -> tuple[list[tuple[str, str]], Bootstrap]:
    names = list(columns[0])
    samples = [
        Sample(fold.user_index, np.stack([column[name] for name in names], axis=1))
        for fold, column in zip(folds, columns, strict=True)
    ]
    return names, bootstrap(samples, settings.n_resamples, settings.seed)


def _table(columns: list[tuple[str, str]], drawn: Bootstrap, settings: Settings) -> Cells:
    table: Cells = {}
    for number, (system, metric) in enumerate(columns):
        value = float(drawn.measured[number])
        if np.isfinite(value):
            ends = interval(drawn.resampled[:, number], settings.confidence)
            table.setdefault(system, {})[metric] = to_cell(value, ends)
    return table


def _differences(columns: list[tuple[str, str]], drawn: Bootstrap, settings: Settings) -> Cells:
    """Return the first system's values minus those of each other system."""
    position = {column: number for number, column in enumerate(columns)}
    first = columns[0][0]
    table: Cells = {}
    for system, metric in columns:
        ours, theirs = position[first, metric], position[system, metric]
        value = float(drawn.measured[ours] - drawn.measured[theirs])
        if system != first and np.isfinite(value):
            apart = drawn.resampled[:, ours] - drawn.resampled[:, theirs]
            table.setdefault(system, {})[metric] = to_cell(value, interval(apart, settings.confidence))
    return table


def _coverage(fold: FoldLists, cutoffs: tuple[int, ...]) -> Cells:
    n_candidates = fold.n_candidates
    if n_candidates is None:
        return {}
    return {
        system: {f"coverage@{k}": to_cell(catalogue_coverage_at_k(items, n_candidates, k)) for k in cutoffs}
        for system, items in fold.lists.items()
    }


def _mean_coverage(coverages: list[Cells]) -> Cells:
    return {
        system: {
            metric: to_cell(float(np.mean([cells[system][metric]["value"] for cells in coverages])))
            for metric in values
        }
        for system, values in coverages[0].items()
    }


def _merged(table: Cells, more: Cells) -> Cells:
    return {system: {**values, **more.get(system, {})} for system, values in table.items()}


def score_segments(
    folds: list[FoldLists],
    segments: list[dict[str, np.ndarray]],
    settings: Settings,
    advance: Callable[[int, int], None],
) -> tuple[dict[str, Cells], dict[str, int]]:
    """Return ``segments`` and ``segment_sizes`` as ``metrics.json`` holds them."""
    tables, sizes = {}, {}
    for n_done, name in enumerate(segments[0], start=1):
        tables[name], sizes[name] = score_segment(folds, [segment[name] for segment in segments], settings)
        advance(n_done, len(segments[0]))
    return tables, sizes
