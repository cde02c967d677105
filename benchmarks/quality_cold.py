"""New products: a tenth of the items is hidden from training and then ranked, and nobody knows a sale of theirs.

The events of hidden items are taken out of prepared data, so that the decoder sees none, not when it trains and not in
the histories that it is asked with; tables of sales have none either. What was really bought comes from the whole.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from benchmarks.quality_data import chosen_targets, find_data_set
from benchmarks.quality_lists import NO_DECODER, RULES_SEED, SHORTEST, Commands, ListedFold, Task, member, seed_of
from recsys import schema
from recsys.config import Config, DataConfig, load_config
from recsys.console import talk
from recsys.data.assemble import fingerprint_of, write_array
from recsys.data.days import day_date
from recsys.data.order import basket_numbers
from recsys.data.purchases import Purchases, open_purchases
from recsys.errors import DataError, RunError
from recsys.evaluation.scoring import FoldLists
from recsys.evaluation.splits import Fold, make_split
from recsys.modeling.lists import load_decoder
from recsys.modeling.recommenders.base import Candidates, Recommendations
from recsys.runs import Run
from recsys.schema import DECODER
from recsys.storage import code_version, read_json, replacing, write_json

HIDDEN_SHARE: Final = 0.1
HIDDEN_SEED: Final = 0
#: The decoder that knows items by id alone: of hidden items, which share nothing with others then, it knows nothing.
WITHOUT_CONTENT: Final = "decoder_without_content"
RANDOM: Final = "random"
_CHUNK: Final = 256  # customers whose whole rankings are kept at a time
#: The sales component is left out with the categories: it places what never sold by what its categories sold.
_BLIND: Final = (
    "model.attributes=false",
    "model.components=[sequence,past_items,co_purchases]",
    "model.promotions=false",
)


def prepare_hidden_task(commands: Commands) -> Task:
    """Prepare and hide, and return what is asked of decoders with and without content: hidden items alone."""
    name = str(commands.data_set.whole)
    whole = replace(commands, name=name, data_set=find_data_set(name))
    whole.prepare()
    config = load_config(commands.config, commands.settings_of(RULES_SEED))
    data = open_purchases(load_config(whole.config, whole.settings_of(RULES_SEED)).data.folder)
    hidden_V = hidden_items(data)
    _write_once(data, hidden_V, config.data)
    blind = replace(commands, settings=(*commands.settings, *_BLIND), prefix="no_content-")
    trained = {DECODER: commands, NO_DECODER: commands.without_decoder(), WITHOUT_CONTENT: blind}
    known = open_purchases(config.data.folder)
    n_hidden = int(hidden_V.sum())
    hiding = {
        "share": HIDDEN_SHARE,
        "seed": HIDDEN_SEED,
        "n_items": n_hidden,
        "n_events": data.n_events - known.n_events,
        "expected_recall_of_random": min(SHORTEST / n_hidden, 1.0),
    }
    folds = list(cold_folds(data, known, hidden_V, config))
    candidates = f"the {n_hidden:,} hidden of {data.n_items:,} items"
    return Task(trained, (config,), known, folds, (*trained, RANDOM), candidates, {"hidden": hiding}, hidden_V)


def hidden_items(data: Purchases, share: float = HIDDEN_SHARE, seed: int = HIDDEN_SEED) -> np.ndarray:
    """Return (V,) bool: ``share`` of the items that were ever sold, drawn alike whatever they sold."""
    sold = np.flatnonzero(np.bincount(data.item, minlength=data.n_items + 1))
    hidden_V = np.zeros(data.n_items + 1, dtype=bool)
    hidden_V[np.random.default_rng(seed).choice(sold, round(share * len(sold)), replace=False)] = True
    return hidden_V


def write_without(data: Purchases, hidden_V: np.ndarray, config: DataConfig) -> None:
    """Write the prepared data of ``config``: those of ``data`` without the events of hidden items, whole or not at all.

    Users and items keep their indices, also a user who bought nothing else. Baskets are numbered anew.

    Raises:
        DataError: ``data`` were made in memory.
    """
    if data.folder is None:
        raise DataError(f"{data.origin} are in no folder that could be written without hidden items; save them first")
    kept = ~hidden_V[data.item]
    offsets = np.concatenate([[0], np.cumsum(kept)])[data.offsets].astype(np.int64)
    arrays = {name: np.asarray(getattr(data, name))[kept] for name in schema.EVENT_ARRAYS}
    basket = arrays["basket"].astype(np.int64) + 1  # 0 would stand for a basket that is not known
    arrays["basket"] = basket_numbers(data.user_of_event()[kept], arrays["day"], basket, offsets)
    with replacing(config.folder) as folder:
        folder.mkdir(parents=True)
        hashes = {name: write_array(folder, name, values) for name, values in arrays.items()}
        hashes[schema.OFFSETS] = write_array(folder, schema.OFFSETS, offsets)
        copied = ["users.parquet", "items.parquet", "report.json"]
        if data.promotions is not None:  # what is planned for hidden items is known like their attributes
            copied.append("promotions.parquet")
            hashes["promotions"] = data.manifest["hashes"]["promotions"]
        for name in copied:
            shutil.copyfile(data.folder / name, folder / name)
        changed = {
            "settings": config.model_dump(mode="json"),
            "code_version": code_version(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "n_events": int(offsets[-1]),
            "first_day": day_date(arrays["day"].min()).isoformat(),
            "last_day": day_date(arrays["day"].max()).isoformat(),
            "hashes": hashes,
            "fingerprint": fingerprint_of(hashes, data.manifest["id_hashes"]),
            "hidden": _hiding(data, hidden_V),
        }
        write_json(folder / "manifest.json", data.manifest | changed)


def _hiding(data: Purchases, hidden_V: np.ndarray) -> dict[str, object]:
    """Return what was hidden, and from what."""
    return {"of": data.fingerprint, "items": hashlib.sha256(hidden_V.tobytes()).hexdigest()}


def _write_once(data: Purchases, hidden_V: np.ndarray, config: DataConfig) -> None:
    manifest = config.folder / "manifest.json"
    if not manifest.is_file():
        write_without(data, hidden_V, config)
    elif read_json(manifest).get("hidden") == _hiding(data, hidden_V):
        talk.print(f"{config.folder.name}: items were hidden before")
    else:
        raise RunError(
            f"{config.folder.resolve()} holds other data than {data.folder} without the items hidden now; name another "
            "--work folder, or remove that one"
        )


def cold_folds(whole: Purchases, known: Purchases, hidden_V: np.ndarray, config: Config) -> Iterator[Fold]:
    """Yield the test folds of ``whole`` with hidden targets alone, and histories as ``known`` has them.

    Raises:
        RunError: without the hidden items the data end so much earlier that their windows are others.
    """
    split, reduced = make_split(whole, config.split), make_split(known, config.split)
    if split.train_day != reduced.train_day:
        raise RunError(
            f"{known.folder} ends on {day_date(known.last_day)} and {whole.folder} on {day_date(whole.last_day)}, so "
            "their test windows differ; set split.end in the data set"
        )
    for fold in split.tests:
        hidden = fold.of_targets(hidden_V[fold.target_item])
        yield replace(hidden, history_end=known.ends_before(fold.start_day))


def list_hidden(
    task: Task, hidden_V: np.ndarray, runs: Mapping[str, tuple[Run, ...]], seeds: Sequence[int]
) -> list[ListedFold]:
    """Return, for each fold, every system's lists of hidden items, as long as they are looked at."""
    return [_lists_of(task.data, fold, hidden_V, runs, seeds) for fold in task.folds]


def _lists_of(
    known: Purchases,
    fold: Fold,
    hidden_V: np.ndarray,
    runs: Mapping[str, tuple[Run, ...]],
    seeds: Sequence[int],
) -> ListedFold:
    depth = min(SHORTEST, int(hidden_V.sum()))
    histories = fold.histories(known)
    lists = {}
    for name, (trained,) in runs.items():
        # Not as customers meet it: best sellers for those without a history know nothing of what never sold.
        decoder = load_decoder(trained, known)
        # Numbers of its own, so that a seed's lists are the same whichever other seeds are listed.
        random = np.random.default_rng((HIDDEN_SEED, fold.start_day, seed_of(name)))
        chunks = (histories.of(slice(begin, begin + _CHUNK)) for begin in range(0, len(histories), _CHUNK))
        ranked = (decoder.recommend(some, int(hidden_V.sum()), Candidates(hidden_V)) for some in chunks)
        lists[name] = np.concatenate([first_of(some, depth, random) for some in ranked])
        talk.print(f"{fold.name} {name}")
    for seed in seeds:
        lists[member(seed, RANDOM)] = random_lists(hidden_V, len(fold.user_index), depth, (seed, fold.start_day))
    return ListedFold({False: FoldLists(fold, lists)}, chosen_targets(known, fold))


def first_of(lists: Recommendations, k: int, random: np.random.Generator) -> np.ndarray:
    """Return the first ``k`` items (Q, k) int32 of whole rankings, items that score alike in random order.

    A decoder without content scores all hidden items alike, and the order of the catalogue is not one by chance. Each
    customer has an order of their own: one for all would be right or wrong for all of them.
    """
    order = np.lexsort((random.random(lists.item.shape), -np.round(lists.score, 4)), axis=-1)
    return np.take_along_axis(lists.item, order[:, :k], axis=1)


def random_lists(hidden_V: np.ndarray, n_users: int, k: int, seed: tuple[int, int]) -> np.ndarray:
    """Return ``k`` hidden items in random order for each user (n_users, k) int32."""
    random, hidden = np.random.default_rng(seed), np.flatnonzero(hidden_V)
    lists = [random.choice(hidden, k, replace=False) for _ in range(n_users)]
    return np.array(lists, dtype=np.int32).reshape(n_users, k)
