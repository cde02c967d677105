"""What a run of weeks would have brought, trained anew or not: ``recsys backtest``."""

import shutil
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from recsys.config import MODELS_DIR, REPORTS_DIR, Config, load_config
from recsys.console import ConfigOption, SetOption, run, talk
from recsys.data.days import day_date
from recsys.data.prepare import prepare
from recsys.data.purchases import Purchases, is_prepared, open_purchases
from recsys.errors import ConfigError, DataError, RunError
from recsys.evaluation.evaluate import print_scores
from recsys.evaluation.results import RunCells
from recsys.evaluation.runs import lists_of_run, score_folds
from recsys.evaluation.scoring import FoldLists
from recsys.evaluation.splits import Fold, make_split
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.recommenders.registry import systems_of
from recsys.modeling.train import train
from recsys.runs import INFO_FILE, Run, find_run, has_checkpoint
from recsys.schema import in_report_order
from recsys.storage import write_json

BACKTEST_FILE = "backtest.json"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: ConfigOption = None,
    settings: SetOption = None,
    source: Annotated[str | None, typer.Option(help="Reader of the raw data; else the configuration's.")] = None,
    weeks: Annotated[int, typer.Option(min=1, help="Windows of split.horizon_days, the last ones.")] = 6,
    retrain_every: Annotated[
        int | None,
        typer.Option(min=1, help="Train anew after so many; else once before the first."),
    ] = None,
    name: Annotated[str | None, typer.Option("--run", help="Name; else the configuration's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Train and recommend anew what stands already.")] = False,
) -> None:
    """Go through the last weeks as they would have gone: train, recommend to those who bought, score.

    Data that are not prepared are prepared first. What stands is not made again, so an interrupted backtest goes on.
    """
    added = [f"{key}={value}" for key, value in (("data.source", source), ("name", name)) if value is not None]
    resolved = load_config(config, [*(settings or []), *added])
    keep_freed_memory()
    plan = Backtest.from_config(resolved, weeks, force=force)
    scores, path = backtest(plan, retrain_every), REPORTS_DIR / resolved.name / BACKTEST_FILE
    _print_weeks(scores)
    print_scores(scores)
    write_json(path, scores)
    talk.print(f"wrote {path}", markup=False)


@dataclass(frozen=True)
class Backtest:
    """The weeks that are gone through, and the data they lie in."""

    config: Config
    log: Purchases
    folds: tuple[Fold, ...]
    force: bool = False
    made: dict[int, Run] = field(default_factory=dict)  # by train_day: what this backtest has trained or found

    @classmethod
    def from_config(cls, config: Config, weeks: int, *, force: bool = False) -> "Backtest":
        """Return the last ``weeks`` windows of the data of ``config``, which are prepared where they are not."""
        if config.split.protocol != "weekly":
            raise ConfigError(f"split.protocol is {config.split.protocol}; a backtest asks at dates: set it to weekly")
        if config.family == "text":
            raise ConfigError("text_model.objective is set: a text transformer recommends nothing; leave it out")
        if not is_prepared(config.data.folder):
            talk.print(f"preparing {config.data.folder}", markup=False)
            prepare(config.data)
        log = open_purchases(config.data.folder, config.data.prepare_command)
        config = config.model_copy(update={"split": config.split.model_copy(update={"n_folds": weeks})})
        try:
            tests = make_split(log, config.split).tests
        except DataError as error:
            raise DataError(str(error).replace("split.n_folds", "--weeks")) from error
        return cls(config, log, tests, force)

    @property
    def whole(self) -> Run:
        """What stands for all its runs where its numbers are described."""
        return Run(MODELS_DIR / self.config.name, self.config, {})

    def train_day(self, fold: Fold, weeks_before: int) -> int:
        """Return the first day of the window held out by the weights of ``weeks_before`` windows before a fold."""
        return fold.start_day - weeks_before * self.config.split.horizon_days

    def learned_before(self, train_day: int) -> int:
        """Return the first day that such weights have not learned from: ``training.until`` may add their window."""
        return train_day + (self.config.split.horizon_days if self.config.training.until == "test" else 0)

    def model_config(self, train_day: int) -> Config:
        """Return the settings of weights that hold out the window from ``train_day`` on; equal dates are equal runs."""
        config = self.config
        end = day_date(train_day + config.split.horizon_days)
        split = config.split.model_copy(update={"n_folds": 0, "end": end})
        return config.model_copy(update={"name": f"{config.name}-before-{day_date(train_day)}", "split": split})


def backtest(plan: Backtest, retrain_every: int | None = None) -> RunCells:
    """Return what ``metrics.json`` would hold, one training for each ``retrain_every`` weeks, or for all of them."""
    log, folds, every = plan.log, plan.folds, retrain_every or len(plan.folds)
    systems = in_report_order(systems_of(plan.config, log))
    scored: list[FoldLists] = []
    models: list[tuple[str, str]] = []
    for first in range(0, len(folds), every):
        served = folds[first : first + every]
        train_day = plan.train_day(served[0], 1)
        run_of_weeks = trained(plan, train_day)
        import_module("recsys.modeling.lists").write_fold_lists(run_of_weeks, log, served, keep=True)
        scored += [lists_of_run(run_of_weeks, log, fold, systems) for fold in served]
        learned_before = day_date(plan.learned_before(train_day)).isoformat()
        models += [(run_of_weeks.name, learned_before)] * len(served)
    scores = score_folds(plan.whole, log, scored)
    scores["protocol"]["retrain_every"] = every
    described = zip(scores["folds"], models, strict=True)
    scores["folds"] = [{**fold, "run": name, "learned_before": day} for fold, (name, day) in described]
    return scores


def trained(plan: Backtest, train_day: int) -> Run:
    """Return the run that holds out the window from ``train_day`` on, trained where it does not stand already."""
    if train_day in plan.made:
        return plan.made[train_day]
    config = plan.model_config(train_day)
    folder = MODELS_DIR / config.name
    if plan.force or not (folder / INFO_FILE).is_file():
        learned_before = day_date(plan.learned_before(train_day))
        talk.print(f"training {config.name}: it learns from what lies before {learned_before}", markup=False)
        shutil.rmtree(REPORTS_DIR / config.name / "recommendations", ignore_errors=True)  # of earlier weights
        train(config, resume=not plan.force and has_checkpoint(folder), force=True)
    standing = plan.made[train_day] = find_run(str(folder))
    standing.open_data()  # refuses other data
    # How lists are scored bears on no list.
    if standing.config.model_copy(update={"evaluation": config.evaluation}) != config:
        raise RunError(
            f"{folder} was made with another configuration than the one given; give the same one, another name "
            "with --run, or --force to make it anew"
        )
    return standing


def _print_weeks(scores: RunCells) -> None:
    """Print MAP@k week by week, a column a system, and the mean of the weeks, on standard output."""
    metric = longest_map(scores["systems"]["decoder"])
    table = Table("week from", "learned before", "customers", *scores["systems"], title=metric.upper())
    for fold in scores["folds"]:
        values = [f"{values[metric]['value']:.4f}" for values in fold["systems"].values()]
        table.add_row(fold["start"], fold["learned_before"], f"{fold['n_users']:,}", *values)
    table.add_section()
    table.add_row("mean", "", "", *(f"{values[metric]['value']:.4f}" for values in scores["systems"].values()))
    Console(width=50 + 18 * len(scores["systems"])).print(table)


def longest_map(values: dict[str, Any]) -> str:
    """Return the name of the MAP@k with the largest k among metrics by name."""
    return max((name for name in values if name.startswith("map@")), key=lambda name: int(name.partition("@")[2]))


if __name__ == "__main__":
    run(app)
