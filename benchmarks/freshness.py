"""How weights and sales tables age in a model that is not trained again: ``python -m benchmarks.freshness``."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from recsys.config import REPORTS_DIR, Config, load_config
from recsys.console import ConfigOption, SetOption, run, talk
from recsys.data.days import day_date
from recsys.data.purchases import Purchases
from recsys.errors import ConfigError, DataError
from recsys.evaluation.evaluate import value_text
from recsys.evaluation.results import RunCells
from recsys.evaluation.runs import lists_of_run, protocol_of, settings_of
from recsys.evaluation.scoring import FoldLists, score_systems
from recsys.evaluation.splits import Fold
from recsys.evaluation.tables import read_lists
from recsys.modeling.backtest import Backtest, longest_map, trained
from recsys.modeling.decoder.components import SEQUENCE
from recsys.modeling.lists import load_decoder, with_cold_start, write_lists
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.recommenders.base import candidates_at
from recsys.modeling.recommenders.decoder import DecoderRecommender
from recsys.schema import DECODER
from recsys.signals.item_codes import ItemCodes
from recsys.signals.sales import ITEM_FEATURES
from recsys.signals.snapshot import Snapshot, Snapshots
from recsys.storage import write_json

FRESHNESS_FILE = "freshness.json"
#: Ages of the weights, in horizons before the date.
TRAINED_BEFORE = (1, 4, 8)
_STALE = "decoder_stale"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: ConfigOption = None,
    settings: SetOption = None,
    weeks: Annotated[int, typer.Option("--weeks", min=1, help="Windows of split.horizon_days, the last ones.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Train and recommend anew what stands already.")] = False,
) -> None:
    """Recommend in the last weeks with weights of several ages, each with new and with old sales tables, and score.

    Data that are not prepared are prepared first. What stands is not made again.
    """
    resolved = load_config(config, settings or [])
    keep_freed_memory()
    scores = freshness(Backtest.from_config(resolved, weeks, force=force))
    _print_freshness(scores)
    path = REPORTS_DIR / resolved.name / FRESHNESS_FILE
    write_json(path, scores)
    talk.print(f"wrote {path}", markup=False)


class SalesAsOf(Snapshots):
    """Snapshots that nobody makes anew: whatever the day, the one of ``as_of``; what is planned is known anew."""

    def __init__(self, log: Purchases, as_of: int, codes: ItemCodes | None = None, *, promotions: bool = True) -> None:
        """Take the purchases, and the day since which no snapshot is made; the rest is that of :class:`Snapshots`."""
        super().__init__(log, codes, promotions=promotions)
        self.as_of = as_of
        self._of_day: dict[int, Snapshot] = {}

    def at(self, day: int) -> Snapshot:
        """Return the snapshot of ``as_of``, with the promotions of ``day``."""
        if day not in self._of_day:
            old = super().at(self.as_of)
            self._of_day[day] = _OldSnapshot(old.day, old.items, old.codes, old.promotions, old.count, today=day)
        return self._of_day[day]


@dataclass(frozen=True)
class _OldSnapshot(Snapshot):
    """A snapshot of an earlier day, with the promotions of the day ``today``."""

    today: int = 0

    @cached_property
    def item_features(self) -> np.ndarray:
        """Sales of every item as they were, and its promotions as they are (V, F) float32."""
        features = np.array(super().item_features)
        if self.promotions is not None:
            features[1:, len(ITEM_FEATURES) :] = self.promotions.at(self.today)[1:]
        return features


def freshness(plan: Backtest) -> dict[str, Any]:
    """Return what the decoder scores with weights of different ages, each with fresh sales tables and with stale ones.

    Fresh tables are those of the date, stale ones those of the first day that the weights have not learned from.
    Histories, candidates and what cold_start get are those of the date in both cases. The shape is that of
    ``metrics.json``, with ``rows``: the same by age, and what stale tables lose, on the same customers.

    Raises:
        ConfigError: the model reads no sales tables.
        DataError: nothing lies before the oldest weights.
    """
    _require_tables(plan.config)
    if plan.train_day(plan.folds[0], max(TRAINED_BEFORE)) <= plan.log.first_day:
        raise DataError(
            f"the data run from {day_date(plan.log.first_day)} to {day_date(plan.log.last_day)}: nothing lies "
            f"{max(TRAINED_BEFORE)} windows before {plan.folds[0].name} to learn from; lower --weeks or give more data"
        )
    by_age = {age: [_fresh_and_stale(plan, fold, age) for fold in plan.folds] for age in TRAINED_BEFORE}
    settings = settings_of(plan.config)
    together = [_together(dict(zip(by_age, folds, strict=True))) for folds in zip(*by_age.values(), strict=True)]
    protocol = protocol_of(plan.whole, plan.log, together)
    rows = [_row(age, score_systems(folds, settings)) for age, folds in by_age.items()]
    return {"protocol": protocol, **score_systems(together, settings), "rows": rows}


def _require_tables(config: Config) -> None:
    if config.family != "decoder" or config.model.components == (SEQUENCE,):
        raise ConfigError(
            "the study compares sales tables, and this model reads none; leave out original.family, and list more than "
            f"{SEQUENCE} in model.components"
        )


def _together(by_age: dict[int, FoldLists]) -> FoldLists:
    """Return one fold with the lists of all ages."""
    named = {
        f"trained_{age}_before_{tables}": items for age, fold in by_age.items() for tables, items in fold.lists.items()
    }
    return replace(next(iter(by_age.values())), lists=named)


def _fresh_and_stale(plan: Backtest, fold: Fold, age: int) -> FoldLists:
    """Return ``fold`` with the lists of weights of ``age`` windows before it, with fresh tables and with stale ones."""
    train_day = plan.train_day(fold, age)
    run_of_age = trained(plan, train_day)
    log, config = plan.log, run_of_age.config
    paths = {"fresh": run_of_age.table_path(DECODER, fold.name), "stale": run_of_age.table_path(_STALE, fold.name)}
    for tables, path in paths.items():
        if path.is_file():
            continue
        decoder = load_decoder(run_of_age, log)
        if tables == "stale" and isinstance(decoder, DecoderRecommender):
            codes, promotions = decoder.snapshots.codes, config.model.promotions
            old = SalesAsOf(log, plan.learned_before(train_day), codes, promotions=promotions)
            decoder = DecoderRecommender(decoder.model, old, decoder.user_codes)
        system = with_cold_start(decoder, config, fold.everybody(log))
        candidates = candidates_at(log, fold.start_day, config.predict)
        write_lists(system, fold.histories(log), config.predict.k, candidates, path)
    lists = {tables: read_lists(path, log, fold.user_index) for tables, path in paths.items()}
    return replace(lists_of_run(run_of_age, log, fold, []), lists=lists)


def _row(age: int, scores: RunCells) -> dict[str, Any]:
    systems, lost = scores["systems"], scores["differences"]["stale"]
    return {
        "trained_windows_before": age,
        "fresh": systems["fresh"],
        "stale": systems["stale"],
        "fresh_minus_stale": lost,
    }


def _print_freshness(scores: dict[str, Any]) -> None:
    metric = longest_map(scores["rows"][0]["fresh"])
    table = Table("windows since training", "fresh tables", "stale tables", "fresh minus stale", title=metric.upper())
    for row in scores["rows"]:
        cells = (row[name][metric] for name in ("fresh", "stale", "fresh_minus_stale"))
        table.add_row(str(row["trained_windows_before"]), *map(value_text, cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    run(app)
