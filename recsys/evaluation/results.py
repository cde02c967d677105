"""``metrics.json``: its name, its keys, how it is written, and how it is read, checked on the way in.

The file's stable shape, which :class:`RunCells` writes down for those who make it::

    {"protocol": {…},
     "systems": {"<system>": {"map@12": {"value": x, "low": l, "high": h}, …}},
     "folds": [{"start": "YYYY-MM-DD", "systems": {…same…}}],
     "segments": {"<segment>": {"<system>": {…}}}}

``low`` and ``high`` may be absent or null where a metric has no interval. ``segment_sizes`` and ``differences``
(decoder minus each baseline) may be absent; further keys are left alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from recsys.errors import RunError
from recsys.storage import read_json, write_json

METRICS_FILE = "metrics.json"

#: The metric that a run is judged by; where a file lacks it, its first MAP stands in.
MAIN_METRIC = "map@12"


class Cell(TypedDict):
    """A value as the file holds it; ``low`` and ``high`` are null where it has no interval."""

    value: float
    low: float | None
    high: float | None


#: system → metric → cell
Cells = dict[str, dict[str, Cell]]


class FoldCells(TypedDict):
    """The scores of one window as the file holds them."""

    start: str
    n_users: int
    systems: Cells
    differences: Cells
    run: NotRequired[str]  # of a backtest: whose weights were asked
    learned_before: NotRequired[str]  # and the first day that they have not learned from, YYYY-MM-DD


class RunCells(TypedDict, total=False):
    """All that the file holds. ``differences`` are those of the first system to each other."""

    protocol: dict[str, Any]
    systems: Cells
    differences: Cells
    folds: list[FoldCells]
    segments: dict[str, Cells]
    segment_sizes: dict[str, int]


@dataclass(frozen=True)
class Interval:
    """A measured value and the interval around it; ``low`` and ``high`` are both None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval's ends; the value itself twice where there is no interval."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


#: metric → interval
Values = dict[str, Interval]
#: system → metric → interval
Table = dict[str, Values]


@dataclass(frozen=True)
class FoldScores:
    """Scores of one held-out window."""

    start: str
    systems: Table


@dataclass(frozen=True)
class Scores:
    """All of ``metrics.json``, systems in the file's order."""

    protocol: dict[str, Any]
    systems: Table
    folds: list[FoldScores]
    segments: dict[str, Table]
    segment_sizes: dict[str, int]
    differences: Table

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in the order in which they first occur."""
        return list(dict.fromkeys(metric for values in self.systems.values() for metric in values))

    @property
    def main_metric(self) -> str:
        """``map@12``, else the first MAP, else the first metric."""
        metrics = self.metrics
        if MAIN_METRIC in metrics:
            return MAIN_METRIC
        return next((metric for metric in metrics if metric.startswith("map")), metrics[0])

    @property
    def k(self) -> int | None:
        """Length of the lists the main metric looks at; None where its name does not say."""
        cutoff = self.main_metric.partition("@")[2]
        return int(cutoff) if cutoff.isdigit() else None

    def same_cutoff(self, start: str) -> str | None:
        """Return the metric whose name begins with ``start`` at the cutoff of the main one; None if there is none."""
        suffix = f"@{self.k}"
        return next((metric for metric in self.metrics if metric.startswith(start) and metric.endswith(suffix)), None)


def to_cell(value: float, bounds: tuple[float, float] | None = None) -> Cell:
    """Return a value with its interval as the file holds them."""
    low, high = (None, None) if bounds is None else bounds
    return {"value": value, "low": low, "high": high}


def write_scores(path: Path, scores: RunCells) -> None:
    """Write what a run's ``metrics.json`` holds."""
    write_json(path, scores)


def load_scores(path: Path, run: str) -> Scores:
    """Return what the evaluation of ``run`` wrote to ``path``.

    Raises:
        RunError: the file is missing, or it does not have the shape described above.
    """
    command = f"recsys evaluate --run {run}"
    if not path.is_file():
        raise RunError(
            f"{path} is missing: {run} has not been scored; run `{command}` first, which wants the lists of `recsys "
            f"predict --folds --run {run}`"
        )
    try:
        return _scores(read_json(path))
    except _ShapeError as error:
        raise RunError(f"{path} does not have the shape of scores: {error}; run `{command} --force` again") from error


class _ShapeError(ValueError):
    """A part of the file is not what it should be."""


def _scores(value: object) -> Scores:
    top = _mapping(value, "the file")
    systems = _table(top.get("systems"), "systems")
    if not any(systems.values()):
        raise _ShapeError("systems holds no metric")
    folds = top.get("folds")
    if not isinstance(folds, list):
        raise _ShapeError(f"folds is {_type_of(folds)}, expected a list of windows")
    segments = _mapping(top.get("segments", {}), "segments")
    return Scores(
        protocol=_mapping(top.get("protocol", {}), "protocol"),
        systems=systems,
        folds=[_fold(fold, f"folds[{number}]") for number, fold in enumerate(folds)],
        segments={name: _table(table, f"segments.{name}") for name, table in segments.items()},
        segment_sizes=_sizes(top.get("segment_sizes")),
        differences=_differences(top.get("differences")),
    )


def _fold(value: object, where: str) -> FoldScores:
    fold = _mapping(value, where)
    return FoldScores(str(fold.get("start", fold.get("name", ""))), _table(fold.get("systems"), f"{where}.systems"))


def _table(value: object, where: str) -> Table:
    return {
        system: {metric: _interval(cell, f"{where}.{system}.{metric}") for metric, cell in values.items()}
        for system, values in ((name, _mapping(row, f"{where}.{name}")) for name, row in _mapping(value, where).items())
    }


def _differences(value: object) -> Table:
    """Return the differences; none where they are absent or told in another way, for they are no part of the shape."""
    try:
        return _table(value, "differences")
    except _ShapeError:
        return {}


def _interval(value: object, where: str) -> Interval:
    cell = _mapping(value, where)
    number = _number(cell.get("value"))
    if number is None:
        raise _ShapeError(f"{where}.value is {_type_of(cell.get('value'))}, expected a number")
    low, high = _number(cell.get("low")), _number(cell.get("high"))
    return Interval(number) if low is None or high is None else Interval(number, low, high)


def _sizes(value: object) -> dict[str, int]:
    sizes = value if isinstance(value, dict) else {}
    return {str(name): int(size) for name, size in sizes.items() if isinstance(size, int | float)}


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _ShapeError(f"{where} is {_type_of(value)}, expected a mapping")
    return value


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _type_of(value: object) -> str:
    name = type(value).__name__
    return "missing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
