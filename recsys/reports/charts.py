"""Charts of a run: how training went, how the systems compare. Each is drawn for a width in inches."""

import math
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from recsys.config import REPORTS_DIR
from recsys.data.item_names import long_date
from recsys.errors import RunError
from recsys.evaluation.results import Interval, Scores, Table
from recsys.reports import figures
from recsys.reports import glossary as wording
from recsys.reports.figures import Line, Mark
from recsys.schema import DECODER

FIGURES_DIR = REPORTS_DIR / "figures"
WIDTH = 7.6  # inches
#: column → its points: x (n,), y (n,)
Log = dict[str, tuple[np.ndarray, np.ndarray]]


def read_log(path: Path) -> Log:
    """Return the numeric columns of a training log, each without its empty cells, over the step (else the epoch)."""
    if not path.is_file():
        raise RunError(f"{path} is missing: the run was not logged; train it anew with `recsys train`")
    with warnings.catch_warnings(action="ignore"):  # of a file without a row
        lines = path.read_text(encoding="utf-8").splitlines() or ["step"]
        rows = np.atleast_1d(np.genfromtxt(lines, delimiter=",", names=True, deletechars=""))
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    epochs = columns.pop("epoch", np.full(len(rows), math.nan))
    axis = columns.pop("step", epochs)
    log = {}
    for name, values in columns.items():
        known = np.isfinite(axis) & np.isfinite(values)
        if known.any():
            log[name] = (axis[known], values[known])
    if not log:
        raise RunError(f"{path} holds no logged value; expected columns such as step, train_loss_epoch, val_map@12")
    return log


def curves_figure(log: Log, width: float = WIDTH) -> Figure:
    """Return loss, entropy of the predictions and the validation MAP over training, whichever were logged."""
    titles = {"loss": "Loss", "entropy": "Entropy of the predictions"}
    titled = [(title, lines) for name, title in titles.items() if (lines := _parts(log, name))]
    quality = [name for name in log if name.startswith("val_") and "map" in name][:1]
    for name in quality:
        title = f"{wording.metric_name(name[4:])} on validation"
        titled.append((title, [Line(name, *log[name], name_highest=True)]))
    if not titled:
        titled = [(name, [Line(name, *points)]) for name, points in list(log.items())[:2]]
    return figures.curves(titled, "training step", width=width)


def _parts(log: Log, name: str) -> list[Line]:
    steps = log.get(f"train_{name}_step")
    training, validation = (log.get(f"{part}_{name}_epoch", log.get(f"{part}_{name}")) for part in ("train", "val"))
    lines = [Line("training, a step", *steps, faint=True)] if steps else []
    lines += [Line("training", *training)] if training else []
    return lines + ([Line("validation", *validation, colour="second")] if validation else [])


def ranked(table: Table, metric: str) -> dict[str, Interval]:
    """Return the systems that have ``metric`` with its values, best first."""
    found = {name: values[metric] for name, values in table.items() if metric in values}
    return dict(sorted(found.items(), key=lambda pair: -pair[1].value))


def systems_figure(scores: Scores, width: float = WIDTH) -> Figure:
    """Return the main metric of every system with its interval, best first."""
    metric = scores.main_metric
    found = ranked(scores.systems, metric).items()
    marks = [_mark(name, interval, wording.amount(metric, interval.value)) for name, interval in found]
    return figures.forest(marks, wording.metric_name(metric), width=width)


def folds_figure(scores: Scores, width: float = WIDTH) -> Figure:
    """Return one panel a held-out window, the systems in the order of their overall value."""
    metric = scores.main_metric
    names = ranked(scores.systems, metric)
    found = [(fold.start, [fold.systems.get(name, {}).get(metric) for name in names]) for fold in scores.folds]
    titled = [(long_date(start), list(map(_mark, names, intervals))) for start, intervals in found]
    return figures.panels(titled, wording.metric_name(metric), width=width)


def _mark(name: str, interval: Interval | None, text: str = "") -> Mark:
    return Mark(wording.system(name).name, interval, text, highlight=name == DECODER)


def differences_figure(scores: Scores, width: float = WIDTH) -> Figure | None:
    """Return decoder minus each baseline with its interval around zero; None where the file has no differences."""
    metric = scores.main_metric
    marks = []
    for name, lead in reversed(ranked(scores.differences, metric).items()):
        text = wording.amount(metric, lead.value, signed=True)
        marks.append(Mark(f"against {wording.system(name).name}", lead, text, highlight=wording.side(lead) > 0))
    title = f"{wording.metric_name(metric)}: decoder minus the other"
    return figures.forest(marks, title, width=width, zero=True) if marks else None


def segments_figure(scores: Scores, systems: list[str], width: float = WIDTH) -> Figure | None:
    """Return one row a segment with a dot for each of ``systems`` (at most 4); None where there are no segments."""
    metric, sizes = scores.main_metric, scores.segment_sizes
    filled = {name: table for name, table in scores.segments.items() if any(metric in row for row in table.values())}
    if not filled:
        return None
    tables = filled.values()
    series = [(wording.system(name).name, [table.get(name, {}).get(metric) for table in tables]) for name in systems]
    names = {name: wording.segment(name).name for name in filled}
    rows = [f"{words} ({wording.ordinary(sizes[name])})" if name in sizes else words for name, words in names.items()]
    return figures.dots(rows, series, wording.metric_name(metric), width=width)
