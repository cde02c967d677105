"""Score the lists of a run, fold by fold."""

from typing import Any

import numpy as np

from recsys import schema
from recsys.config import Config
from recsys.console import progress
from recsys.data.purchases import Purchases, event_positions
from recsys.errors import RunError
from recsys.evaluation.bootstrap import CONFIDENCE, RESAMPLING_SEED
from recsys.evaluation.scoring import Asked, Settings, score_segments, score_systems
from recsys.evaluation.segments import target_segments
from recsys.evaluation.splits import Fold, make_split
from recsys.evaluation.tables import read_lists
from recsys.runs import Run
from recsys.storage import code_version


def score_run(found: Run) -> dict[str, Any]:
    """Return what ``metrics.json`` holds: every system whose lists were written, on every test fold of the run.

    Raises:
        RunError: the run has no test folds, or lists are missing for a fold.
    """
    data = found.open_data()
    folds = make_split(data, found.config.split).tests
    if not folds:
        raise RunError(f"{found.name} has no test folds (split.n_folds is 0): there is nothing to score it on")
    systems = _systems_of(found, folds)
    asked = [asked_of(found, data, fold, systems) for fold in folds]
    return score_folds(found.config, data, folds, asked, protocol_of(found, data, folds, asked))


def score_folds(
    config: Config, data: Purchases, folds: tuple[Fold, ...], asked: list[Asked], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Return what ``metrics.json`` holds, from folds and the lists of all systems for each."""
    settings = settings_of(config)
    scores = {"protocol": protocol, **score_systems(asked, settings)}
    with progress() as bar:
        segments = [target_segments(data, fold) for fold in folds]
        task = bar.add_task("scoring segments", total=len(segments[0]))
        tables, sizes = score_segments(asked, segments, settings, lambda _: bar.advance(task))
    return {**scores, "segments": tables, "segment_sizes": sizes}


def settings_of(config: Config) -> Settings:
    """Return what the configuration asks of the scoring; lists longer than ``predict.k`` are never judged."""
    chosen = config.evaluation
    return Settings(tuple(sorted(set(chosen.cutoffs))), chosen.n_bootstrap, CONFIDENCE, RESAMPLING_SEED)


def _systems_of(found: Run, folds: tuple[Fold, ...]) -> list[str]:
    """Return the systems that have lists for every fold, in the order in which reports show them."""
    systems, command = [], f"recsys predict --folds --run {found.name}"
    for system in schema.SYSTEMS:
        missing = [fold.name for fold in folds if not found.table_path(system, fold.name).is_file()]
        if missing and (len(missing) < len(folds) or system == schema.SYSTEMS[0]):
            path = found.table_path(system, missing[0])
            raise RunError(f"{path} is missing: the lists of {system} for {missing[0]}; run `{command}` first")
        if not missing:
            systems.append(system)
    return systems


def asked_of(found: Run, data: Purchases, fold: Fold, systems: list[str]) -> Asked:
    """Return a fold with the lists that a run's ``systems`` wrote for it."""
    lists = {system: read_lists(found.table_path(system, fold.name), data, fold.user_index) for system in systems}
    row, position = event_positions(data.offsets[:-1], fold.history_end)
    pairs = np.unique(row * (data.n_items + 1) + data.item[position])
    return Asked(
        start=fold.name,
        user_index=fold.user_index,
        target_offsets=fold.target_offsets,
        target_item=fold.target_item,
        lists=lists,
        n_candidates=_n_candidates(found.config.predict.sold_within_days, data, fold, position),
        n_buyers=np.bincount(pairs % (data.n_items + 1), minlength=data.n_items + 1),
        n_customers=len(np.unique(row)),
    )


def _n_candidates(sold_within_days: int | None, data: Purchases, fold: Fold, position: np.ndarray) -> int:
    if sold_within_days is None:
        return data.n_items
    return len(np.unique(data.item[position[data.day[position] >= fold.start_day - sold_within_days]]))


def protocol_of(found: Run, data: Purchases, folds: tuple[Fold, ...], asked: list[Asked]) -> dict[str, Any]:
    """Return how the numbers came about, for readers and for other tools."""
    split, window = found.config.split, found.config.predict.sold_within_days
    candidates = f"items sold in the {window} days before the date" if window else f"all {data.n_items:,} items"
    n_users = [len(fold.user_index) for fold in folds]
    return {
        "name": split.protocol,
        "description": _sentence(found.config, candidates, [fold.name for fold in folds]),
        "horizon_days": split.horizon_days if split.protocol == "weekly" else None,
        "folds": [fold.name for fold in folds],
        "candidates": candidates,
        "n_candidates": [fold.n_candidates for fold in asked],
        "exclude_seen": found.config.predict.exclude_seen,
        "catalogue_size": data.n_items,
        "n_users_asked": n_users,
        "n_users_left_out": [data.n_users - n for n in n_users],
        **_bootstrap_protocol(found.config),
        "data": {
            "name": found.config.data.folder.name,
            "source": found.config.data.source,
            "fingerprint": data.fingerprint,
            "n_events": data.n_events,
            "n_users": data.n_users,
        },
        "run": found.name,
        "seed": found.config.seed,
        "code_version": code_version(),
    }


def _bootstrap_protocol(config: Config) -> dict[str, Any]:
    chosen = config.evaluation
    return {
        "cutoffs": list(settings_of(config).cutoffs),
        "bootstrap": {
            "resamples": chosen.n_bootstrap,
            "confidence": CONFIDENCE,
            "seed": RESAMPLING_SEED,
            "unit": "customers, redrawn together for all systems and folds",
        },
    }


def _sentence(config: Config, candidates: str, starts: list[str]) -> str:
    if config.split.protocol == "weekly":
        asked = (
            f"At each of {', '.join(starts)} every system recommends out of {candidates}, knowing all purchases before "
            f"that day, and is scored on what customers bought in the {config.split.horizon_days} days from it on"
        )
    elif config.split.protocol == "customers":
        asked = (
            f"Every system recommends out of {candidates} to customers it has not learned from, knowing all their "
            "purchases but the last, and is scored on that one"
        )
    else:
        asked = (
            f"Every system recommends out of {candidates}, knowing all purchases of a customer but the last, and is "
            "scored on that one"
        )
    percent = f"{100 * CONFIDENCE:g} %"
    left_out = " Customers who bought nothing then are left out." if config.split.protocol == "weekly" else ""
    return f"{asked}.{left_out} Intervals hold {percent} of redrawn customers."
