"""What ``metrics.json`` says, checked on the way in and given names.

The file's stable shape::

    {"protocol": {…},
     "systems": {"<system>": {"map@12": {"value": x, "low": l, "high": h}, …}},
     "folds": [{"start": "YYYY-MM-DD", "systems": {…same…}}],
     "segments": {"<segment>": {"<system>": {…}}}}

``low`` and ``high`` may be absent or null where a metric has no interval. ``segment_sizes`` and ``differences``
(decoder minus each baseline) may be absent; further keys are left alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import RunError
from recsys.storage import read_json

SCORES_FILE = "metrics.json"

#: The metric that a run is judged by; where a file lacks it, its first MAP stands in.
MAIN_METRIC = "map@12"


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
    found = read_json(path)
    try:
        return _scores(found)
    except _ShapeError as error:
        raise RunError(f"{path} does not have the shape of scores: {error}; run `{command} --force` again") from error


class _ShapeError(ValueError):
    """A part of the file is not what it should be."""


def _scores(found: object) -> Scores:
    top = _mapping(found, "the file")
    systems = _table(top.get("systems"), "systems")
    if not any(systems.values()):
        raise _ShapeError("systems holds no metric")
    folds = top.get("folds")
    if not isinstance(folds, list):
        raise _ShapeError(f"folds is {_kind(folds)}, expected a list of windows")
    segments = _mapping(top.get("segments", {}), "segments")
    return Scores(
        protocol=_mapping(top.get("protocol", {}), "protocol"),
        systems=systems,
        folds=[_fold(fold, f"folds[{number}]") for number, fold in enumerate(folds)],
        segments={name: _table(table, f"segments.{name}") for name, table in segments.items()},
        segment_sizes=_sizes(top.get("segment_sizes")),
        differences=_differences(top.get("differences")),
    )


def _fold(found: object, where: str) -> FoldScores:
    fold = _mapping(found, where)
    return FoldScores(str(fold.get("start", fold.get("name", ""))), _table(fold.get("systems"), f"{where}.systems"))


def _table(found: object, where: str) -> Table:
    return {
        system: {metric: _interval(cell, f"{where}.{system}.{metric}") for metric, cell in values.items()}
        for system, values in ((name, _mapping(row, f"{where}.{name}")) for name, row in _mapping(found, where).items())
    }


def _differences(found: object) -> Table:
    """Return the differences; none where they are absent or told in another way, for they are no part of the shape."""
    try:
        return _table(found, "differences")
    except _ShapeError:
        return {}


def _interval(found: object, where: str) -> Interval:
    cell = _mapping(found, where)
    value = _number(cell.get("value"))
    if value is None:
        raise _ShapeError(f"{where}.value is {_kind(cell.get('value'))}, expected a number")
    low, high = _number(cell.get("low")), _number(cell.get("high"))
    return Interval(value) if low is None or high is None else Interval(value, low, high)


def _sizes(found: object) -> dict[str, int]:
    sizes = found if isinstance(found, dict) else {}
    return {str(name): int(size) for name, size in sizes.items() if isinstance(size, int | float)}


def _mapping(found: object, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _ShapeError(f"{where} is {_kind(found)}, expected a mapping")
    return found


def _number(found: object) -> float | None:
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _kind(found: object) -> str:
    name = type(found).__name__
    return "missing" if found is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
