"""Fit the peers on an exported split and write their lists: ``.venv-peers/bin/python benchmarks/peers/run.py FOLDER``.

Nothing of the project's package is imported here: what a peer knows is in the exported files.
"""

import argparse
import importlib
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers.files import Budget, Split
    from benchmarks.peers.models.peer import Peer, Settings

#: Module and class of each peer, by the name of its folder of lists.
PEERS = {
    "upcf": ("baskets", "UpCf"),
    "item_knn": ("factors", "ItemKnn"),
    "als": ("factors", "Als"),
    "lightgbm": ("trees", "BoostedTrees"),
    "sasrec": ("sequence", "SasRec"),
    "ligr": ("sequence", "ESasRec"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what `python -m benchmarks.peers export` wrote")
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="those that fit the protocol by default")
    parser.add_argument("--minutes", type=float, default=15, help="for each peer to choose and fit; 15 by default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # what the libraries say of one another is not for the reader of a benchmark
    # As a script, Python looks for modules beside this file; they are those of the package benchmarks.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    try:
        files = importlib.import_module("benchmarks.peers.files")
    except ImportError as error:
        raise SystemExit(f"error: {error.name} is missing; `make bench-peers` installs it into .venv-peers") from error
    split: Split = files.Split(arguments.folder)
    for name in arguments.peers or split.meta["peers"]:
        run_peer(name, split, files.Budget(arguments.minutes))


def run_peer(name: str, split: "Split", budget: "Budget") -> None:
    """Choose, fit and ask one peer, and write its lists of every test fold."""
    from benchmarks.peers.files import filled

    module, class_name = PEERS[name]
    peer: Peer = getattr(importlib.import_module(f"benchmarks.peers.models.{module}"), class_name)(split)
    began = time.monotonic()
    try:
        settings, tried = choose(peer, split, budget)
        seconds = {"choose": time.monotonic() - began}
        if not peer.each_fold:
            peer.fit(split.train, settings, budget)
            seconds["fit"] = time.monotonic() - began - seconds["choose"]
        for fold in split.meta["folds"]:
            history, users = split.history(fold), split.queries(fold)
            if peer.each_fold:
                peer.fit(history, settings, budget)
            every, new = peer.rank(fold, history, users)
            split.write_lists(name, fold, users, filled(every, users, history, split, new=False))
            split.write_lists(name, f"{fold}-new", users, filled(new, users, history, split, new=True))
    except ImportError as error:
        raise SystemExit(f"error: {error.name} is missing; `make bench-peers` installs it into .venv-peers") from error
    seconds["all"] = time.monotonic() - began
    split.write_info(name, _info(peer, settings, tried, budget, seconds))
    print(f"{name}: {seconds['all']:.0f} s, {settings | peer.fitted}", file=sys.stderr, flush=True)


def choose(peer: "Peer", split: "Split", budget: "Budget") -> "tuple[Settings, list[Any]]":
    """Return the settings of the grid with the best MAP@k on the validation window, and what was tried.

    Under leave-one-out, where customers do not buy again, the lists without items bought before are judged. What is
    left untried when half of the time is up, stays so.
    """
    from benchmarks.peers.files import map_at_k

    if len(peer.grid) == 1:
        return peer.grid[0], []
    history = split.history(split.meta["validation"])
    users, bought = split.targets()
    tried: list[Any] = []
    for settings in peer.grid:
        if tried and budget.left() <= budget.minutes / 2:
            break
        peer.fit(history, settings, budget)
        every, new = peer.rank(split.meta["validation"], history, users)
        value = map_at_k(every if split.meta["protocol"] == "weekly" else new, bought, split.k)
        tried.append({"settings": settings, "map": value})
        print(f"  {type(peer).__name__} {settings}: MAP@{split.k} {value:.4f}", file=sys.stderr, flush=True)
    return max(tried, key=lambda trial: trial["map"])["settings"], tried


def _info(
    peer: "Peer", settings: "Settings", tried: list[Any], budget: "Budget", seconds: dict[str, float]
) -> dict[str, Any]:
    from importlib.metadata import version

    from benchmarks.peers.models.peer import n_threads

    return {
        "library": f"{peer.library} {version(peer.library)}",
        "settings": settings,
        "fitted": peer.fitted,
        "tried": tried,
        "minutes_allowed": budget.minutes,
        "seconds": {step: round(value, 1) for step, value in seconds.items()},
        "n_threads": n_threads(),
    }


if __name__ == "__main__":
    main()
