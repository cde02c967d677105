"""The page: what the template is given, and the template filled with it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from recsys import figures, plots, wording
from recsys.config import dump_config
from recsys.plots import Log
from recsys.prepared import PreparedData
from recsys.report import method
from recsys.report.customers import Gallery, long_date
from recsys.runs import Run
from recsys.scores import Scores, Table
from recsys.storage import read_json
from recsys.wording import Term, amount, bounds, metric_name, ordinary

PAGE_FILE = "index.html"
_TEMPLATES = Path(__file__).parent.parent / "templates"
_WIDE, _NARROW = 8.4, 3.9  # inches; the page shows the one that fits
#: Beginnings of the metrics of the first table; the others are in the table of all.
_SHOWN = ("map", "hit", "recall", "ndcg", "mrr", "catalogue_coverage", "coverage", "novelty")

Draw = Callable[[float], Figure | None]


@dataclass(frozen=True)
class Cell:
    """A value in a table."""

    value: str
    bounds: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, and a cell a column (None where there is no value)."""

    term: Term
    cells: list[Cell | None]
    highlight: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure in two widths, of which the page shows the one that fits, and what it shows in words."""

    wide: Markup
    narrow: Markup
    alt: str


def build_page(run: Run, data: PreparedData, scores: Scores, log: Log, gallery: Gallery, today: date) -> str:
    """Return the HTML of a run's report: one page with everything it needs inside."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    held_out = method.windows(run.config.split, len(scores.folds))
    return environment.get_template("report.html.j2").render(
        run=run,
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        verdict=wording.verdict(scores, held_out),
        cards=_cards(run, data, scores),
        today=long_date(today.isoformat()),
        k=scores.k,
        metric=metric_name(scores.main_metric),
        gallery=gallery,
        gallery_date=long_date(gallery.fold),
        note=method.source_note(run.config),
        **_tables(scores),
        **_charts(scores, log),
        **_method(run, data, scores, today),
    )


def _cards(run: Run, data: PreparedData, scores: Scores) -> list[tuple[str, str]]:
    weeks = run.config.split.protocol == "weekly"
    tested = f"{'weeks' if run.config.split.horizon_days == 7 else 'windows'} tested, none of them learned from"
    cards = [
        (ordinary(data.n_users), "customers"),
        (ordinary(data.n_events), "purchases in their histories"),
        (ordinary(data.n_items), "products to choose from"),
        (str(len(scores.folds)), tested if weeks else "held-out part tested"),
    ]
    hits = scores.same_cutoff("hit")
    rate = scores.systems.get("decoder", {}).get(hits) if hits else None
    if rate is not None:
        words = f"of 100 customers who bought found at least one purchase among the decoder's {scores.k} suggestions"
        cards.insert(0, (f"{100 * rate.value:.0f}", words))
    return cards


def _tables(scores: Scores) -> dict[str, Any]:
    suffix = f"@{scores.k}"
    fits = [metric for metric in scores.metrics if metric.endswith(suffix) or "@" not in metric]
    shown = [metric for start in _SHOWN for metric in fits if metric.partition("@")[0].startswith(start)]
    shown = list(dict.fromkeys(shown)) or scores.metrics[:6]
    main = scores.main_metric
    segments = [
        (wording.segment(name), scores.segment_sizes.get(name), table) for name, table in scores.segments.items()
    ]
    return {
        "metrics": [metric_name(metric) for metric in shown],
        "systems": _rows(scores.systems, shown, main),
        "all_metrics": [metric_name(metric) for metric in scores.metrics],
        "all_systems": _rows(scores.systems, scores.metrics, main),
        "differences": _rows(scores.differences, [main], main, signed=True),
        "fold_names": [long_date(fold.start) for fold in scores.folds],
        "fold_rows": _fold_rows(scores),
        "segment_systems": [wording.system(name) for name in scores.systems],
        "segments": [(term, size and ordinary(size), _segment_cells(scores, table)) for term, size, table in segments],
    }


def _rows(table: Table, metrics: list[str], main: str, *, signed: bool = False) -> list[Row]:
    """Return a row a system, the best by the main metric first, the best value of each column marked."""
    best = {metric: _best(table, metric) for metric in metrics}
    order = sorted(table, key=lambda name: -(table[name][main].value if main in table[name] else float("-inf")))
    return [
        Row(
            wording.system(name),
            [_cell(table[name], metric, best[metric], signed=signed) for metric in metrics],
            highlight=name == "decoder",
        )
        for name in order
    ]


def _cell(values: dict[str, Any], metric: str, best: float | None, *, signed: bool = False) -> Cell | None:
    interval = values.get(metric)
    if interval is None:
        return None
    text = amount(metric, interval.value, signed=signed)
    return Cell(text, bounds(metric, interval, signed=signed), best=not signed and interval.value == best)


def _fold_rows(scores: Scores) -> list[Row]:
    main = scores.main_metric
    columns = [_best(fold.systems, main) for fold in scores.folds]
    return [
        Row(
            wording.system(name),
            [_cell(fold.systems.get(name, {}), main, best) for fold, best in zip(scores.folds, columns, strict=True)],
            highlight=name == "decoder",
        )
        for name in plots.ranking(scores)
    ]


def _segment_cells(scores: Scores, table: Table) -> list[Cell | None]:
    best = _best(table, scores.main_metric)
    return [_cell(table.get(name, {}), scores.main_metric, best) for name in scores.systems]


def _best(table: Table, metric: str) -> float | None:
    return max((values[metric].value for values in table.values() if metric in values), default=None)


def _charts(scores: Scores, log: Log) -> dict[str, Chart | None]:
    metric = metric_name(scores.main_metric)
    ranking = plots.ranking(scores)
    rivals = [*(name for name in ranking if name != "decoder"), "popularity_week", "popularity"]
    compared = [name for name in dict.fromkeys(["decoder", rivals[0], *rivals[-2:]]) if name in scores.systems][:3]
    order, few = (", ".join(wording.system(name).name for name in names) for names in (ranking, compared))
    drawn: dict[str, tuple[str, Draw]] = {
        "forest": (f"{metric} of each system, best first: {order}.", partial(plots.systems_figure, scores)),
        "folds": (f"{metric} of each system in each window.", partial(plots.folds_figure, scores)),
        "difference": (f"Decoder minus each other system, {metric}.", partial(plots.differences_figure, scores)),
        "segment": (f"{metric} in each segment for {few}.", partial(plots.segments_figure, scores, compared)),
        "curves": ("Loss and validation score over the steps of training.", partial(plots.curves_figure, log)),
    }
    return {f"{name}_chart": _chart(name, alt, draw) for name, (alt, draw) in drawn.items()}


def _chart(name: str, alt: str, draw: Draw) -> Chart | None:
    wide, narrow = draw(_WIDE), draw(_NARROW)
    if wide is None or narrow is None:
        return None
    return Chart(_svg(wide, name), _svg(narrow, f"{name}-narrow"), alt)


def _svg(figure: Figure, name: str) -> Markup:
    return Markup(figures.to_svg(figure, name))  # noqa: S704 - Matplotlib escapes the text it draws


def _method(run: Run, data: PreparedData, scores: Scores, today: date) -> dict[str, Any]:
    path = data.folder / "report.json"
    bases = dict.fromkeys(metric.partition("@")[0] for metric in scores.metrics)
    defined = [(metric_name(base), wording.metric_meaning(base)) for base in bases]
    return {
        "protocol": method.protocol(run.config, scores),
        "recorded_protocol": list(method.flattened(scores.protocol)),
        "definitions": [(name, meaning) for name, meaning in defined if meaning],
        "data_facts": method.data_facts(data, run.config),
        "data_report": list(method.flattened(read_json(path))) if path.is_file() else [],
        "facts": method.run_facts(run, today),
        "commands": method.commands(run),
        "config_text": dump_config(run.config),
    }
