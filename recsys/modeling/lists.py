"""Recommendations of any system of a run: for everybody at a date, or for the test folds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import typer

from recsys.config import Config
from recsys.console import progress, talk
from recsys.data.days import day_date
from recsys.data.kaggle_submission import check_submission, write_submission
from recsys.data.purchases import Purchases
from recsys.errors import UsageError
from recsys.evaluation.splits import Fold, make_split
from recsys.evaluation.tables import RECOMMENDATIONS_SCHEMA, read_lists, recommendation_rows
from recsys.modeling.explain.sentences import write_reasons
from recsys.modeling.load import load_decoder
from recsys.modeling.recommenders.base import History, Recommender
from recsys.modeling.recommenders.candidates import Candidates, candidates_at, read_item_list, require_enough
from recsys.modeling.recommenders.decoder import DecoderRecommender, WithColdStart
from recsys.modeling.recommenders.popularity import Popularity
from recsys.modeling.recommenders.registry import BASELINES, can_fit, fit_baseline
from recsys.modeling.recommenders.repeat import Repeat
from recsys.runs import Run
from recsys.schema import DECODER
from recsys.storage import read_json, replacing, require_absent, write_json

#: Customers whose lists are made, and written, at a time.
CHUNK_USERS = 16_384


@dataclass(frozen=True)
class Asked:
    """What is asked of a run: a configuration, a system, a date (None: the day after the data), lists of items."""

    config: Config
    system: str = DECODER
    day: int | None = None
    candidates_file: Path | None = None
    blocklist: Path | None = None


def recommend_everybody(
    found: Run, asked: Asked, path: Path, sheet: Path | None = None, why: Path | None = None
) -> None:
    """Write lists for every customer to ``path``, as Kaggle's submission to ``sheet``, and their reasons to ``why``.

    Raises:
        DataError: a list of items cannot be used, or leaves too few items for a customer.
        UsageError: there is no such system.
    """
    data, config = found.open_data(), asked.config
    day = data.last_day + 1 if asked.day is None else asked.day
    if day <= data.first_day:
        raise UsageError(
            f"nothing was bought before {day_date(day)}: the data run from {day_date(data.first_day)} to "
            f"{day_date(data.last_day)}; choose a later --date"
        )
    only, blocked = (
        None if listed is None else read_item_list(listed, data) for listed in (asked.candidates_file, asked.blocklist)
    )
    allowed = candidates_at(data, day, config.predict.sold_within_days, only=only, blocked=blocked)
    candidates = Candidates(allowed, config.predict.exclude_seen)
    require_enough(candidates, config.predict.k)  # before anything is loaded
    history = History(data, data.ends_before(day), day)
    recommender = fit_system(asked.system, found, config, history)
    everybody = np.arange(data.n_users, dtype=np.int32)
    write_lists(recommender, history, everybody, config.predict.k, candidates, path)
    talk.print(f"{asked.system} at {day_date(day)}: {config.predict.k} items for each of {data.n_users:,} customers")
    if day - data.last_day > config.split.horizon_days:
        talk.print(
            f"the data end on {day_date(data.last_day)}, {day - data.last_day:,} days before that: nothing is known "
            "of what was bought since"
        )
    typer.echo(path)
    if sheet is not None:
        write_submission(path, sheet)
        check_submission(sheet, data)
        typer.echo(sheet)
    if (
        why is not None
        and isinstance(recommender, WithColdStart)
        and isinstance(recommender.decoder, DecoderRecommender)
    ):
        write_reasons(recommender.decoder, history, everybody, read_lists(path, data, everybody), why)
        typer.echo(why)


def predict_folds(found: Run, *, force: bool = False) -> None:
    """Write the lists of the decoder and of every configured baseline for each test fold of a run.

    Raises:
        OutputExistsError: lists are there and ``force`` is false.
    """
    data = found.open_data()
    folds = make_split(data, found.config.split).tests
    for name in systems_of(found.config, data):
        for fold in folds:
            require_absent(found.table_path(name, fold.name), force=force)
    n_tables = write_fold_lists(found, data, folds)
    folder = found.report_folder / "recommendations"
    talk.print(f"wrote {n_tables} tables under {folder}; next: recsys evaluate --run {found.name}")


def systems_of(config: Config, data: Purchases) -> list[str]:
    """Return the decoder and those of the configured baselines that can be fitted to ``data``."""
    return [DECODER, *(name for name in config.baselines.systems if can_fit(name, data, config))]


def write_fold_lists(found: Run, data: Purchases, folds: tuple[Fold, ...], *, keep: bool = False) -> int:
    """Write the lists of all systems for ``folds``, but for those that stand if ``keep``; return how many were written.

    Only customers who bought in a fold's window are asked: others have no bearing on the metrics, and no list depends
    on whom else was asked.
    """
    config, systems = found.config, systems_of(found.config, data)
    if len(systems) <= len(config.baselines.systems):
        talk.print(f"variants are left out: the items have no column {config.baselines.variant_column}")
    wanted = [(fold, name, found.table_path(name, fold.name)) for fold in folds for name in systems]
    wanted = [asked for asked in wanted if not (keep and asked[2].is_file())]
    chosen_path = found.report_folder / "recommendations" / "choices.json"
    choices: dict[str, dict[str, float]] = read_json(chosen_path) if keep and chosen_path.is_file() else {}
    with progress() as bar:
        task = bar.add_task("systems × folds", total=len(wanted))
        for fold, name, path in wanted:
            bar.update(task, description=f"{fold.name} {name}")
            history, candidates = asked_at(fold, data, config)
            recommender = fit_system(name, found, config, history)
            write_lists(recommender, history, fold.user_index, config.predict.k, candidates, path)
            if isinstance(recommender, Repeat):
                choices.setdefault(fold.name, {})["half_life_days"] = recommender.half_life_days
            bar.advance(task)
    write_json(chosen_path, choices)
    return len(wanted)


def asked_at(fold: Fold, data: Purchases, config: Config) -> tuple[History, Candidates]:
    """Return what is known at a fold's date and what may be recommended then."""
    allowed = candidates_at(data, fold.start_day, config.predict.sold_within_days)
    return History(data, fold.history_end, fold.start_day), Candidates(allowed, config.predict.exclude_seen)


def fit_system(name: str, found: Run, config: Config, history: History) -> Recommender:
    """Return the system called ``name``, ready to be asked at the history's date.

    Raises:
        UsageError: there is no such system.
        RunError: the run's weights do not fit its configuration.
    """
    if name == DECODER:
        cold_start = Popularity.for_cold_start(history, config.predict.segment)
        return WithColdStart(load_decoder(found, history.data), cold_start)
    if name not in BASELINES:
        raise UsageError(f"there is no system {name!r}; expected {DECODER}, {', '.join(BASELINES)}")
    validation = make_split(history.data, config.split).validation
    # A setting may be chosen only on a window that had ended by the date asked.
    return fit_baseline(name, history, config, validation if validation.end_day <= history.day else None)


def write_lists(
    recommender: Recommender, history: History, user_index: np.ndarray, k: int, candidates: Candidates, path: Path
) -> None:
    """Write the lists of ``user_index`` to a Parquet table with the original ids, in chunks, whole or not at all."""
    with replacing(path) as aside, pq.ParquetWriter(aside, RECOMMENDATIONS_SCHEMA) as writer, progress() as bar:
        task = bar.add_task(
            f"lists of {recommender.name}", total=len(user_index), visible=len(user_index) > CHUNK_USERS
        )
        for begin in range(0, len(user_index), CHUNK_USERS):
            users = user_index[begin : begin + CHUNK_USERS]
            lists = recommender.recommend(history, users, k, candidates)
            writer.write_table(recommendation_rows(history.data, lists.user_index, lists.item, lists.score))
            bar.advance(task, len(users))
