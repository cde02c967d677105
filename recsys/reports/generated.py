"""Continued histories as a page shows them: customers one by one, and whether all of them together look real."""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recsys.data.days import day_date
from recsys.data.item_names import Labels, shortened
from recsys.data.purchases import Histories, Purchases, event_positions
from recsys.errors import DataError, UsageError
from recsys.evaluation.splits import Fold, histories_to_continue
from recsys.evaluation.tables import read_continuations
from recsys.modeling.generation import realism
from recsys.modeling.generation.realism import RANK_EDGES, Likeness, without_repeats
from recsys.reports import figures
from recsys.reports.customers import Customer, customer, draw_across
from recsys.reports.item_map import attributes
from recsys.reports.item_map.attributes import MISSING, Attribute
from recsys.reports.shell import Chart, draw_chart
from recsys.runs import Run
from recsys.signals.sales import Sales
from recsys.storage import read_json

TABLE_FILE, SETTINGS_FILE, PAGE_FILE = "generated.parquet", "generated.json", "generated.html"
_N_SHOWN = 20
_N_CATEGORIES = 10
_RECENT_DAYS = 28
#: Above any length of a decoder, and any seed, that makes sense.
_LARGEST = 2**31 - 1


class Continued(NamedTuple):
    """Everything the section shows."""

    day: str  # where the histories end, if the protocol is weekly
    n_customers: int
    settings: dict[str, Any]
    series: dict[str, Likeness]  # what was really bought, what was generated, draws from the best sellers
    distances: dict[str, list[float]]  # of each series to what was really bought, by what is compared
    charts: dict[str, Chart | None]
    people: list[Customer]


def load_continued(run: Run, data: Purchases) -> Continued | None:
    """Return the continued histories of a run, DataError where they are of other data; None where none are written."""
    path, split = run.report_folder / TABLE_FILE, run.config.split
    if not path.is_file() or not path.with_name(SETTINGS_FILE).is_file():
        return None
    settings = _read_settings(path.with_name(SETTINGS_FILE))
    user_index, generated = read_continuations(path, data)
    fold, real_end = histories_to_continue(data, split)
    longest = settings["max_items"]
    if generated.shape[1] > longest or not np.isin(user_index, fold.user_index).all():
        raise DataError(
            f"{path} holds other customers or longer continuations than {SETTINGS_FILE} beside it and the run's split "
            f"say; write both anew with `recsys generate --run {run.name} --force`"
        )
    generated = np.pad(generated, ((0, 0), (0, longest - generated.shape[1])))
    histories = fold.histories(data).of(np.searchsorted(fold.user_index, user_index))
    begin, end = histories.begin, histories.end
    real = _what_followed(data, end, real_end[user_index], longest, distinct=settings["no_repeat"])
    category = _category(data)
    sold = _sold(data, fold, split.protocol)
    known = realism.Known(
        past=[np.unique(data.item[b:e]) for b, e in zip(begin, end, strict=True)],
        newest=np.where(end > begin, data.item[np.maximum(end - 1, 0)], 0),
        rank=realism.sales_rank(sold),
        category=np.concatenate([[0], category.code]),
        n_categories=len(category.values),
    )
    sellers = realism.draw_best_sellers(sold, generated, settings["seed"])
    some = {"really bought": real, "generated": generated, "best sellers": sellers}
    series = {name: realism.realism(item, known) for name, item in some.items()}
    compared = ("length", "rank_band", "transition") if known.n_categories > 1 else ("length", "rank_band")
    bought = series["really bought"]
    distances = {
        name: [realism.distance(getattr(one, name), getattr(bought, name)) for one in series.values()]
        for name in compared
    }
    charts, people = _charts(series, category), _people(histories, generated, real, run.config.seed)
    day = day_date(fold.start_day).isoformat()
    return Continued(day, len(user_index), settings, series, distances, charts, people)


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of ``recsys generate``; only the three values that are counted with are looked at."""
    settings, again = read_json(path), "generate anew with `recsys generate --force`"
    if not isinstance(settings, dict):
        raise DataError(f"{path} holds no settings; {again}")
    for name, expected in {"max_items": int, "no_repeat": bool, "seed": int}.items():
        value = settings.get(name)
        if type(value) is not expected or not (isinstance(value, int) and 0 <= value <= _LARGEST):
            words = "yes or no" if expected is bool else "a whole number from 0"
            raise DataError(f"{path}: {name} is {value!r}, expected {words}; {again}")
    return settings


def _what_followed(data: Purchases, begin: np.ndarray, end: np.ndarray, longest: int, *, distinct: bool) -> np.ndarray:
    """Return what each customer really bought from ``begin`` to ``end`` (Q, ``longest``), padded with 0."""
    item = np.zeros((len(begin), max(longest, (end - begin).max(initial=0))), dtype=np.int32)
    row, position = event_positions(begin, end)
    item[row, position - begin[row]] = data.item[position]
    return (without_repeats(item) if distinct else item)[:, :longest]


def _sold(data: Purchases, fold: Fold, protocol: str) -> np.ndarray:
    """Return sales (V,) of the newest weeks before the date; of all that is known where the protocol has no date."""
    if protocol == "weekly" and (sold := Sales(data).sold(fold.start_day - _RECENT_DAYS, fold.start_day)).any():
        return sold
    _, position = fold.everybody(data).events()
    return np.bincount(data.item[position], minlength=data.n_items + 1)


def _category(data: Purchases) -> Attribute:
    try:
        judged = attributes.judged(data.items)
    except UsageError:  # items of ids alone
        return Attribute("", [MISSING], np.zeros(data.n_items, dtype=np.int32))
    return attributes.coloured(data.items, None, judged).largest(_N_CATEGORIES)


def _charts(series: dict[str, Likeness], category: Attribute) -> dict[str, Chart | None]:
    real_and_ours = list(series.items())[:2]
    lengths = [str(n) for n in range(len(series["generated"].length))]
    bands = [f"{low + 1:,}–{high:,}" for low, high in pairwise((0, *RANK_EDGES))] + [f"{RANK_EDGES[-1] + 1:,}…"]
    n_items = [(name, one.length) for name, one in real_and_ours]
    ranks = [(name, one.rank_band) for name, one in series.items()]
    length = (figures.bars, lengths, n_items, "share of customers", "items that follow")
    popularity = (figures.bars, bands, ranks, "share of items", "rank by sales before")
    drawn: dict[str, tuple[Any, ...]] = {"length": length, "popularity": popularity}
    if len(category.values) > 1:
        transitions = [(name, one.transition) for name, one in real_and_ours]
        names = [name.capitalize() if name.isupper() and name != MISSING else name for name in category.values]
        drawn["transitions"] = (figures.grids, transitions, [shortened(name, 18) for name in names], "from", "to")
    return {name: draw_chart(f"continued-{name}", *given) for name, given in drawn.items()}


def _people(histories: Histories, generated: np.ndarray, real: np.ndarray, seed: int) -> list[Customer]:
    """Return customers drawn by lot across history lengths, shortest first."""
    labels, n_known = Labels(histories.log.items), histories.n_events
    order = np.random.default_rng(seed).permutation(len(histories))
    order = order[np.argsort(n_known[order], kind="stable")]
    return [
        customer(labels, histories.of([row]), generated[row].tolist(), real[row].tolist())
        for row in draw_across(order, _N_SHOWN, np.random.default_rng(seed))
    ]
