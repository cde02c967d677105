"""Trained decoders, fitted rules and peers' tables as lists for each fold of a data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import chdir
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from benchmarks.process import run
from benchmarks.quality_data import DataSet, chosen_targets, raw_of
from benchmarks.rerank import RERANK, can_rerank, fit_reranked
from recsys.config import MODELS_DIR, Config, load_config
from recsys.console import progress, talk
from recsys.data.purchases import Histories, Purchases, open_purchases
from recsys.errors import DataError, RunError
from recsys.evaluation.scoring import FoldLists
from recsys.evaluation.splits import Fold, make_split
from recsys.evaluation.tables import read_lists
from recsys.modeling.decoder.components import component_classes
from recsys.modeling.lists import fit_system
from recsys.modeling.recommenders.base import Candidates, Recommender, all_items
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.rule_system import fit_rule
from recsys.runs import INFO_FILE, Run, find_run
from recsys.schema import DECODER
from recsys.storage import read_json

#: Longest list that is made where there are so many items; metrics look at its first items, a fusion at all of it.
DEPTH = 100
SHORTEST = 12
#: The other components, trained without the transformer.
NO_DECODER = "no_decoder"
#: By which rules are fitted, whatever is trained: of them ALS alone draws numbers.
RULES_SEED = 42
#: Ends the name of a rule that has counted only what the decoder has learned from.
TRAINING_COUNTS = "_training_counts"

Result = TypeVar("Result")


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

    def trainings(self, seed: int) -> list[tuple[str, ...]]:
        """Return what each run of ``seed`` sets beside its settings: of one run, or of one for each test window.

        Raises:
            RunError: the settings do not say when the last window ends.
        """
        if not self.data_set.retrained:
            return [()]
        split = load_config(self.config, self.settings_of(seed)).split
        if split.end is None:
            raise RunError(
                f"{self.name} is trained anew for each window, but split.end does not say where the last ends"
            )
        ends = [split.end - timedelta(days=split.horizon_days * back) for back in range(split.n_folds)]
        names = {end: f"{self._name(seed)}-until-{end - timedelta(days=split.horizon_days)}" for end in sorted(ends)}
        return [(f"name={name}", f"split.end={end}", "split.n_folds=1") for end, name in names.items()]

    def configs(self, seed: int) -> tuple[Config, ...]:
        """Return the configuration of each of the :meth:`trainings`."""
        settings = self.settings_of(seed)
        return tuple(load_config(self.config, [*settings, *more]) for more in self.trainings(seed))

    def train(self, seed: int, more: tuple[str, ...]) -> Run:
        """Return a run of ``seed``, one of its :meth:`trainings`; trained unless that was done before.

        Raises:
            RunError: a run of another configuration, or of other data, stands in its place.
        """
        settings = [*self.settings_of(seed), *more]
        wanted = load_config(self.config, settings)
        folder = MODELS_DIR / wanted.name
        if (folder / INFO_FILE).is_file():
            trained = find_run(str(folder))
            if trained.config != wanted:
                raise RunError(
                    f"{folder.resolve()} was trained with another configuration than {self.config} and the settings of "
                    f"{self.name} give now; name another --work folder, or remove that run"
                )
            trained.open_data()
            talk.print(f"{wanted.name} was trained before")
            return trained
        talk.print(f"training {wanted.name}")
        again = ["--resume"] if (folder / "checkpoints" / "last.safetensors").is_file() else []
        again = ["--force"] if folder.exists() and not again else again
        self._run("recsys.modeling.train", *self._options(settings), *again)
        return find_run(str(folder))

    def without_decoder(self) -> "Commands":
        """Return the commands that train the other components alone, without the transformer."""
        needs = (
            "anything",
            "dates" if self.data_set.settings.get("split.protocol", "weekly") == "weekly" else "no_dates",
        )
        names = [name for name, one in component_classes().items() if one.needs in needs]
        settings = (*self.settings, f"model.components=[{','.join(names)}]")
        return replace(self, settings=settings, prefix=f"{NO_DECODER}-")

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
class ListedFold:
    """One fold: what was bought, and the lists of all systems, as they are and without what customers had bought.

    Shapes: n targets.
    """

    lists: dict[bool, FoldLists]  # exclude_seen → lists
    chosen: dict[str, np.ndarray]  # name of some of the targets → (n,) bool


@dataclass(frozen=True)
class Task:
    """What every system is asked on a data set, whatever its seed."""

    commands: Mapping[str, Commands]  # by what is trained; the first is the decoder
    configs: tuple[Config, ...]  # that rules are fitted by: one for all folds, or one for each in their order
    data: Purchases  # what is learned from
    folds: list[Fold]
    systems: tuple[str, ...]  # those with a member for each seed
    candidates: str  # in words
    notes: dict[str, object] = field(default_factory=dict)  # more of the protocol
    hidden: np.ndarray | None = None  # (V,) bool: the items asked for, where these are hidden ones alone


def prepare_task(commands: Mapping[str, Commands]) -> Task:
    """Prepare the data of ``commands``, by what they train, and return what is asked of them."""
    first = next(iter(commands.values()))
    first.prepare()
    configs = first.configs(RULES_SEED)
    data = open_purchases(configs[0].data.folder)
    folds = [fold for config in configs for fold in make_split(data, config.split).tests]
    reranked = all(can_rerank(config) for config in configs)
    return Task(commands, configs, data, folds, (*commands, *([RERANK] * reranked)), f"all {data.n_items:,} items")


def train_all(commands: Mapping[str, Commands], seeds: Sequence[int], jobs: int = 1) -> dict[str, tuple[Run, ...]]:
    """Return the runs of every system and seed, by member; ``jobs`` of them are trained at a time.

    All systems learn one seed after the other, so that of an interrupted benchmark some seeds are complete.
    """
    wanted = [
        (seed, system, more) for seed in seeds for system in commands for more in commands[system].trainings(seed)
    ]
    if jobs == 1:
        runs = [commands[system].train(seed, more) for seed, system, more in wanted]
    else:
        with ThreadPoolExecutor(jobs) as pool:  # each only waits for a process of its own
            futures = [pool.submit(commands[system].train, seed, more) for seed, system, more in wanted]
            for _ in _as_completed(pool, futures):
                pass
            runs = [one.result() for one in futures]
    of_member: dict[str, tuple[Run, ...]] = {member(seed, system): () for system in commands for seed in seeds}
    for (seed, system, _), trained in zip(wanted, runs, strict=True):
        of_member[member(seed, system)] += (trained,)
    return of_member


def _as_completed(pool: Executor, futures: Iterable[Future[Result]]) -> Iterator[Future[Result]]:
    """Yield ``futures`` as they succeed; once one has failed, begin no other and raise what it raised."""
    try:
        for future in as_completed(futures):
            future.result()
            yield future
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def list_folds(
    task: Task,
    decoders: Mapping[str, tuple[Run, ...]],
    peers: Path | None,
    *,
    reranked: bool = False,
    jobs: int = 1,
) -> list[ListedFold]:
    """Return the lists of every decoder, rule and peer for each test fold.

    A decoder is one run for all folds, or one for each in their order. With ``reranked`` each decoder's candidates are
    listed in the order of a second stage too, as the system rerank. ``jobs`` systems make their lists at a time.
    """
    data, data_set = task.data, next(iter(task.commands.values())).data_set
    exclusions = sorted({part.exclude_seen for part in data_set.parts})
    wanted = [
        one
        for number, fold in enumerate(task.folds)
        for one in _wanted(
            task,
            number,
            fold,
            {name: runs[min(number, len(runs) - 1)] for name, runs in decoders.items()},
            data_set.rules,
            exclusions,
            reranked=reranked,
        )
    ]
    lists: list[dict[bool, dict[str, np.ndarray]]] = [{excluded: {} for excluded in exclusions} for _ in task.folds]
    with progress() as bar:
        shown = bar.add_task("systems × folds", total=len(wanted))
        for one, made in _made(wanted, data, jobs):
            for excluded, items in made.items():
                lists[one.number][excluded][one.member] = items
            bar.update(shown, description=f"{one.fold.name} {one.member}", advance=1)
    listed = []
    for fold, of_fold in zip(task.folds, lists, strict=True):
        tables = {}
        for excluded, table in of_fold.items():
            in_order = {name: table[name] for name in dict.fromkeys(one.member for one in wanted)}
            in_order |= _peers(peers, data, fold, exclude_seen=excluded)
            tables[excluded] = FoldLists(fold, in_order)
        listed.append(ListedFold(tables, chosen_targets(data, fold)))
    return listed


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


@dataclass(frozen=True)
class _Wanted:
    """A system that is to list items for the customers of a fold: what another process needs to know of it."""

    member: str  # what it is called among the systems
    system: str
    run: Run | None  # None of a rule
    config: Config
    number: int  # of the fold
    fold: Fold
    depth: Mapping[bool, int]  # exclude_seen → length of the lists


def _wanted(
    task: Task,
    number: int,
    fold: Fold,
    decoders: Mapping[str, Run],
    rules: Sequence[str],
    exclusions: Sequence[bool],
    *,
    reranked: bool,
) -> Iterator[_Wanted]:
    histories = fold.histories(task.data)
    depth = {excluded: _depth(histories, exclude_seen=excluded) for excluded in exclusions}
    for name, trained in decoders.items():
        yield _Wanted(name, DECODER, trained, trained.config, number, fold, depth)
    for name, trained in decoders.items() if reranked else ():
        if name == member(seed_of(name)):
            yield _Wanted(member(seed_of(name), RERANK), RERANK, trained, trained.config, number, fold, depth)
    config = task.configs[min(number, len(task.configs) - 1)]
    for rule in rules:
        yield _Wanted(rule, rule, None, config, number, fold, depth)


def _made(wanted: Sequence[_Wanted], data: Purchases, jobs: int) -> Iterator[tuple[_Wanted, dict[bool, np.ndarray]]]:
    """Yield each of ``wanted`` with its lists, as they come in."""
    if jobs == 1:
        yield from ((one, _lists_of(one, data)) for one in wanted)
        return
    # Spawned: a fork of a process in which threads of PyTorch run may never end.
    threads = max(torch.get_num_threads() // jobs, 1)
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        submitted = {pool.submit(_lists_in, Path.cwd(), one): one for one in wanted}
        for future in _as_completed(pool, submitted):
            yield submitted[future], future.result()


def _lists_in(folder: Path, one: _Wanted) -> dict[bool, np.ndarray]:
    """Return the lists of ``one``, whose paths are relative to ``folder``, in a process of its own."""
    with chdir(folder):
        return _lists_of(one, _data_of(one.config.data.folder))


@lru_cache(maxsize=1)
def _data_of(folder: Path) -> Purchases:
    """Return the prepared data in ``folder``, and with them what was made of them for the system before."""
    return open_purchases(folder)


def _lists_of(one: _Wanted, data: Purchases) -> dict[bool, np.ndarray]:
    known, histories = one.fold.everybody(data), one.fold.histories(data)
    recommender: Recommender
    rule = one.system.removesuffix(TRAINING_COUNTS)
    if one.run is not None:
        reranked = one.system == RERANK
        recommender = fit_reranked(one.run, known) if reranked else fit_system(DECODER, one.run, one.config, known)
    elif rule != one.system:
        validation = make_split(data, one.config.split).validation
        recommender = BASELINES[rule](validation.everybody(data), one.config, validation)
    else:
        recommender = fit_rule(rule, one.config, known)
    return {
        exclude_seen: recommender.recommend(
            histories, depth, Candidates(all_items(data.n_items), exclude_seen=exclude_seen)
        ).item
        for exclude_seen, depth in one.depth.items()
    }


def _depth(histories: Histories, *, exclude_seen: bool) -> int:
    """Return how long lists can be: a customer may have bought nearly all of a small catalogue."""
    n_seen, n_items = 0, histories.log.n_items
    if exclude_seen:
        row, position = histories.events()
        pairs = np.unique(row * (n_items + 1) + histories.log.item[position])
        n_seen = int(np.bincount(pairs // (n_items + 1)).max(initial=0))
    return max(SHORTEST, min(DEPTH, n_items - n_seen))


def _peers(folder: Path | None, data: Purchases, fold: Fold, *, exclude_seen: bool) -> dict[str, np.ndarray]:
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
    kept = (
        *("name", "code_version", "torch_version", "created", "device"),
        *("seconds", "epochs_run", "best_epoch", "best_value", "n_parameters", "transformer"),
    )
    return [{name: found.info[name] for name in kept if name in found.info} for found in runs]


def cost_of_training(described: Iterable[Sequence[Mapping[str, object]]], jobs: int = 1) -> str:
    """Return the seconds of all trainings, as :func:`describe_runs` describes them, and what they ran on.

    >>> cost_of_training([[{"seconds": 61.5, "device": "cpu"}], [{"seconds": 30.0, "device": "NVIDIA H200"}]], 2)
    '92 s of training, 2 at a time, on one NVIDIA H200'
    """
    trained = [one for runs in described for one in runs]
    seconds = sum(float(str(one["seconds"])) for one in trained)
    elsewhere = sorted({str(one.get("device", "cpu")) for one in trained} - {"cpu"})
    where = f"{', ' if jobs > 1 else ' '}on one {' and one '.join(elsewhere)}" if elsewhere else ""
    return f"{seconds:,.0f} s of training{f', {jobs} at a time' if jobs > 1 else ''}{where}"
