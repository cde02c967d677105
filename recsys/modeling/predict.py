"""Write recommendations for a date, for the test folds, or as Kaggle's submission: ``recsys predict``."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from recsys.config import Config
from recsys.console import ForceOption, RunOption, run
from recsys.data.days import day_number
from recsys.data.kaggle_submission import SUBMISSION_K
from recsys.errors import ConfigError, UsageError
from recsys.modeling.lists import Asked, predict_folds, recommend_everybody
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.original.scores import score_customers, show_held_out
from recsys.modeling.recommenders.registry import BASELINES
from recsys.runs import HELD_OUT_FILE, find_run
from recsys.schema import DECODER
from recsys.storage import require_absent

app = typer.Typer(add_completion=False)


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
    candidates_file: Annotated[
        Path | None,
        typer.Option("--candidates_file", help="Candidates: item ids in a file (text, one a line, or Parquet)."),
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

    An original decoder that was trained with customers held out is scored on them as well.
    """
    found = find_run(run_name)
    keep_freed_memory()
    if folds:
        asks = (day, k, sold_within_days, candidates_file, blocklist, exclude_seen, out)
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
    if reasons and (system != DECODER or config.original.kind is not None):
        named = system if system != DECODER else f"{found.name}, an original decoder"
        raise UsageError(f"--reasons are those of the decoder of `model`; they cannot be told for {named}")
    for output in (path, sheet, why):
        if output is not None:
            require_absent(output, force=force)
    asked = Asked(config, system, None if day is None else _parse_day(day), candidates_file, blocklist)
    recommend_everybody(found, asked, path, sheet, why)
    if system == DECODER and config.original.kind is not None and config.split.protocol == "customers":
        show_held_out(score_customers(found), found.report_folder / HELD_OUT_FILE)


def _with(config: Config, changes: dict[str, object]) -> Config:
    return config.model_copy(update={"predict": config.predict.model_copy(update=changes)})


def _parse_day(text: str) -> int:
    try:
        return day_number(date.fromisoformat(text))
    except ValueError as error:
        raise ConfigError(f"--date {text!r} is not a date; expected YYYY-MM-DD, such as 2020-09-23") from error


if __name__ == "__main__":
    run(app)
