"""Score the lists of a run, fold by fold."""

from typing import Any

import numpy as np

from recsys import schema
from recsys.config import Config
from recsys.console import Advance, unheard
from recsys.data.purchases import Purchases
from recsys.errors import RunError
from recsys.evaluation.bootstrap import CONFIDENCE, RESAMPLING_SEED
from recsys.evaluation.results import RunCells
from recsys.evaluation.scoring import FoldLists, Settings, score_segment, score_systems
from recsys.evaluation.segments import target_segments
from recsys.evaluation.splits import Fold, make_split
from recsys.evaluation.tables import read_lists
from recsys.runs import Run
from recsys.storage import code_version


def score_run(run: Run, advance: Advance = unheard) -> RunCells:
    """Return what ``metrics.json`` holds; ``advance`` hears of segments. RunError: test folds or lists are missing."""
    log = run.open_data()
    folds = make_split(log, run.config.split).tests
    if not folds:
        raise RunError(f"{run.name} has no test folds (split.n_folds is 0): there is nothing to score it on")
    systems = _systems_of(run, folds)
    fold_lists = [lists_of_run(run, log, fold, systems) for fold in folds]
    return score_folds(run, log, fold_lists, advance)


def score_folds(run: Run, log: Purchases, fold_lists: list[FoldLists], advance: Advance = unheard) -> RunCells:
    """Return what ``metrics.json`` holds, from folds with the lists of all systems for each."""
    settings = settings_of(run.config)
    scores: RunCells = {"protocol": protocol_of(run, log, fold_lists), **score_systems(fold_lists, settings)}
    scores |= {"segments": {}, "segment_sizes": {}}
    segments = [target_segments(log, one.fold) for one in fold_lists]
    for n_done, name in enumerate(segments[0], start=1):
        found = score_segment(fold_lists, [of_fold[name] for of_fold in segments], settings)
        scores["segments"][name], scores["segment_sizes"][name] = found
        advance(n_done, len(segments[0]))
    return scores


def settings_of(config: Config) -> Settings:
    """Return what the configuration asks of the scoring: a cutoff beyond ``predict.k`` is the length of the lists."""
    cutoffs = {min(cutoff, config.predict.k) for cutoff in config.evaluation.cutoffs}
    return Settings(tuple(sorted(cutoffs)), config.evaluation.n_bootstrap)


def _systems_of(run: Run, folds: tuple[Fold, ...]) -> list[str]:
    """Return the systems that have lists for every fold, in the order in which reports show them."""
    systems = []
    written = {path.name for path in (run.report_folder / "recommendations").glob("*") if path.is_dir()}
    for system in schema.in_report_order({*schema.SYSTEMS, *written}):
        missing = [fold.name for fold in folds if not run.table_path(system, fold.name).is_file()]
        if missing and (len(missing) < len(folds) or system == schema.DECODER):
            raise RunError(
                f"{run.table_path(system, missing[0])} is missing: the lists of {system} for {missing[0]}; run `recsys "
                f"predict --folds --run {run.name}` first"
            )
        if not missing:
            systems.append(system)
    return systems


def lists_of_run(run: Run, log: Purchases, fold: Fold, systems: list[str]) -> FoldLists:
    """Return a fold with the lists that a run's ``systems`` wrote for it."""
    paths = {system: run.table_path(system, fold.name) for system in systems}
    lists = {system: read_lists(path, log, fold.user_index, run.identity) for system, path in paths.items()}
    return lists_of_fold(log, fold, lists, run.config.predict.sold_within_days)


def lists_of_fold(log: Purchases, fold: Fold, lists: dict[str, np.ndarray], sold_within_days: int | None) -> FoldLists:
    """Return a fold with the ``lists`` (Q, K) of each system for its users, and what coverage and novelty read."""
    row, position = fold.everybody(log).events()
    pairs = np.unique(row * (log.n_items + 1) + log.item[position])
    n_candidates = log.n_items
    if sold_within_days is not None:
        n_candidates = len(np.unique(log.item[position[log.day[position] >= fold.start_day - sold_within_days]]))
    n_buyers = np.bincount(pairs % (log.n_items + 1), minlength=log.n_items + 1)
    return FoldLists(fold, lists, n_candidates, n_buyers, n_customers=len(np.unique(row)))


def protocol_of(run: Run, log: Purchases, fold_lists: list[FoldLists]) -> dict[str, Any]:
    """Return how the numbers came about, for readers and for other tools."""
    split, window = run.config.split, run.config.predict.sold_within_days
    candidates = f"items sold in the {window} days before the date" if window else f"all {log.n_items:,} items"
    folds = [one.fold for one in fold_lists]
    n_users = [len(fold.user_index) for fold in folds]
    return {
        "name": split.protocol,
        "description": _sentence(run.config, candidates, [fold.name for fold in folds]),
        "horizon_days": split.horizon_days if split.protocol == "weekly" else None,
        "folds": [fold.name for fold in folds],
        "candidates": candidates,
        "n_candidates": [one.n_candidates for one in fold_lists],
        "exclude_seen": run.config.predict.exclude_seen,
        "catalogue_size": log.n_items,
        "n_users_asked": n_users,
        "n_users_left_out": [log.n_users - n for n in n_users],
        **bootstrap_protocol(run.config),
        "data": {"name": run.config.data.folder.name, "source": run.config.data.source}
        | {"fingerprint": log.fingerprint, "n_events": log.n_events, "n_users": log.n_users},
        "run": run.name,
        "seed": run.config.seed,
        "code_version": code_version(),
    }


def bootstrap_protocol(config: Config) -> dict[str, Any]:
    """Return how intervals come about."""
    settings = settings_of(config)
    return {
        "cutoffs": list(settings.cutoffs),
        "bootstrap": {
            "resamples": settings.n_resamples,
            "confidence": CONFIDENCE,
            "seed": RESAMPLING_SEED,
            "unit": "customers, redrawn together for all systems and folds",
        },
    }


def _sentence(config: Config, candidates: str, starts: list[str]) -> str:
    if config.split.protocol == "weekly":
        sentence = (
            f"At each of {', '.join(starts)} every system recommends out of {candidates}, knowing all purchases before "
            f"that day, and is scored on what customers bought in the {config.split.horizon_days} days from it on. "
            "Customers who bought nothing then are left out."
        )
    else:
        of_customers = " to customers it has not learned from, knowing all their purchases"
        of_all = ", knowing all purchases of a customer"
        knowing = of_customers if config.split.protocol == "customers" else of_all
        sentence = f"Every system recommends out of {candidates}{knowing} but the last, and is scored on that one."
    return f"{sentence} Intervals hold {100 * CONFIDENCE:g} % of redrawn customers."
