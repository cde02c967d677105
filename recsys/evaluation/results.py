"""``metrics.json``: its name, its keys, how it is written, and how it is read, checked on the way in.

``docs/evaluation.md`` shows its shape. Differences are of the first system to each other. Each fold of a backtest also
says whose weights were asked (``run``), and the first day that they have not learned from (``learned_before``). Of a
file that is read, only ``systems``, ``folds`` and their ``systems`` must be there; ``low`` and ``high`` may be absent.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

from pydantic import StrictFloat, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

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
    """A measured value and the interval around it; ``low`` and ``high`` are None where there is none."""

    value: StrictFloat
    low: StrictFloat | None = None
    high: StrictFloat | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval's ends; the value itself twice where there is no interval."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


#: system → metric → interval
Table = dict[str, dict[str, Interval]]


def _table_or_empty(value: object, read: ValidatorFunctionWrapHandler) -> Table:
    try:
        table: Table = read(value)
    except ValidationError:  # told in another way: differences are no part of what a file must hold
        return {}
    return table


@dataclass(frozen=True)
class FoldScores:
    """Scores of one held-out window."""

    systems: Table
    start: str = ""


@dataclass(frozen=True)
class Scores:
    """All of ``metrics.json``, systems in the file's order."""

    systems: Table
    folds: list[FoldScores]
    protocol: dict[str, Any] = field(default_factory=dict)
    segments: dict[str, Table] = field(default_factory=dict)
    segment_sizes: dict[str, int] = field(default_factory=dict)
    differences: Annotated[Table, WrapValidator(_table_or_empty)] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in the order in which they first occur."""
        return list(dict.fromkeys(metric for values in self.systems.values() for metric in values))

    @property
    def main_metric(self) -> str:
        """``map@12``, else the MAP of the longest lists, else the first metric."""
        maps = [metric for metric in self.metrics if metric.startswith("map")]
        longest = max(maps, key=lambda metric: int(f"0{metric.partition('@')[2]}"), default=self.metrics[0])
        return MAIN_METRIC if MAIN_METRIC in maps else longest

    @property
    def k(self) -> int | None:
        """Length of the lists the main metric looks at; None where its name does not say."""
        cutoff = self.main_metric.partition("@")[2]
        return int(cutoff) if cutoff.isdigit() else None

    @property
    def hit_rate(self) -> Interval | None:
        """The decoder's hit rate at the cutoff of the main metric; None where the file has none."""
        return self.systems.get(DECODER, {}).get(f"hit_rate@{self.k}")


def load_scores(path: Path, run: str) -> Scores:
    """Return what the evaluation of ``run`` wrote to ``path``; RunError where it is missing or of another shape."""
    command = f"recsys evaluate --run {run}"
    if not path.is_file():
        raise RunError(
            f"{path} is missing: {run} has not been scored; run `{command}` first, which wants the lists of `recsys "
            f"predict --folds --run {run}`"
        )
    try:
        scores = TypeAdapter(Scores).validate_python(read_json(path))
        wrong = "" if any(scores.systems.values()) else "systems holds no metric"
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        kind = type(first["input"]).__name__
        found = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        if first["type"] == "missing" or first["input"] is None:
            found = "missing"
        wrong = f"{place or 'the file'} is {found}, expected {_EXPECTED.get(first['type'], 'a mapping')}"
    if wrong:
        raise RunError(f"{path} does not have the shape of scores: {wrong}; run `{command} --force` again")
    return scores


#: What is expected where pydantic finds an error of these kinds; everything else is a mapping.
_EXPECTED = {"list_type": "a list of windows", "float_type": "a number", "string_type": "text"}
