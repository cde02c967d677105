"""Score the peers' lists beside our rules, and each peer mixed with the best rule; write the table of results."""

import os
import textwrap
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.fusion import FUSION_OFFSET, fuse_reciprocal_ranks
from benchmarks.peers.export import META
from benchmarks.results import RESULTS, machine, write_section
from recsys.config import Config
from recsys.data.purchases import Purchases, open_purchases
from recsys.errors import DataError
from recsys.evaluation.results import Cell, Cells, RunCells
from recsys.evaluation.runs import settings_of
from recsys.evaluation.scoring import FoldLists, score_segment, score_systems
from recsys.evaluation.segments import target_segments
from recsys.evaluation.splits import Fold, Split, make_split
from recsys.evaluation.tables import read_lists
from recsys.modeling.recommenders.base import Candidates, all_items
from recsys.modeling.rule_system import fit_rule
from recsys.storage import code_version, read_json

#: The rule that the peers are mixed with.
RULE: Final = "repeat"
#: Metrics that are shown, by protocol.
SHOWN: Final = {"weekly": ("map@12",), "leave_one_out": ("hit_rate@10", "ndcg@10")}
_NAMES: Final = {"map@12": "MAP@12", "hit_rate@10": "HR@10", "ndcg@10": "NDCG@10"}


def write_scores(folder: Path, results: Path | None = None) -> str:
    """Score the lists under ``folder``, write the section ``peers-<data>`` and return it.

    Raises:
        DataError: the prepared data are no longer those that were exported, or a peer lacks lists.
    """
    if not (folder / META).is_file():
        raise DataError(
            f"{folder} holds no exported split; run `python -m benchmarks.peers export DATA {folder}` first"
        )
    meta = read_json(folder / META)
    config = Config.model_validate(meta["config"])
    data = open_purchases(Path(meta["folder"]))
    if data.fingerprint != meta["fingerprint"]:
        raise DataError(f"{data.folder} was prepared anew since {folder} was exported; run export and the peers again")
    split = make_split(data, config.split)
    infos = {name: read_json(folder / "info" / f"{name}.json") for name in peers_of(folder, split)}
    peers = {name: shown_name(name, info) for name, info in infos.items()}
    every = [lists_of(folder, data, fold, config, peers) for fold in split.tests]
    scores = score_systems(every, settings_of(config))
    new = [np.asarray(target_segments(data, fold)["new"]) for fold in split.tests]
    unseen = [lists_of(folder, data, fold, config, peers, new=True) for fold in split.tests]
    without_seen = score_segment(unseen, new, settings_of(config))[0]
    section = section_of(meta, infos, scores, without_seen)
    write_section(f"peers-{meta['data']}", section, results or RESULTS)
    return section


def peers_of(folder: Path, split: Split) -> list[str]:
    """Return the peers with lists for every test fold, by name.

    Raises:
        DataError: a peer lacks the lists of a fold, or nobody has any.
    """
    peers = sorted(path.name for path in (folder / "lists").glob("*") if path.is_dir())
    for peer in peers:
        for name in (f"{fold.name}{suffix}" for fold in split.tests for suffix in ("", "-new")):
            if not (folder / "lists" / peer / f"{name}.parquet").is_file():
                raise DataError(
                    f"{folder}/lists/{peer} lacks {name}.parquet; run benchmarks/peers/run.py --peers {peer}"
                )
    if not peers:
        raise DataError(f"{folder} holds no lists; run `.venv-peers/bin/python benchmarks/peers/run.py {folder}` first")
    return peers


def lists_of(
    folder: Path,
    data: Purchases,
    fold: Fold,
    config: Config,
    peers: dict[str, str],
    *,
    new: bool = False,
) -> FoldLists:
    """Return the lists of our rules, of the peers by the names in ``peers``, and of each mixed with the repeat rule.

    All choose from the whole catalogue; with ``new``, from what the customer has not bought before.
    """
    known, histories = fold.everybody(data), fold.histories(data)
    candidates = Candidates(all_items(data.n_items), exclude_seen=new)
    lists: dict[str, np.ndarray] = {
        name: fit_rule(name, config, known).recommend(histories, config.predict.k, candidates).item
        for name in config.baselines.systems
    }
    for peer, name in peers.items():
        path = folder / "lists" / peer / f"{fold.name}{'-new' if new else ''}.parquet"
        lists[name] = read_lists(path, data, fold.user_index)
    if RULE in lists and not new:
        k, rule = config.predict.k, lists[RULE]
        lists |= {mixed_name(name): fuse_reciprocal_ranks((rule, lists[name]), k) for name in peers.values()}
    return FoldLists(fold, lists)


def shown_name(peer: str, info: dict[str, Any]) -> str:
    """Return a peer's name with its library's: our rules have an ``als`` and an ``item_knn`` of their own.

    >>> shown_name("als", {"library": "pm-implicit 0.7.3"})
    'als (pm-implicit)'
    """
    return f"{peer} ({info['library'].split()[0]})"


def mixed_name(peer: str) -> str:
    """Return the name of the mixture of the repeat rule with a peer."""
    return f"{RULE} + {peer}"


def section_of(meta: dict[str, Any], infos: dict[str, Any], scores: RunCells, new: Cells) -> str:
    """Return the section of the results: how the figures came about, a row a system, the settings of the peers."""
    shown, folds = SHOWN[meta["protocol"]], scores["folds"]
    head = ["system", "minutes", *(_NAMES[metric] for metric in shown)]
    several = len(folds) > 1
    if several:
        head += [fold["start"] for fold in folds]
    head += [f"new items only, {_NAMES[metric]}" for metric in shown]
    taken = {shown_name(name, info): info["seconds"]["all"] for name, info in infos.items()}
    rows = []
    for system, values in scores["systems"].items():
        cells = [system, f"{taken[system] / 60:.1f}" if system in taken else ""]
        cells += [_interval(values[metric]) for metric in shown]
        if several:
            cells += [f"{fold['systems'][system][shown[0]]['value']:.4f}" for fold in folds]
        cells += [_interval(new[system][metric]) if system in new else "" for metric in shown]
        rows.append(cells)
    customers = ", ".join(f"{fold['n_users']:,} at {fold['start']}" for fold in folds)
    allowed = {info["minutes_allowed"] for info in infos.values()}
    threads = {info["n_threads"] for info in infos.values()}
    settings = "\n".join(f"- `{name}`: {_settings(info)}" for name, info in infos.items())
    about = (
        f"`make bench-peers DATA={meta['data']}`: recommenders of other libraries on the same split as ours "
        f"({meta['protocol']}; customers: {customers}), {meta['k']} items out of the whole catalogue, scored by the "
        "same code. Names without a library are our rules. Intervals redraw customers. Minutes are all that a peer "
        f"took: choosing settings on the validation window, fitting, writing lists; {_range(allowed)} minutes were "
        f"allowed for choosing and fitting, threads: {_range(threads)}. Mixtures with {RULE} add "
        f"1 / ({FUSION_OFFSET} + rank) of both lists. "
        "New items only: lists without what the customer had bought before, scored on purchases "
        f"that were new to the customer. {machine()}; load average of the last 15 minutes {os.getloadavg()[2]:.1f}; "
        f"{time.strftime('%Y-%m-%d')}, commit {code_version()}, seed {meta['seed']}."
    )
    lines = [
        f"## Peers on {meta['data']}",
        "",
        textwrap.fill(about, 120),
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        settings,
    ]
    return "\n".join(lines)


def _interval(cell: Cell) -> str:
    value = f"{cell['value']:.4f}"
    return value if cell["low"] is None else f"{value} [{cell['low']:.4f}, {cell['high']:.4f}]"


def _settings(info: dict[str, Any]) -> str:
    chosen = ", ".join(f"{name} {value}" for name, value in (info["settings"] | info["fitted"]).items())
    tried = len(info["tried"])
    of = f"; best of {tried} settings on the validation window" if tried else ""
    late = "; **stopped by the clock before it had converged**" if info["fitted"].get("stopped_early") is False else ""
    return f"{info['library']}; {chosen or 'no settings'}{of}{late}"


def _range(values: set[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
