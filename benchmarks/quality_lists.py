"""Trained decoders, fitted rules and peers' tables as lists for each fold of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from benchmarks.process import run
from benchmarks.quality_data import DataSet, chosen_targets, raw_of
from recsys.config import MODELS_DIR, load_config
from recsys.console import progress, talk
from recsys.errors import DataError, RunError
from recsys.modeling.baselines.lists import known_events
from recsys.modeling.predict import DECODER, RERANK, fit_system
from recsys.modeling.recommend import Candidates, History, Recommender, all_items
from recsys.modeling.rerank import fit_reranked
from recsys.prepared import PreparedData
from recsys.runs import INFO_FILE, Run, find_run
from recsys.scoring import Asked
from recsys.splits import Fold, make_split
from recsys.storage import read_json
from recsys.tables import read_lists

#: Longest list that is made where there are so many items; metrics look at its first items, a fusion at all of it.
DEPTH = 100
SHORTEST = 12


@dataclass(frozen=True)
class Commands:
    """The commands that prepare a data set and train on it, in the current folder."""

    name: str
    data_set: DataSet
    config: Path
    settings: tuple[str, ...]  # beside those of the data set
    threads: str
    prefix: str = ""  # of the names of the runs

    def prepare(self) -> None:
        """Prepare the data, unless that was done before.

        Raises:
            RunError: they were prepared in another way.
        """
        settings = [*self.settings_of(0), *(f"{key}={value}" for key, value in self.data_set.preparing.items())]
        wanted = load_config(self.config, settings).data
        if (wanted.folder / "manifest.json").is_file():
            before = read_json(wanted.folder / "manifest.json")["settings"]
            if before | {"raw": None} != wanted.model_dump(mode="json"):
                raise RunError(
                    f"{wanted.folder.resolve()} was prepared with other settings than {self.name} has now; name "
                    "another --work folder, or remove that one"
                )
            talk.print(f"{self.name}: prepared before")
            return
        raw = raw_of(self.name, self.data_set, Path.cwd())
        self._run("recsys.dataset", "main", *self._options(settings), *([] if raw is None else ["--raw", str(raw)]))

    def train(self, seed: int) -> tuple[Run, ...]:
        """Return the runs of ``seed``: one, or one for each test window; trained unless that was done before.

        Raises:
            RunError: a run of another configuration, or of other data, stands in its place.
        """
        if not self.data_set.retrained:
            return (self._train(seed, ()),)
        split = load_config(self.config, self.settings_of(seed)).split
        if split.end is None:
            raise RunError(
                f"{self.name} is trained anew for each window, but split.end does not say where the last ends"
            )
        ends = [split.end - timedelta(days=split.horizon_days * back) for back in range(split.n_folds)]
        runs = []
        for end in sorted(ends):
            name = f"{self._name(seed)}-until-{end - timedelta(days=split.horizon_days)}"
            runs.append(self._train(seed, (f"name={name}", f"split.end={end}", "split.n_folds=1")))
        return tuple(runs)

    def _train(self, seed: int, more: tuple[str, ...]) -> Run:
        settings = [*self.settings_of(seed), *more]
        wanted = load_config(self.config, settings)
        folder = MODELS_DIR / wanted.name
        if (folder / INFO_FILE).is_file():
            found = find_run(str(folder))
            if found.config != wanted:
                raise RunError(
                    f"{folder.resolve()} was trained with another configuration than {self.config} and the settings of "
                    f"{self.name} give now; name another --work folder, or remove that run"
                )
            found.open_data()
            talk.print(f"{wanted.name} was trained before")
            return found
        talk.print(f"training {wanted.name}")
        again = ["--resume"] if (folder / "checkpoints" / "last.safetensors").is_file() else []
        again = ["--force"] if folder.exists() and not again else again
        self._run("recsys.modeling.train", *self._options(settings), *again)
        return find_run(str(folder))

    def _run(self, *arguments: str) -> None:
        run(list(arguments), Path.cwd(), self.threads)

    def _name(self, seed: int) -> str:
        return f"{self.prefix}{self.name}-{seed}"

    def settings_of(self, seed: int) -> list[str]:
        """Return what is set beside the configuration in the run of ``seed``."""
        own = [f"{key}={value}" for key, value in self.data_set.settings.items()]
        return [f"name={self._name(seed)}", f"seed={seed}", *own, *self.settings]

    def _options(self, settings: list[str]) -> list[str]:
        return ["--config", str(self.config), *(part for setting in settings for part in ("--set", setting))]


@dataclass(frozen=True)
class Judged:
    """One fold: what was bought, and the lists of all systems, as they are and without what customers had bought.

    Shapes: n targets.
    """

    asked: dict[bool, Asked]  # exclude_seen → lists
    chosen: dict[str, np.ndarray]  # name of some of the targets → (n,) bool


@dataclass(frozen=True)
class Measured:
    """What was trained on a data set, and all lists to score."""

    data: PreparedData  # what was learned from
    judged: list[Judged]
    runs: dict[str, tuple[Run, ...]]  # by member
    systems: tuple[str, ...]  # those with a member for each seed
    candidates: str  # in words
    notes: dict[str, object] = field(default_factory=dict)  # more of the protocol


def judge(
    data_set: DataSet, decoders: Mapping[str, tuple[Run, ...]], peers: Path | None, *, reranked: bool = False
) -> tuple[PreparedData, list[Judged]]:
    """Return the prepared data and the lists of every decoder, rule and peer for each test fold.

    A decoder is one run for all folds, or one for each in their order. Rules are fitted as the first one's runs say.
    With ``reranked`` each decoder's candidates are listed in the order of a second stage too, as the system rerank.
    """
    first = next(iter(decoders.values()))
    data = first[0].open_data()
    folds = [fold for found in first for fold in make_split(data, found.config.split).tests]
    kinds = sorted({part.exclude_seen for part in data_set.parts})
    judged = []
    with progress() as bar:
        task = bar.add_task(
            "systems × folds", total=len(folds) * (len(decoders) * (1 + reranked) + len(data_set.rules))
        )
        for number, fold in enumerate(folds):

            def heard(system: str, start: str = fold.name) -> None:
                bar.update(task, description=f"{start} {system}", advance=1)

            fits = _fits(
                data_set, {name: runs[min(number, len(runs) - 1)] for name, runs in decoders.items()}, reranked=reranked
            )
            lists = _lists(data, fold, fits, kinds, heard)
            for exclude_seen, table in lists.items():
                table.update(_peers(peers, data, fold, exclude_seen=exclude_seen))
            plain = Asked(fold.name, fold.user_index, fold.target_offsets, fold.target_item, {})
            asked = {exclude_seen: replace(plain, lists=table) for exclude_seen, table in lists.items()}
            judged.append(Judged(asked, chosen_targets(data, fold)))
    return data, judged


def member(seed: int, system: str = DECODER) -> str:
    """Return what a trained system of one seed is called among the systems.

    >>> member(42)
    'decoder/42'
    """
    return f"{system}/{seed}"


def peer(name: str) -> str:
    """Return what another program's system is called: ours may have one of the same name.

    >>> peer("als")
    'als (peer)'
    """
    return f"{name} (peer)"


def seed_of(name: str) -> int:
    """Return the seed in what :func:`member` returned."""
    return int(name.rpartition("/")[2])


def _fits(
    data_set: DataSet, decoders: dict[str, Run], *, reranked: bool
) -> dict[str, Callable[[History], Recommender]]:
    def fit(system: str, found: Run) -> Callable[[History], Recommender]:
        return lambda history: fit_system(system, found, found.config, history)

    def fit_second_stage(found: Run) -> Callable[[History], Recommender]:
        return lambda history: fit_reranked(found, history)

    found = next(iter(decoders.values()))
    trained = {name: fit(DECODER, one) for name, one in decoders.items()}
    if reranked:
        trained |= {member(seed_of(name), RERANK): fit_second_stage(one) for name, one in decoders.items()}
    return trained | {rule: fit(rule, found) for rule in data_set.rules}


def _lists(
    data: PreparedData,
    fold: Fold,
    fits: dict[str, Callable[[History], Recommender]],
    kinds: list[bool],
    heard: Callable[[str], None],
) -> dict[bool, dict[str, np.ndarray]]:
    history = History(data, fold.history_end, fold.start_day)
    depth = {kind: _depth(history, fold, exclude_seen=kind) for kind in kinds}
    lists: dict[bool, dict[str, np.ndarray]] = {kind: {} for kind in kinds}
    for system, fit in fits.items():
        recommender = fit(history)
        for kind in kinds:
            candidates = Candidates(all_items(data.n_items), exclude_seen=kind)
            lists[kind][system] = recommender.recommend(history, fold.user_index, depth[kind], candidates).item
        heard(system)
    return lists


def _depth(history: History, fold: Fold, *, exclude_seen: bool) -> int:
    """Return how long lists can be: a customer may have bought nearly all of a small catalogue."""
    n_seen, n_rows = 0, history.data.n_items + 1
    if exclude_seen:
        row, position = known_events(history, fold.user_index)
        pairs = np.unique(row * n_rows + history.data.item[position])
        n_seen = int(np.bincount(pairs // n_rows).max(initial=0))
    return max(SHORTEST, min(DEPTH, history.data.n_items - n_seen))


def _peers(folder: Path | None, data: PreparedData, fold: Fold, *, exclude_seen: bool) -> dict[str, np.ndarray]:
    """Return the lists of other programs: ``<folder>/<system>/<fold>.parquet``, ``<fold>-new.parquet`` without seen."""
    lists = {}
    for system in () if folder is None else sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in system.glob("*.parquet") if path.stem.endswith("-new") == exclude_seen]
        path = system / f"{fold.name}{'-new' if exclude_seen else ''}.parquet"
        if files and path not in files:
            raise DataError(f"{path} is missing: {system.name} has lists for other folds only, such as {files[0].name}")
        if files:
            lists[peer(system.name)] = read_lists(path, data, fold.user_index)
    return lists


def describe_runs(runs: tuple[Run, ...]) -> list[dict[str, object]]:
    """Return what ``run.json`` says of each training that matters to a reader of its scores."""
    kept = ("code_version", "created", "device", "seconds", "epochs_run", "best_epoch", "best_value", "n_parameters")
    return [{name: found.info[name] for name in ("name", *kept) if name in found.info} for found in runs]
