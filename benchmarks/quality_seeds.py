"""What each seed gave every customer, as ``results/seeds/<data>/<seed>.npz``: seeds may come on different days.

A file holds the value of every customer asked, for each part of the targets, fold, trained system and metric, and where
it comes from. Customers stand in the order of the prepared data and have no ids. Values are exact: places in a table of
the distinct ones, of which a metric has few.
"""

import hashlib
import json
import platform
import re
import subprocess
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.process import ROOT
from benchmarks.quality_data import DataSet, Part, chosen_targets
from benchmarks.quality_lists import ListedFold, Task, describe_runs, member
from benchmarks.quality_tables import Values, folds_of, values_of
from benchmarks.results import machine
from recsys import __version__
from recsys.config import Config
from recsys.console import talk
from recsys.errors import RunError
from recsys.runs import Run
from recsys.storage import code_version, replacing

_FORMAT: Final = 1
#: What else :attr:`Seed.about` must hold.
_ABOUT: Final = ("commit", "date", "machine", "threads", "trainings", "terms")
#: What decides what a seed learns and lists, as Git names it; its tables are made anew in every run.
_CODE: Final = (
    *("recsys", "configs/base.yaml", "benchmarks/rerank.py"),
    *(f"benchmarks/quality_{name}.py" for name in ("cold", "data", "lists", "seeds", "tables")),
)
#: Settings that change no training: data have a fingerprint, rules and intervals are made anew, machines differ.
_APART: Final = ("name", "seed", "data", "baselines", "evaluation", "training.accelerator", "training.devices")


@dataclass(frozen=True)
class Seed:
    """What the systems of one seed gave every customer."""

    number: int
    about: dict[str, Any]  # of JSON: commit, date, machine, versions, what it was asked, its trainings
    values: dict[tuple[str, str], Values]  # segment, fold → system, metric → (Q,) float64

    @property
    def trained_by(self) -> list[str]:
        """The commits of its trainings; :attr:`about` has that by which lists were made and scored."""
        trained = [str(one.get("code_version")) for runs in self.about["trainings"].values() for one in runs]
        return list(dict.fromkeys(trained))

    @property
    def commits(self) -> list[str]:
        """All of its commits."""
        return list(dict.fromkeys([*self.trained_by, str(self.about["commit"])]))


@dataclass(frozen=True)
class Terms:
    """What seeds have to agree in before their values are averaged."""

    fingerprint: str  # of the prepared data
    settings: dict[str, Any]  # dotted key → value
    candidates: str
    targets: dict[str, dict[str, str]]  # segment → fold → hash of who is asked, and of what they bought
    columns: list[list[str]]  # trained system and metric of each segment: [segment, system, metric]


def terms_of(task: Task, data_set: DataSet) -> Terms:
    """Return what a seed has to agree in with what is asked now."""
    targets: dict[str, dict[str, str]] = {part.segment: {} for part in data_set.parts}
    for fold in task.folds:
        chosen = chosen_targets(task.data, fold)
        for part in data_set.parts:
            some = fold.of_targets(chosen[part.targets])
            if len(some.user_index):
                arrays = (some.user_index, some.target_offsets, some.target_item)
                content = b"".join(array.astype("<i8").tobytes() for array in arrays)
                targets[part.segment][fold.name] = hashlib.sha256(content).hexdigest()[:16]
    columns = [
        [part.segment, system, metric] for part in data_set.parts for system in task.systems for metric in part.metrics
    ]
    return Terms(task.data.fingerprint, _settings(task.configs[0]), task.candidates, targets, columns)


def _settings(config: Config) -> dict[str, Any]:
    return {key: value for key, value in _flat(config.model_dump(mode="json")) if not _is_apart(key)}


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def _is_apart(key: str) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in _APART)


def disagreements(seed: Seed, terms: Terms) -> list[str]:
    """Return in words what ``seed`` has otherwise than is asked now; a setting that it does not know is the default."""
    theirs = seed.about["terms"]
    found = []
    if theirs["fingerprint"] != terms.fingerprint:
        found.append(f"data {theirs['fingerprint'][:12]}, expected {terms.fingerprint[:12]}")
    settings = _settings(Config()) | theirs["settings"]
    for key in sorted(settings.keys() | terms.settings.keys()):
        if settings.get(key) != terms.settings.get(key):
            found.append(f"{key} {settings.get(key)}, expected {terms.settings.get(key)}")
    if theirs["candidates"] != terms.candidates:
        found.append(f"candidates {theirs['candidates']}, expected {terms.candidates}")
    segments = [name for name, folds in terms.targets.items() if theirs["targets"].get(name) != folds]
    if segments and not found:  # else they follow from the above
        found.append(f"other customers or targets in {', '.join(segments)}")
    missing = [" ".join(column) for column in terms.columns if column not in theirs["columns"]]
    return [*found, f"no values of {', '.join(missing)}"] if missing else found


def require_agreement(seeds: Mapping[int, Seed], terms: Terms, folder: Path) -> None:
    """Refuse seeds that were asked something else.

    Raises:
        RunError: there is one; the error names each file, and what differs.
    """
    wrong = {path_of(folder, one.number): found for one in seeds.values() if (found := disagreements(one, terms))}
    if wrong:
        named = "; ".join(f"{path} has {', '.join(found)}" for path, found in wrong.items())
        raise RunError(f"{named}. Values are averaged of seeds that agree: delete it, or measure it anew with --seeds")


def to_measure(numbers: Sequence[int], kept: Mapping[int, Seed], terms: Terms) -> list[int]:
    """Return those of ``numbers`` that no file answers yet, and say so of the others."""
    left = []
    for number in numbers:
        seed = kept.get(number)
        if seed is None:
            left.append(number)
        elif found := disagreements(seed, terms):
            talk.print(f"seed {number} is measured anew: its file has {', '.join(found)}")
            left.append(number)
        elif not all(is_code_of(commit) for commit in seed.commits):
            talk.print(f"seed {number} is measured anew: its file is of other code ({', '.join(seed.commits)})")
            left.append(number)
        else:
            talk.print(f"seed {number} is not trained again: measured on {seed.about['date']} by this code")
    return left


def is_code_of(commit: str) -> bool:
    """Return whether what trains and lists now stands in ``commit`` unchanged; of one that is not known it does not."""
    if not re.fullmatch("[0-9a-f]{7,40}", commit):  # "unknown", or with changes that nobody knows any more
        return False
    try:
        compared = subprocess.run(
            ["git", "diff", "--quiet", commit, "--", *_CODE],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # no git here
        return False
    return compared.returncode == 0


def measure_seed(
    number: int,
    task: Task,
    data_set: DataSet,
    listed: list[ListedFold],
    runs: Mapping[str, tuple[Run, ...]],
    threads: str,
) -> Seed:
    """Return what the systems of seed ``number`` gave every customer, by their lists."""
    members = [member(number, system) for system in task.systems]
    values: dict[tuple[str, str], Values] = {}
    for part in data_set.parts:
        for fold in folds_of(part, listed):
            own = replace(fold, lists={name: fold.lists[name] for name in members})
            values[part.segment, fold.fold.name] = {
                (system.rpartition("/")[0], metric): of for (system, metric), of in values_of(own, part.metrics).items()
            }
    about = {
        "format": _FORMAT,
        "seed": number,
        "commit": code_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "threads": threads,
        "versions": {
            "python": platform.python_version(),
            "recsys": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "trainings": {system: describe_runs(runs[member(number, system)]) for system in task.commands},
        "terms": vars(terms_of(task, data_set)),
    }
    return Seed(number, about, values)


def given_of(part: Part, seeds: Mapping[int, Seed], systems: Sequence[str]) -> dict[str, Values]:
    """Return, for each fold, what every system of every seed gave each customer on a part's targets."""
    folds = [fold for segment, fold in next(iter(seeds.values())).values if segment == part.segment]
    return {
        fold: {
            (member(number, system), metric): seed.values[part.segment, fold][system, metric]
            for system in systems
            for number, seed in seeds.items()
            for metric in part.metrics
        }
        for fold in folds
    }


def provenance(seed: Seed) -> dict[str, Any]:
    """Return where a seed comes from, as results say it."""
    names = ("commit", "date", "machine", "threads", "versions")
    return {"trained_by": seed.trained_by} | {name: seed.about.get(name) for name in names}


def path_of(folder: Path, number: int) -> Path:
    """Return the file of a seed in the folder of a data set."""
    return folder / f"{number}.npz"


def write_seed(seed: Seed, folder: Path) -> None:
    """Write the file of a seed, whole or not at all."""
    columns = [
        [*place, *column, values] for place, of_place in seed.values.items() for column, values in of_place.items()
    ]
    layout = [[*names, len(values)] for *names, values in columns]
    everything = np.concatenate([np.zeros(0), *(values for *_, values in columns)])
    levels, codes = np.unique(everything, return_inverse=True)
    narrow = np.uint16 if len(levels) <= np.iinfo(np.uint16).max else np.uint32
    about = np.frombuffer(json.dumps(seed.about | {"layout": layout}).encode(), dtype=np.uint8)
    with replacing(path_of(folder, seed.number)) as aside, aside.open("wb") as stream:
        np.savez_compressed(stream, about=about, levels=levels, codes=codes.astype(narrow))


def read_seeds(folder: Path) -> dict[int, Seed]:
    """Return the seeds whose files are in ``folder``, in their order.

    Raises:
        RunError: a file is damaged, or not what :func:`write_seed` writes.
    """
    seeds = [_read(path) for path in sorted(folder.glob("*.npz")) if not path.name.startswith(".")]
    return {seed.number: seed for seed in sorted(seeds, key=lambda one: one.number)}


def _read(path: Path) -> Seed:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("a single array, expected several")
            arrays = {name: loaded[name] for name in ("about", "levels", "codes")}
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']}, expected {_FORMAT}")
        if path.stem != str(about["seed"]) or not all(name in about for name in _ABOUT):
            raise ValueError(f"of seed {about['seed']}, expected that of its name, and {', '.join(_ABOUT)}")
        flat, layout = arrays["levels"][arrays["codes"]], about.pop("layout")
        ends = np.cumsum([n for *_, n in layout])
        if not layout or ends[-1] != len(flat):
            raise ValueError(f"{len(flat)} values, expected {ends[-1] if layout else 'some'}")
        values: dict[tuple[str, str], Values] = {}
        for (segment, fold, system, metric, _), some in zip(layout, np.split(flat, ends[:-1]), strict=True):
            values.setdefault((segment, fold), {})[system, metric] = some
    except (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        said = " ".join(str(error).split())
        raise RunError(
            f"{path} is not the file of a seed ({type(error).__name__}: {said}); it may have been cut short: restore "
            "it, or delete it and measure its seed anew"
        ) from error
    return Seed(about["seed"], about, values)
