"""The split of a data set as Parquet files with the original ids, so that a library knows exactly what ours knows.

::

    meta.json                what was exported; written last
    users.parquet            user_id of everybody, items.parquet: item_id of the whole catalogue
    train.parquet            all events known at the first test fold, and which of them lie in the validation window
    history/<fold>.parquet   all events known at the fold, of everybody
    queries/<fold>.parquet   user_id of the customers asked
    features/<date>.parquet  past and popular items with features known at the date, and whether they were bought

Events are user_id, item_id, timestamp, day, basket, weight: sorted by user and time, a timestamp of their own each.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import schema
from recsys.config import Config, load_config
from recsys.data.purchases import Purchases, event_positions
from recsys.errors import UsageError
from recsys.evaluation.splits import Fold, make_split, window_fold
from recsys.settings import CONFIGS_DIR
from recsys.signals.past_items import PAST_FEATURES, past_items
from recsys.signals.sales import OWN_FEATURES, Sales, own_columns
from recsys.signals.snapshot import Snapshots
from recsys.storage import replacing, write_json

META = "meta.json"
#: Windows before the validation window from which LightGBM learns, and best sellers it may choose from besides.
TRAINING_WINDOWS = 8
N_POPULAR = 60
DAY_SECONDS = 86_400
_LEAVE_ONE_OUT = (
    "data.source=sequences",
    "split.protocol=leave_one_out",
)
WEEKLY_PEERS = ("upcf", "item_knn", "als", "lightgbm", "sasrec", "ligr")
#: Without dates there is nothing to compute features at, and where no item comes twice, nothing to buy again.
LEAVE_ONE_OUT_PEERS = ("item_knn", "als", "sasrec", "ligr")


@dataclass(frozen=True)
class Known:
    """A data set that can be named: its configuration, and how its data are prepared."""

    prepare: str
    config: Path | None = None
    settings: tuple[str, ...] = ()


DATASETS = {
    "completejourney": Known("recsys dataset main --config configs/demo.yaml", CONFIGS_DIR / "demo.yaml"),
    "online_retail": Known(
        "recsys dataset main --config configs/online_retail.yaml", CONFIGS_DIR / "online_retail.yaml"
    ),
    "beauty": Known(
        "recsys dataset main --source sequences --set data.name=beauty --raw Beauty.txt",
        settings=("data.name=beauty", *_LEAVE_ONE_OUT),
    ),
    "ml-1m": Known(
        "recsys dataset main --source sequences --set data.name=ml-1m --raw sequences.txt",
        settings=("data.name=ml-1m", *_LEAVE_ONE_OUT),
    ),
}


def config_of(name: str, overrides: list[str]) -> Config:
    """Return the configuration of a data set that can be named, with ``key.key=value`` overrides.

    Raises:
        UsageError: there is no such data set.
    """
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r} for the peers; expected {', '.join(DATASETS)}")
    known = DATASETS[name]
    return load_config(known.config, [*known.settings, *overrides])


def export_split(name: str, data: Purchases, config: Config, folder: Path) -> None:
    """Write the split of ``data`` under ``folder``.

    Raises:
        UsageError: the protocol holds out whole customers, whom most peers cannot be asked about.
    """
    if config.split.protocol == "customers":
        raise UsageError("the peers are compared under split.protocol weekly or leave_one_out, found customers")
    split = make_split(data, config.split)
    if not split.tests:
        raise UsageError("split.n_folds is 0: there is no test fold to ask the peers about")
    (folder / META).unlink(missing_ok=True)
    _write(folder / "users.parquet", pa.table({schema.USER_ID: data.user_ids}))
    _write(folder / "items.parquet", pa.table({schema.ITEM_ID: data.item_ids}))
    for fold in (split.validation, *split.tests):
        _write(folder / "history" / f"{fold.name}.parquet", events(data, fold.history_end))
        _write(folder / "queries" / f"{fold.name}.parquet", pa.table({schema.USER_ID: users(data, fold.user_index)}))
    end = split.tests[0].history_end
    _write(folder / "train.parquet", events(data, end, split.validation.history_end))
    weekly = config.split.protocol == "weekly"
    learned = _write_features(data, config, folder) if weekly else []
    meta = {
        "data": name,
        "folder": str((data.folder or config.data.folder).resolve()),
        "fingerprint": data.fingerprint,
        "protocol": config.split.protocol,
        "horizon_days": config.split.horizon_days,
        "k": config.predict.k,
        "seed": config.seed,
        "validation": split.validation.name,
        "folds": [fold.name for fold in split.tests],
        "features": learned,
        "peers": WEEKLY_PEERS if weekly else LEAVE_ONE_OUT_PEERS,
        "config": config.model_dump(mode="json"),
    }
    write_json(folder / META, meta)


def events(data: Purchases, end: np.ndarray, learned: np.ndarray | None = None) -> pa.Table:
    """Return the events before the flat positions ``end`` (U,) of each user, sorted by user and time.

    With ``learned`` (U,), a column ``validation`` says which of them come after those.
    """
    row, position = event_positions(data.offsets[:-1], end)
    day = np.asarray(data.day[position])
    first = np.ones(len(row), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (day[1:] != day[:-1])
    starts = np.flatnonzero(first)
    place = np.arange(len(row)) - np.repeat(starts, np.diff(np.append(starts, len(row))))
    columns = {
        schema.USER_ID: users(data, row),
        schema.ITEM_ID: items(data, data.item[position]),
        "timestamp": pa.array(day.astype(np.int64) * DAY_SECONDS + place),
        "day": pa.array(day),
        "basket": pa.array(np.asarray(data.basket[position])),
        "weight": pa.array(np.ones(len(row), dtype=np.float32)),
    }
    if learned is not None:
        columns["validation"] = pa.array(position >= learned[row])
    return pa.table(columns)


def candidates(snapshots: Snapshots, fold: Fold, horizon_days: int, *, labelled: bool) -> pa.Table:
    """Return past and popular items of the customers of ``fold``, with what is known of each pair at its date.

    Features of a past that an item does not have with a customer are empty; ``label`` says whether it was bought.
    """
    data, snapshot = snapshots.log, snapshots.at(fold.start_day)
    day = np.full(len(fold.user_index), fold.start_day)
    promoted = None if snapshots.promotions is None else snapshots.promoted_sums
    known = data, fold.user_index, fold.history_end[fold.user_index], day, promoted
    past = past_items({fold.start_day: snapshot.hazards}, snapshot.codes.groups, *known)
    span = data.n_items + 1
    sold = Sales(data).sold(fold.start_day - horizon_days, fold.start_day)
    popular = np.argsort(-sold, kind="stable")[:N_POPULAR]
    pairs = (np.arange(len(fold.user_index))[:, None] * span + popular[popular > 0]).ravel()
    known = past.query * span + past.item
    others = pairs[~np.isin(pairs, known)]
    of_promotions, of_past = (
        ((), ())
        if snapshots.promotions is None
        else (snapshots.promotions.features, snapshots.promotions.past_features)
    )
    names = (*PAST_FEATURES, *of_past)
    features = np.full((len(others), len(names)), np.nan, dtype=np.float32)
    # What describes the customer alone is the same for all items.
    about_user = [place for place, name in enumerate(names) if name.startswith("user_")]
    of_user = np.full((len(fold.user_index), len(about_user)), np.nan, dtype=np.float32)
    of_user[past.query] = past.features[:, about_user]
    features[:, about_user] = of_user[others // span]
    key = np.concatenate([known, others])
    query, item = key // span, key % span
    of_item = snapshot.item_features[:, own_columns(snapshots.n_promoted)]
    table = np.concatenate([np.concatenate([past.features, features]), of_item[item]], axis=1)
    columns = {schema.USER_ID: users(data, fold.user_index[query]), schema.ITEM_ID: items(data, item)}
    for place, name in enumerate((*names, *OWN_FEATURES, *of_promotions)):
        columns[name] = pa.array(table[:, place])
    if labelled:
        bought = np.repeat(np.arange(len(fold.user_index)), np.diff(fold.target_offsets)) * span + fold.target_item
        columns["label"] = pa.array(np.isin(key, bought))
    return pa.table(columns)


def _write_features(data: Purchases, config: Config, folder: Path) -> list[str]:
    """Write the tables of features; return the dates of those that are learned from, latest first."""
    split, horizon = make_split(data, config.split), config.split.horizon_days
    snapshots = Snapshots(data)
    starts = [split.validation.start_day - horizon * back for back in range(1, TRAINING_WINDOWS + 1)]
    windows = [window_fold(data, start, horizon) for start in starts if start - horizon >= data.first_day]
    windows = [fold for fold in windows if len(fold.user_index)]
    for fold in (*windows, split.validation, *split.tests):
        labelled = fold.end_day <= split.tests[0].start_day
        table = candidates(snapshots, fold, horizon, labelled=labelled)
        _write(folder / "features" / f"{fold.name}.parquet", table)
    return [fold.name for fold in windows]


def users(data: Purchases, user_index: np.ndarray) -> pa.Array:
    """Return the ids of ``user_index`` (n,), each written once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.asarray(user_index).astype(np.int32)), data.user_ids)


def items(data: Purchases, item_index: np.ndarray) -> pa.Array:
    """Return the ids of ``item_index`` (n,), each written once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.asarray(item_index).astype(np.int32) - 1), data.item_ids)


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as aside:
        pq.write_table(table, aside)
