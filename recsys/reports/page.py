"""The page: what the template is given, and the template filled with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from recsys.config import dump_config
from recsys.data.item_names import long_date
from recsys.data.purchases import Purchases
from recsys.evaluation.results import Scores, Table, Values
from recsys.reports import charts, method
from recsys.reports import glossary as wording
from recsys.reports.charts import Log
from recsys.reports.customers import Gallery
from recsys.reports.generated import load_continued
from recsys.reports.glossary import Term, amount, bounds, metric_name, ordinary
from recsys.reports.item_map.draw import TITLES
from recsys.reports.maps import Maps, load_maps
from recsys.reports.shell import Chart, Draw, draw_chart, environment, page_style
from recsys.runs import LOG_FILE, Run
from recsys.storage import read_json

PAGE_FILE = "index.html"
#: Beginnings of the metrics of the first table; the others are in the table of all.
_SHOWN = ("map", "hit", "recall", "ndcg", "mrr", "catalogue_coverage", "coverage", "novelty")


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
class Segments:
    """The table of segments: names of the systems, and each segment's size (empty where not known) with its row."""

    systems: list[str]
    rows: list[tuple[str, Row]]


@dataclass(frozen=True)
class Beside:
    """Another run shown in the section on maps: its name, what it fitted, its training, its maps."""

    name: str
    fitted: str
    curves: Chart | None
    caption: str
    maps: Maps | None


def build_page(
    run: Run,
    data: Purchases,
    scores: Scores,
    log: Log,
    gallery: Gallery,
    today: date,
    beside: Sequence[Run] = (),
) -> str:
    """Return the HTML of a run's report: one page with everything it needs inside.

    Training and maps of the runs ``beside`` are shown too: a text transformer recommends nothing, and has no report.
    """
    held_out = method.windows(run.config.split, len(scores.folds))
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            style=page_style(),
            verdict=wording.verdict(scores, held_out),
            cards=_cards(run, data, scores),
            today=long_date(today.isoformat()),
            k=scores.k,
            metric=metric_name(scores.main_metric),
            gallery=gallery,
            gallery_date=long_date(gallery.fold),
            weekly=run.config.split.protocol == "weekly",
            over_all=" over all windows" if run.config.split.protocol == "weekly" else "",
            note=method.source_note(run.config),
            training=method.training(run.config),
            curves=method.curves(run.config),
            held_out=method.held_out(run),
            continued=load_continued(run, data),
            maps=load_maps(run),
            beside=[_beside(other, run, number) for number, other in enumerate(beside)],
            **_tables(scores),
            **_charts(scores, log, method.curves(run.config)),
            **_method(run, data, scores, today),
        )
    )


def _beside(other: Run, run: Run, number: int) -> Beside:
    fitted = TITLES["items" if other.config.text_model.objective is None else "text"]
    caption = method.curves(other.config)
    drawn = draw_chart(
        f"beside{number}", caption, partial(charts.curves_figure, charts.read_log(other.folder / LOG_FILE))
    )
    return Beside(other.name, fitted, drawn, caption, load_maps(other, run))


def _cards(run: Run, data: Purchases, scores: Scores) -> list[tuple[str, str]]:
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
        cards.insert(0, (wording.per_hundred(rate.value), words))
    return cards


def _tables(scores: Scores) -> dict[str, Any]:
    suffix = f"@{scores.k}"
    fits = [metric for metric in scores.metrics if metric.endswith(suffix) or "@" not in metric]
    shown = [metric for start in _SHOWN for metric in fits if metric.partition("@")[0].startswith(start)]
    shown = list(dict.fromkeys(shown)) or scores.metrics[:6]
    main = scores.main_metric
    return {
        "metrics": [metric_name(metric) for metric in shown],
        "systems": _rows(scores.systems, shown, main),
        "all_metrics": [metric_name(metric) for metric in scores.metrics],
        "all_systems": _rows(scores.systems, scores.metrics, main),
        "differences": _difference_rows(scores),
        "fold_names": [long_date(fold.start) for fold in scores.folds],
        "fold_rows": _fold_rows(scores),
        "segments": _segments(scores, _compared(scores)),
        "segments_all": _segments(scores, list(scores.systems)),
    }


def _rows(table: Table, metrics: list[str], main: str) -> list[Row]:
    """Return a row a system, the best by the main metric first, the best value of each column marked."""
    best = {metric: _best(table, metric) for metric in metrics}
    with_main = sorted((name for name in table if main in table[name]), key=lambda name: -table[name][main].value)
    order = [*with_main, *(name for name in table if main not in table[name])]
    return [
        Row(
            wording.system(name),
            [_cell(table[name], metric, best[metric]) for metric in metrics],
            highlight=name == "decoder",
        )
        for name in order
    ]


def _difference_rows(scores: Scores) -> list[Row]:
    """Return a row a baseline, the hardest rival first: the decoder's lead over it, and what that says."""
    metric = scores.main_metric
    found = [(name, values[metric]) for name, values in scores.differences.items() if metric in values]
    rows = []
    for name, interval in sorted(found, key=lambda pair: pair[1].value):
        says = {1: "decoder better", -1: "decoder worse", 0: "cannot be told apart"}[wording.side(interval)]
        lead = Cell(amount(metric, interval.value, signed=True), bounds(metric, interval, signed=True))
        rows.append(Row(wording.system(name), [lead, Cell(says, "")]))
    return rows


def _cell(values: Values, metric: str, best: float | None) -> Cell | None:
    interval = values.get(metric)
    if interval is None:
        return None
    return Cell(amount(metric, interval.value), bounds(metric, interval), best=interval.value == best)


def _fold_rows(scores: Scores) -> list[Row]:
    main = scores.main_metric
    columns = [_best(fold.systems, main) for fold in scores.folds]
    return [
        Row(
            wording.system(name),
            [_cell(fold.systems.get(name, {}), main, best) for fold, best in zip(scores.folds, columns, strict=True)],
            highlight=name == "decoder",
        )
        for name in charts.ranking(scores)
    ]


def _segments(scores: Scores, systems: list[str]) -> Segments | None:
    if not scores.segments:
        return None
    rows = [_segment(scores, name, table, systems) for name, table in scores.segments.items()]
    return Segments([wording.system(name).name for name in systems], rows)


def _segment(scores: Scores, name: str, table: Table, systems: list[str]) -> tuple[str, Row]:
    best = _best({system: table[system] for system in systems if system in table}, scores.main_metric)
    size = scores.segment_sizes.get(name)
    cells = [_cell(table.get(system, {}), scores.main_metric, best) for system in systems]
    return "" if size is None else ordinary(size), Row(wording.segment(name), cells)


def _compared(scores: Scores) -> list[str]:
    """Return the systems that segments show at first sight: the decoder, its best rival, the best sellers."""
    rivals = [name for name in charts.ranking(scores) if name != "decoder"][:1]
    names = dict.fromkeys(["decoder", *rivals, "popularity_week", "popularity"])
    return [name for name in names if name in scores.systems][:3]


def _best(table: Table, metric: str) -> float | None:
    """Return the highest value of a metric; None where all systems are equal, for then none is best."""
    values = {row[metric].value for row in table.values() if metric in row}
    return max(values) if len(values) > 1 else None


def _charts(scores: Scores, log: Log, curves: str) -> dict[str, Chart | None]:
    metric = metric_name(scores.main_metric)
    ranking = charts.ranking(scores)
    compared = _compared(scores)
    order, few = (", ".join(wording.system(name).name for name in names) for names in (ranking, compared))
    drawn: dict[str, tuple[str, Draw]] = {
        "forest": (f"{metric} of each system, best first: {order}.", partial(charts.systems_figure, scores)),
        "folds": (f"{metric} of each system in each window.", partial(charts.folds_figure, scores)),
        "difference": (f"Decoder minus each other system, {metric}.", partial(charts.differences_figure, scores)),
        "segment": (f"{metric} in each segment for {few}.", partial(charts.segments_figure, scores, compared)),
        "curves": (curves, partial(charts.curves_figure, log)),
    }
    return {f"{name}_chart": draw_chart(name, alt, draw) for name, (alt, draw) in drawn.items()}


def _method(run: Run, data: Purchases, scores: Scores, today: date) -> dict[str, Any]:
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
