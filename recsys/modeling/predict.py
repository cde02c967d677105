"""Write recommendations for a date, for the test folds, or as Kaggle's submission; its help loads no torch."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from recsys.config import Config
from recsys.console import DateOption, ForceOption, RunOption, SparkOption, counted, run, talk
from recsys.data.days import day_date, parse_day
from recsys.data.exports import export_lists, require_ending
from recsys.data.kaggle_submission import SUBMISSION_K, check_submission, write_submission
from recsys.data.purchases import Histories
from recsys.errors import UsageError
from recsys.evaluation.splits import make_split
from recsys.evaluation.tables import read_lists
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.recommenders.base import Candidates, candidates_at, read_item_list, require_enough
from recsys.modeling.recommenders.registry import BASELINES
from recsys.runs import HELD_OUT_FILE, Run, find_run
from recsys.schema import DECODER
from recsys.storage import replacing, require_absent, unfinished, write_json

REASONS, SUBMISSION = "reasons.parquet", "submission.csv"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    run_name: RunOption = None,
    day: DateOption = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="Only who bought since that day, before --date."),
    ] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Items a customer; the run's predict.k by default.")] = None,
    system: Annotated[str, typer.Option(help=f"{DECODER}, {', '.join(BASELINES)}; chosen: by --folds.")] = DECODER,
    sold_within_days: Annotated[int | None, typer.Option(min=1, help="Candidates: sold in the last n days.")] = None,
    candidates: Annotated[Path | None, typer.Option(help="Candidates: ids in a file, one a line, or Parquet.")] = None,
    blocklist: Annotated[Path | None, typer.Option(help="Item ids never recommended, in a file.")] = None,
    exclude_seen: Annotated[
        bool | None, typer.Option("--exclude-seen/--include-seen", help="Leave out what was bought.")
    ] = None,
    submission: Annotated[bool, typer.Option("--submission", help="Also write Kaggle's submission.csv.")] = False,
    reasons: Annotated[bool, typer.Option("--reasons", help="Also write reasons.parquet: why each item.")] = False,
    folds: Annotated[bool, typer.Option("--folds", help="Write all systems' lists for test folds.")] = False,
    out: Annotated[Path | None, typer.Option(help="Table: .parquet, .csv or .xlsx; else in reports/<run>.")] = None,
    engine: Annotated[
        Literal["local", "spark"],
        typer.Option(help="spark: in executors, into a folder .parquet or, where installed, .delta."),
    ] = "local",
    spark: SparkOption = None,
    force: ForceOption = False,
) -> None:
    """Write recommendations for every customer at a date.

    Given again, a command that was killed goes on from the customers who had their lists; not with --folds or Spark.

    An original decoder that was trained with customers held out is scored on them as well.
    """
    chosen = find_run(run_name)
    keep_freed_memory()
    if system == "chosen":
        system = import_module("recsys.modeling.choice").chosen_system(chosen)
    if folds:
        given = (day, since, k, sold_within_days, candidates, blocklist, exclude_seen, out)
        if reasons or any(value is not None for value in given):
            raise UsageError("--folds asks what the run's configuration asks; it goes with --run and --force only")
        predict_folds(chosen, force=force)
        return
    if submission and since is not None:
        raise UsageError("a submission has a list for every customer; leave out --since or --submission")
    if submission and k not in (None, SUBMISSION_K):
        raise UsageError(f"a submission holds {SUBMISSION_K} items a customer, found --k {k}")
    k = SUBMISSION_K if submission else k
    options = {"k": k, "sold_within_days": sold_within_days, "exclude_seen": exclude_seen}
    changes = {name: value for name, value in options.items() if value is not None}
    config = chosen.config.model_copy(update={"predict": chosen.config.predict.model_copy(update=changes)})
    if reasons and (system != DECODER or config.family != "decoder"):
        titles = import_module("recsys.modeling.lists").TITLES
        named = system if system != DECODER else f"{chosen.name}, {titles[config.family]}"
        raise UsageError(f"--reasons are those of the decoder of `model`; there are none of {named}")
    path = out or chosen.report_folder / "recommendations.parquet"
    beside = {name: path.with_name(name) for name in [SUBMISSION] * submission + [REASONS] * reasons}
    _require_writable(path, list(beside.values()), by_spark=engine == "spark", force=force)
    everybody, histories, allowed = _histories_and_candidates(chosen, config, day, since, (candidates, blocklist))
    if engine == "spark":
        by_spark = import_module("recsys.modeling.spark_lists")
        n_short = by_spark.write_lists(chosen, config, system, everybody, histories, allowed, path, spark)
    else:
        recommender = import_module("recsys.modeling.lists").fit_system(system, chosen, config, everybody)
        n_short = _write_tables(recommender, chosen, config, histories, allowed, path, beside)
    _say_whom(system, histories, config, n_short)
    typer.echo(path)
    if submission:
        check_submission(beside[SUBMISSION], histories.log)
    for other in beside.values():
        typer.echo(other)
    if system == DECODER and config.family == "original" and config.split.protocol == "customers":
        show_held_out(chosen)


def _require_writable(path: Path, beside: list[Path], *, by_spark: bool, force: bool) -> None:
    """Raise a UsageError where lists cannot be written to ``path``, and what goes with them ``beside`` it."""
    if by_spark and (beside or path.suffix not in (".parquet", ".delta")):
        raise UsageError("--engine spark writes lists alone, to --out NAME.parquet or NAME.delta")
    if not by_spark:
        require_ending(path)
    if path in beside:
        raise UsageError(f"--out {path}: that is the name of what is written beside the lists; choose another")
    for output in (path, *beside):
        require_absent(output, force=force)


def _write_tables(
    recommender: Any,  # noqa: ANN401 - a system
    chosen: Run,
    config: Config,
    histories: Histories,
    candidates: Candidates,
    path: Path,
    beside: dict[str, Path],
) -> int:
    """Write lists to ``path``, and ``beside`` it what is asked for; return how many of them are short."""
    lists, reasons, submission = import_module("recsys.modeling.lists"), *map(beside.get, (REASONS, SUBMISSION))
    identity = lists.identity_of_lists(chosen, config, recommender.name, histories, candidates)
    with unfinished(path, identity) as kept:
        if n_kept := len(list(kept.glob("*.parquet"))):
            n_chunks = -(-len(histories) // lists.CHUNK_USERS)
            talk.print(f"{n_kept:,} of {n_chunks:,} chunks of these lists stand since an earlier command; going on")
        table = path if path.suffix.lower() == ".parquet" and not beside else kept / "lists"
        with counted(f"lists of {recommender.name}") as advance:
            n_short = lists.write_lists(recommender, histories, config.predict.k, candidates, table, advance, kept=kept)
        if reasons:
            write_reasons = import_module("recsys.modeling.explain.sentences").write_reasons
            items = read_lists(table, histories.log, histories.user_index)
            with counted("reasons") as advance:
                write_reasons(recommender.decoder, histories, items, reasons, advance)
        if submission:
            write_submission(table, submission)
        if path.suffix.lower() != ".parquet":
            export_lists(table, histories.log, path, reasons)
        elif table != path:
            with replacing(path) as aside:  # last, so that what was killed before is not taken for finished
                table.rename(aside)
    return int(n_short)


def _histories_and_candidates(
    chosen: Run, config: Config, date: str | None, since: str | None, limits: tuple[Path | None, Path | None]
) -> tuple[Histories, Histories, Candidates]:
    """Return the histories of everybody, those that are asked, and what may be recommended.

    ``config`` is the run's, changed as asked. ``date`` is the day after the data if None; who bought on no day from
    ``since`` on is not asked. ``limits`` are files of the items that may be recommended, and of those that never are.
    """
    log = chosen.open_data()
    day = parse_day(date, log.last_day + 1)
    if day <= log.first_day:
        raise UsageError(
            f"nothing was bought before {day_date(day)}: the data run from {day_date(log.first_day)} to "
            f"{day_date(log.last_day)}; choose a later --date"
        )
    only, blocked = (None if file is None else read_item_list(file, log) for file in limits)
    candidates = candidates_at(log, day, config.predict, only, blocked)
    require_enough(candidates, config.predict.k)  # before anything is loaded
    everybody = histories = log.histories(day)
    if since is not None:
        first = parse_day(since, day, "--since")
        if first >= day:
            raise UsageError(f"--since {since} is not before the date asked, {day_date(day)}; expected an earlier day")
        histories = everybody.of(everybody.end > log.ends_before(first))
        if not len(histories):
            raise UsageError(
                f"no customer bought from {day_date(first)} to {day_date(day - 1)}: the data end on "
                f"{day_date(log.last_day)}; choose an earlier --since"
            )
    return everybody, histories, candidates


def _say_whom(system: str, histories: Histories, config: Config, n_short: int) -> None:
    log, day = histories.log, histories.day
    whom = (
        f"{len(histories):,} customers"
        if len(histories) == log.n_users
        else f"{len(histories):,} of {log.n_users:,} customers"
    )
    talk.print(f"{system} at {day_date(day)}: {config.predict.k} items for each of {whom}")
    if n_short:
        talk.print(f"{n_short:,} of them get a shorter list: nothing else that may be recommended is left for them")
    if day - log.last_day > config.split.horizon_days:
        talk.print(
            f"the data end on {day_date(log.last_day)}, {day - log.last_day:,} days before that: nothing is known "
            "of what was bought since"
        )


def show_held_out(chosen: Run) -> None:
    """Print the scores of a run on held-out customers, and write them beside its lists as JSON."""
    with counted("held-out customers") as advance:
        scores = import_module("recsys.modeling.original.scores").score_customers(chosen, advance)
    path = chosen.report_folder / HELD_OUT_FILE
    write_json(path, scores._asdict())
    table = Table(box=None, title=f"{scores.n_purchases:,} purchases of {scores.n_customers:,} held-out customers")
    for name in ("", "next item", "whole sequence"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("test loss", f"{scores.loss:.4f}")
    table.add_row("test entropy", f"{scores.entropy:.4f}")
    for k, recall in scores.recall_next_item.items():
        table.add_row(f"Recall@{k}", f"{recall:.4f}", f"{scores.recall_whole_sequence[k]:.4f}")
    talk.print(table)
    talk.print(f"wrote {path}", markup=False)


def predict_folds(chosen: Run, *, force: bool = False) -> None:
    """Write the lists of the decoder and of every configured baseline for each test fold of a run."""
    log, config = chosen.open_data(), chosen.config
    folds = make_split(log, config.split).tests
    for system in (DECODER, *config.baselines.systems):
        for fold in folds:
            require_absent(chosen.table_path(system, fold.name), force=force)
    n_tables = import_module("recsys.modeling.lists").write_fold_lists(chosen, log, folds)
    folder = chosen.report_folder / "recommendations"
    if config.split.protocol == "weekly":
        choice = import_module("recsys.modeling.choice").choose_system(chosen, log)
        lead = f"{choice.difference:+.4f} ± {choice.standard_error:.4f} {choice.metric.upper()}"
        talk.print(
            f"for these customers: {choice.system} (validation window, {choice.n_customers:,} customers: the decoder "
            f"minus {choice.best_rule} {lead}); recsys predict --system chosen serves it"
        )
    talk.print(f"wrote {n_tables} tables under {folder}; next: recsys evaluate --run {chosen.name}")


if __name__ == "__main__":
    run(app)
