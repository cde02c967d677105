"""Write recommendations for a date, for the test folds, or as Kaggle's submission: ``recsys predict``."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.table import Table

from recsys.allocator import keep_freed_memory
from recsys.config import Config
from recsys.console import ForceOption, RunOption, progress, run, talk
from recsys.errors import ConfigError, UsageError
from recsys.modeling.baselines import BASELINES, can_fit, fit_baseline
from recsys.modeling.baselines.lists import require_enough
from recsys.modeling.baselines.popularity import Popularity
from recsys.modeling.baselines.repeat import Repeat
from recsys.modeling.models import load_decoder, load_transformer
from recsys.modeling.reason_texts import write_reasons
from recsys.modeling.recommend import Candidates, DecoderRecommender, History, Lists, Recommender
from recsys.modeling.seed_batches import SeedBatches, customer_stretches
from recsys.modeling.seed_scores import HeldOutScores, score_held_out
from recsys.modeling.universe import candidates_at, read_item_list
from recsys.prepared import PreparedData, day_date, day_number
from recsys.runs import HELD_OUT_FILE, Run, find_run
from recsys.splits import Fold, make_split
from recsys.storage import read_json, replacing, require_absent, write_json
from recsys.submission import SUBMISSION_K, check_submission, write_submission
from recsys.tables import RECOMMENDATIONS_SCHEMA, read_lists, recommendation_rows

app = typer.Typer(add_completion=False)

DECODER = "decoder"
#: Customers whose lists are made, and written, at a time.
CHUNK_USERS = 16_384


@dataclass(frozen=True)
class ServedDecoder:
    """The decoder as customers meet it: those of whom it knows nothing get what most of their segment bought this week.

    It knows the history, and where it reads the user table, what stands there of a customer without one.

    Items that fill a list score below the decoder's own, by their place in the ranking.
    """

    decoder: Recommender
    newcomers: Popularity
    name: str = DECODER

    def recommend(self, history: History, user_index: np.ndarray, k: int, candidates: Candidates) -> Lists:
        """Return the ``k`` best allowed items for each of ``user_index`` (Q,).

        Raises:
            DataError: fewer than ``k`` items may be recommended to a customer.
        """
        require_enough(candidates, k)
        if isinstance(self.decoder, DecoderRecommender):
            known = self.decoder.knows(history, user_index)
        else:
            known = history.end[user_index] > history.data.offsets[user_index]
        item = np.zeros((len(user_index), k), dtype=np.int32)
        score = np.full((len(user_index), k), -np.inf, dtype=np.float32)
        if known.any():
            lists = self.decoder.recommend(history, user_index[known], k, candidates)
            item[known], score[known] = lists.item, lists.score
        item[np.isneginf(score)] = 0
        place = self.newcomers.fill(item, history, user_index, candidates)
        lowest = np.where(np.isfinite(score), score, np.inf).min(axis=1, keepdims=True)
        filler = np.where(np.isfinite(lowest), lowest, 0) - place
        return Lists(user_index, item, np.where(place > 0, filler, score).astype(np.float32))


@app.command()
def main(
    run_name: RunOption = None,
    day: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Date asked; the day after the data by default.")
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="Items a customer; the run's predict.k by default.")
    ] = None,
    system: Annotated[str, typer.Option("--system", help=f"{DECODER}, {', '.join(BASELINES)}.")] = DECODER,
    sold_within_days: Annotated[
        int | None, typer.Option("--sold-within-days", min=1, help="Candidates: items sold in the last n days.")
    ] = None,
    universe: Annotated[
        Path | None, typer.Option("--universe", help="Candidates: item ids in a file (text, one a line, or Parquet).")
    ] = None,
    blocklist: Annotated[
        Path | None, typer.Option("--blocklist", help="Item ids never recommended, in a file.")
    ] = None,
    exclude_seen: Annotated[
        bool | None, typer.Option("--exclude-seen/--include-seen", help="Leave out what the customer has bought.")
    ] = None,
    submission: Annotated[bool, typer.Option("--submission", help="Also write Kaggle's submission.csv.")] = False,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Also write reasons.parquet: which purchases carried each item, and why.")
    ] = False,
    folds: Annotated[
        bool, typer.Option("--folds", help="Write the lists of all systems for the run's test folds instead.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Table to write; under reports/<run> by default.")] = None,
    force: ForceOption = False,
) -> None:
    """Write recommendations for every customer at a date.

    A published decoder that was trained with customers held out is scored on them as well.
    """
    found = find_run(run_name)
    keep_freed_memory()
    if folds:
        asks = (day, k, sold_within_days, universe, blocklist, exclude_seen, out)
        if reasons or any(value is not None for value in asks):
            raise UsageError("--folds asks what the run's configuration asks; it goes with --run and --force only")
        predict_folds(found, force=force)
        return
    if submission and k not in (None, SUBMISSION_K):
        raise UsageError(f"a submission holds {SUBMISSION_K} items a customer, found --k {k}")
    options = {"k": SUBMISSION_K if submission else k, "sold_within_days": sold_within_days}
    options["exclude_seen"] = exclude_seen
    config = _with(found.config, {name: value for name, value in options.items() if value is not None})
    path = out or found.report_folder / "recommendations.parquet"
    sheet = path.with_name("submission.csv") if submission else None
    why = path.with_name("reasons.parquet") if reasons else None
    if reasons and (system != DECODER or config.seed_model.kind is not None):
        named = system if system != DECODER else f"{found.name}, a published decoder"
        raise UsageError(f"--reasons are those of the decoder of `model`; they cannot be told for {named}")
    for output in (path, sheet, why):
        if output is not None:
            require_absent(output, force=force)
    asked = Asked(config, system, None if day is None else _parse_day(day), universe, blocklist)
    recommend_everybody(found, asked, path, sheet, why)
    if system == DECODER and config.seed_model.kind is not None and config.split.protocol == "customers":
        show_held_out(score_customers(found), found.report_folder / HELD_OUT_FILE)


@dataclass(frozen=True)
class Asked:
    """What is asked of a run: a configuration, a system, a date (None: the day after the data), lists of items."""

    config: Config
    system: str = DECODER
    day: int | None = None
    universe: Path | None = None
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
        None if listed is None else read_item_list(listed, data) for listed in (asked.universe, asked.blocklist)
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
        and isinstance(recommender, ServedDecoder)
        and isinstance(recommender.decoder, DecoderRecommender)
    ):
        write_reasons(recommender.decoder, history, everybody, read_lists(path, data, everybody), why)
        typer.echo(why)


def score_customers(found: Run) -> HeldOutScores:
    """Return what a published architecture scores on the customers that its run neither learned from nor chose by."""
    data, chosen = found.open_data(), found.config.seed_model
    users = make_split(data, found.config.split).tests[0].user_index
    stretches = customer_stretches(data, users, chosen.seq_max_len)
    return score_held_out(load_transformer(found, data), SeedBatches(data, stretches, chosen.batch_size))


def show_held_out(scores: HeldOutScores, path: Path) -> None:
    """Print the scores on held-out customers and write them to ``path`` as JSON."""
    write_json(path, scores.to_dict())
    table = Table(box=None, title=f"{scores.n_purchases:,} purchases of {scores.n_customers:,} held-out customers")
    for name in ("", "next item", "whole sequence"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("test loss", f"{scores.loss:.4f}")
    table.add_row("test entropy", f"{scores.entropy:.4f}")
    for k, recall in scores.recall_next_item.items():
        table.add_row(f"Recall@{k}", f"{recall:.4f}", f"{scores.recall_whole_sequence[k]:.4f}")
    talk.print(table)
    talk.print(f"wrote {path}", markup=False)


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


def systems_of(config: Config, data: PreparedData) -> list[str]:
    """Return the decoder and those of the configured baselines that can be fitted to ``data``."""
    return [DECODER, *(name for name in config.baselines.systems if can_fit(name, data, config))]


def write_fold_lists(found: Run, data: PreparedData, folds: tuple[Fold, ...], *, keep: bool = False) -> int:
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


def asked_at(fold: Fold, data: PreparedData, config: Config) -> tuple[History, Candidates]:
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
        newcomers = Popularity.for_newcomers(history, config.predict.segment)
        return ServedDecoder(load_decoder(found, history.data), newcomers)
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


def _with(config: Config, changes: dict[str, object]) -> Config:
    return config.model_copy(update={"predict": config.predict.model_copy(update=changes)})


def _parse_day(text: str) -> int:
    try:
        return day_number(date.fromisoformat(text))
    except ValueError as error:
        raise ConfigError(f"--date {text!r} is not a date; expected YYYY-MM-DD, such as 2020-09-23") from error


if __name__ == "__main__":
    run(app)
