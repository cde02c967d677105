"""Continued histories as a page shows them: customers one by one, and whether all of them together look real."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recsys.data.days import day_date
from recsys.data.item_names import Labels, Product, long_date, short_id
from recsys.data.purchases import Purchases, event_positions
from recsys.errors import DataError, UsageError
from recsys.evaluation.splits import HistoriesToContinue, histories_to_continue
from recsys.evaluation.tables import read_continuations
from recsys.modeling.generation.realism import (
    RANK_EDGES,
    Known,
    Likeness,
    distance,
    draw_best_sellers,
    realism,
    sales_rank,
    without_repeats,
)
from recsys.reports import figures
from recsys.reports.customers import Shown, draw_across
from recsys.reports.glossary import ordinary
from recsys.reports.item_map import attributes
from recsys.reports.item_map.attributes import MISSING, Attribute
from recsys.reports.shell import Chart, draw_chart, environment, page_style
from recsys.runs import Run
from recsys.signals.sales import Sales
from recsys.storage import read_json

TABLE_FILE, SETTINGS_FILE, PAGE_FILE = "generated.parquet", "generated.json", "generated.html"
_N_SHOWN = 20
_N_CATEGORIES = 10
_HISTORY_LINES = 10
_RECENT_DAYS = 28
#: Above any length of a decoder, and any seed, that makes sense.
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Person:
    """One customer: what was known, how we go on, how it really went on."""

    id: str
    n_known: int
    known: list[Product]  # newest first
    generated: list[Shown]
    real: list[Shown]


@dataclass(frozen=True)
class Continued:
    """Everything the section shows."""

    cut: str  # where the histories end, in words
    n_customers: int
    knows_ends: bool  # whether the decoder was taught where a history ends
    settings: list[tuple[str, str]]
    measures: list[tuple[str, list[str]]]
    columns: list[str]
    charts: list[Chart]
    people: list[Person]
    seed: int


def load_continued(run: Run, data: Purchases) -> Continued | None:
    """Return the continued histories of a run; None where ``recsys generate`` has not written any.

    Raises:
        DataError: the table cannot be read, or is of other customers or items than the data.
    """
    path = run.report_folder / TABLE_FILE
    if not path.is_file() or not (run.report_folder / SETTINGS_FILE).is_file():
        return None
    settings = _read_settings(run.report_folder / SETTINGS_FILE)
    user_index, generated = read_continuations(path, data)
    cut = histories_to_continue(data, run.config.split)
    longest = int(settings["max_items"])
    if generated.shape[1] > longest or not np.isin(user_index, cut.user_index).all():
        raise DataError(
            f"{path} holds other customers or longer continuations than {SETTINGS_FILE} beside it and the run's split "
            f"say; write both anew with `recsys generate --run {run.name} --force`"
        )
    generated = np.pad(generated, ((0, 0), (0, longest - generated.shape[1])))
    real = _what_followed(data, cut, user_index, longest, distinct=bool(settings["no_repeat"]))
    sold = _sold(data, cut, run.config.split.protocol)
    category = _category(data)
    known = _known(data, cut, user_index, sold, category)
    sellers = draw_best_sellers(sold, generated, int(settings["seed"]))
    some = {"really bought": real, "generated": generated, "best sellers": sellers}
    found = {name: realism(item, known) for name, item in some.items()}
    return Continued(
        cut=_cut(cut, run.config.split.protocol),
        n_customers=len(user_index),
        knows_ends=run.config.original.family is not None,
        settings=[(name.replace("_", " "), _said(value)) for name, value in settings.items()],
        measures=_measures(found),
        columns=list(found),
        charts=_charts(found, category),
        people=_people(data, cut.known_end, user_index, generated, real, run.config.seed),
        seed=run.config.seed,
    )


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


def build_page(run: Run, continued: Continued, today: date) -> str:
    """Return the HTML of the page of continued histories alone."""
    template = environment().get_template("generated.html.j2")
    return template.render(run=run, continued=continued, style=page_style(), today=long_date(today.isoformat()))


def _sold(data: Purchases, cut: HistoriesToContinue, protocol: str) -> np.ndarray:
    """Return sales (V,) of the newest weeks before the date; of all that is known where the protocol has no date."""
    if protocol == "weekly" and (sold := Sales(data).sold(cut.day - _RECENT_DAYS, cut.day)).any():
        return sold
    _, position = event_positions(data.offsets[:-1], cut.known_end)
    return np.bincount(data.item[position], minlength=data.n_items + 1)


def _cut(cut: HistoriesToContinue, protocol: str) -> str:
    """Return in words where the histories were cut."""
    if protocol == "weekly":
        return f"as they were known on {long_date(day_date(cut.day).isoformat())}"
    return "without the last purchase" if protocol == "leave_one_out" else "cut in the middle"


def _what_followed(
    data: Purchases, cut: HistoriesToContinue, user_index: np.ndarray, longest: int, *, distinct: bool
) -> np.ndarray:
    """Return what each customer really bought next (Q, ``longest``) item_index, padded with 0."""
    begin, end = cut.known_end[user_index], cut.real_end[user_index]
    item = np.zeros((len(user_index), int((end - begin).max(initial=1))), dtype=np.int32)
    row, position = event_positions(begin, end)
    item[row, position - begin[row]] = data.item[position]
    if distinct:
        item = without_repeats(item)
    item = item[:, :longest]
    return np.pad(item, ((0, 0), (0, longest - item.shape[1])))


def _category(data: Purchases) -> Attribute | None:
    try:
        judged = attributes.judged(data.items)
        return attributes.coloured(data.items, None, judged).largest(_N_CATEGORIES)
    except UsageError:  # items of ids alone
        return None


def _known(
    data: Purchases, cut: HistoriesToContinue, user_index: np.ndarray, sold: np.ndarray, category: Attribute | None
) -> Known:
    begin, end = data.offsets[user_index], cut.known_end[user_index]
    code = np.zeros(data.n_items, dtype=np.int64) if category is None else category.code.astype(np.int64)
    return Known(
        past=[np.unique(data.item[b:e]) for b, e in zip(begin, end, strict=True)],
        newest=np.where(end > begin, data.item[np.maximum(end - 1, 0)], 0),
        rank=sales_rank(sold),
        category=np.concatenate([[0], code]),
        n_categories=1 if category is None else len(category.values),
    )


def _measures(found: dict[str, Likeness]) -> list[tuple[str, list[str]]]:
    real, some = found["really bought"], list(found.values())
    has_categories = len(real.transition) > 1
    rows = [
        ("Items a continuation", [f"{one.mean_length:.2f}" for one in some]),
        ("Bought before by the customer", [f"{one.bought_before:.1%}" for one in some]),
        ("Twice in a continuation", [f"{one.repeated:.1%}" for one in some]),
        ("Among the 100 best sellers", [f"{one.rank_band[:2].sum():.1%}" for one in some]),
        ("Different items", [f"{ordinary(one.n_distinct)} of {ordinary(one.n_items)}" for one in some]),
    ]
    compared = {"length": "length", "rank_band": "popularity"}
    if has_categories:
        rows.append(("Next in the same category", [f"{one.same_category:.1%}" for one in some]))
        compared["transition"] = "transitions"
    for name, words in compared.items():
        values = [f"{distance(getattr(one, name), getattr(real, name)):.3f}" for one in some]
        rows.append((f"Distance to real: {words} (0 equal, 1 nothing shared)", values))
    return rows


def _charts(found: dict[str, Likeness], category: Attribute | None) -> list[Chart]:
    real_and_ours = list(found.items())[:2]
    lengths = [str(n) for n in range(len(found["generated"].length))]
    bands = [f"{low + 1:,}–{high:,}" for low, high in pairwise((0, *RANK_EDGES))] + [f"{RANK_EDGES[-1] + 1:,}…"]
    n_items = [(name, one.length) for name, one in real_and_ours]
    popularity = [(name, one.rank_band) for name, one in found.items()]
    drawn: dict[str, tuple[str, Callable[..., Figure]]] = {
        "length": (
            "How many items follow, really and generated.",
            partial(figures.bars, lengths, n_items, "share of customers", "items that follow"),
        ),
        "popularity": (
            "How popular the items are, really bought, generated, and drawn by sales.",
            partial(figures.bars, bands, popularity, "share of items", "rank by sales before"),
        ),
    }
    if category is not None:
        transitions = [(name, one.transition) for name, one in real_and_ours]
        drawn["transitions"] = (
            "From which category to which neighbouring purchases go: the area of a square is the share of its row.",
            partial(figures.grids, transitions, [_short(name) for name in category.values], "from", "to"),
        )
    charts = (draw_chart(f"continued-{name}", alt, draw) for name, (alt, draw) in drawn.items())
    return [chart for chart in charts if chart is not None]


def _people(
    data: Purchases, known_end: np.ndarray, user_index: np.ndarray, generated: np.ndarray, real: np.ndarray, seed: int
) -> list[Person]:
    """Return customers drawn by lot across history lengths, shortest first."""
    labels = Labels(data.items)
    n_known = known_end[user_index] - data.offsets[user_index]
    order = np.random.default_rng(seed).permutation(len(user_index))
    order = order[np.argsort(n_known[order], kind="stable")]
    people = []
    for row in draw_across(order, _N_SHOWN, np.random.default_rng(seed)):
        user = int(user_index[row])
        past = data.item[data.offsets[user] : known_end[user]].tolist()
        ours, theirs = (items[row][items[row] > 0].tolist() for items in (generated, real))
        ours, theirs = (
            [Shown(labels.product(one), one in others, one in past) for one in items]
            for items, others in ((ours, theirs), (theirs, ours))
        )
        newest = [labels.product(one) for one in past[::-1][:_HISTORY_LINES]]
        people.append(Person(short_id(data.user_ids[user].as_py()), len(past), newest, ours, theirs))
    return people


def _short(text: str, longest: int = 18) -> str:
    text = "not known" if text == MISSING else text.capitalize() if text.isupper() else text
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _said(value: object) -> str:
    return {"True": "yes", "False": "no", "None": "–"}.get(str(value), str(value))
