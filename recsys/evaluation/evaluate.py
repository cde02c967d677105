"""Score tables of any system, ``user_id, rank, item_id, score``, against what was bought: ``recsys evaluate``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from recsys.config import Config
from recsys.console import ForceOption, RunOption, counted, run, talk
from recsys.errors import UsageError
from recsys.evaluation.metrics import all_metrics
from recsys.evaluation.results import MAIN_METRIC, METRICS_FILE, Cell, RunCells
from recsys.evaluation.runs import bootstrap_protocol, score_run, settings_of
from recsys.evaluation.scoring import score_systems
from recsys.evaluation.tables import lists_of_tables
from recsys.runs import Run, find_run
from recsys.schema import DECODER
from recsys.storage import require_absent, write_json

#: What public analyses of the competition chosen between a last-week MAP@12 and the private leaderboard's.
HM_PRIVATE_SHARE = (0.83, 0.86)

app = typer.Typer(add_completion=False)


@app.command()
def main(
    run_name: RunOption = None,
    recommendations: Annotated[Path | None, typer.Option(help="Parquet table user_id, rank, item_id of lists.")] = None,
    targets: Annotated[Path | None, typer.Option(help="Parquet table user_id, item_id: what was bought.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --targets: write the numbers to this JSON file.")] = None,
    force: ForceOption = False,
) -> None:
    """Score a run's recommendations fold by fold, or any two tables, and print the systems side by side."""
    if (recommendations is None) != (targets is None):
        raise UsageError("--recommendations and --targets go together: one table of lists, one of what was bought")
    if recommendations is not None and targets is not None:
        if run_name is not None:
            raise UsageError("--run scores the run's own tables; leave it out with --recommendations and --targets")
        _evaluate_tables(recommendations, targets, out, force=force)
    elif out is not None:
        raise UsageError("--out goes with --recommendations and --targets; a run's numbers go to its report folder")
    else:
        _evaluate_run(find_run(run_name), force=force)


def _evaluate_run(chosen: Run, *, force: bool) -> None:
    path = chosen.report_folder / METRICS_FILE
    require_absent(path, force=force)
    with counted("scoring segments") as advance:
        scores = score_run(chosen, advance)
    write_json(path, scores)
    print_scores(scores)
    last = scores["folds"][-1]
    cell = last["systems"].get(DECODER, {}).get(MAIN_METRIC)
    if chosen.config.data.source == "hm" and chosen.config.split.protocol == "weekly" and cell is not None:
        low, high = HM_PRIVATE_SHARE
        typer.echo(
            f"The decoder's MAP@12 on the week of {last['start']} is {cell['value']:.4f}. Public analyses of the "
            f"competition put the private score at {low}-{high} of such a local one: {low * cell['value']:.4f} to "
            f"{high * cell['value']:.4f}."
        )
    talk.print(f"wrote {path}; next: recsys report --run {chosen.name}", markup=False)


def _evaluate_tables(recommendations: Path, targets: Path, out: Path | None, *, force: bool) -> None:
    if out is not None:
        require_absent(out, force=force)
    fold_lists, config = lists_of_tables(recommendations, targets), Config()
    (lists,) = fold_lists.lists.values()
    if without := int((lists == 0).all(axis=1).sum()):
        talk.print(f"{without:,} of {len(lists):,} customers who bought have no list and are misses", style="yellow")
    shorter = config.predict.model_copy(update={"k": min(lists.shape[1], config.predict.k)})
    config = config.model_copy(update={"predict": shorter})
    protocol = bootstrap_protocol(config) | {"n_users_asked": len(lists)}
    scores = {"protocol": protocol, **score_systems([fold_lists], settings_of(config))}
    print_scores(scores)
    if out is not None:
        write_json(out, scores)
        talk.print(f"wrote {out}", markup=False)


def print_scores(scores: RunCells) -> None:
    """Print the mean over folds, a row a system, on standard output."""
    computed = next(iter(scores["systems"].values()))
    largest = max(int(name.partition("@")[2]) for name in computed)
    printed = [f"{metric.name}@{largest}" for metric in all_metrics().values() if metric.printed]
    metrics = [name for name in printed if name in computed]
    table = Table("system")
    for metric in metrics:
        table.add_column(metric.upper().replace("_", " "), no_wrap=True)
    for system, values in scores["systems"].items():
        table.add_row(system, *[value_text(values.get(metric)) for metric in metrics])
    Console(width=20 + 26 * len(metrics)).print(table)  # whole numbers, also where the output is piped


def value_text(cell: Cell | None) -> str:
    """Return a value with its interval in brackets, where it has one; nothing for None."""
    if cell is None:
        return ""
    value = f"{cell['value']:.4f}"
    return value if cell["low"] is None else f"{value} [{cell['low']:.4f}, {cell['high']:.4f}]"


if __name__ == "__main__":
    run(app)
