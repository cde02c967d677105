"""``metrics.json``: its name, its keys, how it is written, and how it is read, checked on the way in.

The file's stable shape::

    {"protocol": {…},
     "systems": {"<system>": {"map@12": {"value": x, "low": l, "high": h}, …}},
     "differences": {…same, of the first system to each other…},
     "folds": [{"start": "YYYY-MM-DD", "n_users": n, "systems": {…same…}, "differences": {…same…}}],
     "segments": {"<segment>": {"<system>": {…}}},
     "segment_sizes": {"<segment>": n}}

``low`` and ``high`` may be absent or null where a metric has no interval. In a file that is read, only ``systems``,
``folds`` and their ``systems`` must be there; further keys are left alone. Each fold of a backtest also says whose
weights were asked (``run``), and the first day that they have not learned from (``learned_before``).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from recsys.errors import RunError
from recsys.schema import DECODER
from recsys.storage import read_json

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
#: All that the file holds, for those who make it.
RunCells = dict[str, Any]


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
        maps = [metric for metric in self.metrics if metric.startswith("map")]
        return MAIN_METRIC if MAIN_METRIC in maps else (maps or self.metrics)[0]

    @property
    def k(self) -> int | None:
        """Length of the lists the main metric looks at; None where its name does not say."""
        cutoff = self.main_metric.partition("@")[2]
        return int(cutoff) if cutoff.isdigit() else None

    @property
    def hit_rate(self) -> Interval | None:
        """The decoder's hit rate at the cutoff of the main metric; None where the file has none."""
        return self.systems.get(DECODER, {}).get(f"hit_rate@{self.k}")


def to_cell(value: float, bounds: tuple[float, float] | tuple[None, None] = (None, None)) -> Cell:
    """Return a value with its interval as the file holds them."""
    return {"value": value, "low": bounds[0], "high": bounds[1]}


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
    if not isinstance(top.get("folds"), list):
        raise _ShapeError(f"folds is {_type_of(top.get('folds'))}, expected a list of windows")
    folds = []
    for number, fold in enumerate(top["folds"]):
        window = _mapping(fold, f"folds[{number}]")
        folds.append(
            FoldScores(str(window.get("start", "")), _table(window.get("systems"), f"folds[{number}].systems"))
        )
    try:
        differences = _table(top.get("differences"), "differences")
    except _ShapeError:  # absent, or told in another way: they are no part of what a file must hold
        differences = {}
    segments = _mapping(top.get("segments", {}), "segments")
    return Scores(
        protocol=_mapping(top.get("protocol", {}), "protocol"),
        systems=systems,
        folds=folds,
        segments={name: _table(table, f"segments.{name}") for name, table in segments.items()},
        segment_sizes=top.get("segment_sizes", {}),
        differences=differences,
    )


def _table(value: object, where: str) -> Table:
    return {
        system: {metric: _interval(cell, f"{where}.{system}.{metric}") for metric, cell in values.items()}
        for system, values in ((name, _mapping(row, f"{where}.{name}")) for name, row in _mapping(value, where).items())
    }


def _interval(value: object, where: str) -> Interval:
    cell = _mapping(value, where)
    number = _number(cell.get("value"))
    if number is None:
        raise _ShapeError(f"{where}.value is {_type_of(cell.get('value'))}, expected a number")
    low, high = _number(cell.get("low")), _number(cell.get("high"))
    return Interval(number) if low is None or high is None else Interval(number, low, high)


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _ShapeError(f"{where} is {_type_of(value)}, expected a mapping")
    return value


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _type_of(value: object) -> str:
    name = type(value).__name__
    return "missing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
