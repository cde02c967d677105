"""What the peers read and write, in an environment that does not know this project: Parquet in, lists out."""

import json
import os
import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse


@dataclass(frozen=True)
class Events:
    """Purchases sorted by user and time; users and items are rows of users.parquet and items.parquet (from 0).

    Shapes: (n,) each.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    day: np.ndarray
    basket: np.ndarray
    validation: np.ndarray  # bool: whether the event lies in the validation window

    def where(self, keep: np.ndarray) -> "Events":
        """Return the events for which ``keep`` (n,) is true."""
        columns = (self.user, self.item, self.timestamp, self.day, self.basket, self.validation)
        return Events(*(column[keep] for column in columns))


@dataclass(frozen=True)
class Recommendations:
    """Items of each user asked, best first. Shapes: (Q, K); item -1 where there is none, score then -inf."""

    item: np.ndarray
    score: np.ndarray


@dataclass
class Budget:
    """Minutes a peer may take to choose and fit."""

    minutes: float
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the minutes that are left, at least 0."""
        return max(0.0, self.minutes - (time.monotonic() - self.began) / 60)


class Split:
    """The exported folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "meta.json"
        if not path.is_file():
            raise SystemExit(f"error: {path} is missing; run `python -m benchmarks.peers export DATA {folder}` first")
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.k = int(self.meta["k"])

    @cached_property
    def user_ids(self) -> pa.Array:
        """Ids of all users."""
        return pq.read_table(self.folder / "users.parquet")["user_id"].cast(pa.string()).combine_chunks()

    @cached_property
    def item_ids(self) -> pa.Array:
        """Ids of the whole catalogue."""
        return pq.read_table(self.folder / "items.parquet")["item_id"].cast(pa.string()).combine_chunks()

    @cached_property
    def train(self) -> Events:
        """Everything known at the first test fold."""
        return self._events("train.parquet")

    def history(self, fold: str) -> Events:
        """Return everything known at a fold."""
        return self._events(f"history/{fold}.parquet")

    def queries(self, fold: str) -> np.ndarray:
        """Return the users (Q,) asked at a fold."""
        return _rows(pq.read_table(self.folder / f"queries/{fold}.parquet")["user_id"], self.user_ids)

    def targets(self) -> tuple[np.ndarray, sparse.csr_matrix]:
        """Return the users (Q,) asked at the validation window and what they bought in it, (Q, V) of 0 and 1."""
        users = self.queries(self.meta["validation"])
        bought = matrix(self.train.where(self.train.validation), len(self.user_ids), len(self.item_ids))
        return users, bought[users].astype(bool)

    def features(self, date: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Return user (n,), item (n,), features (n, F) and, where it may be known, label (n,) at a date."""
        table = pq.read_table(self.folder / f"features/{date}.parquet")
        names = [name for name in table.column_names if name not in ("user_id", "item_id", "label")]
        label = np.asarray(table["label"]) if "label" in table.column_names else None
        columns = np.stack([np.asarray(table[name]) for name in names], axis=1)
        return _rows(table["user_id"], self.user_ids), _rows(table["item_id"], self.item_ids), columns, label

    def write_lists(self, peer: str, name: str, users: np.ndarray, lists: Recommendations) -> None:
        """Write ``lists/<peer>/<name>.parquet`` aside, then put it in place."""
        row, rank = np.nonzero(lists.item >= 0)
        columns = {
            "user_id": self.user_ids.take(pa.array(users[row])),
            "rank": pa.array(rank.astype(np.int32) + 1),
            "item_id": self.item_ids.take(pa.array(lists.item[row, rank].astype(np.int64))),
            "score": pa.array(lists.score[row, rank].astype(np.float32)),
        }
        path = self.folder / "lists" / peer / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        pq.write_table(pa.table(columns), aside)
        os.replace(aside, path)  # noqa: PTH105 - whole or not at all

    def write_info(self, peer: str, info: dict[str, Any]) -> None:
        """Write ``info/<peer>.json``: settings, versions and times."""
        path = self.folder / "info" / f"{peer}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.part")
        aside.write_text(json.dumps(info, indent=2, default=str) + "\n", encoding="utf-8")
        aside.replace(path)

    def _events(self, name: str) -> Events:
        table = pq.read_table(self.folder / name)
        validation = np.asarray(table["validation"]) if "validation" in table.column_names else None
        return Events(
            _rows(table["user_id"], self.user_ids),
            _rows(table["item_id"], self.item_ids),
            np.asarray(table["timestamp"]),
            np.asarray(table["day"]),
            np.asarray(table["basket"]),
            np.zeros(table.num_rows, dtype=bool) if validation is None else validation,
        )


def _rows(column: pa.ChunkedArray, ids: pa.Array) -> np.ndarray:
    """Return the places (n,) int64 of a column's ids among ``ids``."""
    encoded = column.combine_chunks().dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    places = np.asarray(pc.index_in(encoded.dictionary.cast(pa.string()), value_set=ids))
    rows: np.ndarray = places[np.asarray(encoded.indices)].astype(np.int64)
    return rows


def matrix(events: Events, n_users: int, n_items: int) -> sparse.csr_matrix:
    """Return how often each user bought each item, (U, V) float32."""
    counts = np.ones(len(events.user), dtype=np.float32)
    counted = sparse.csr_matrix((counts, (events.user, events.item)), shape=(n_users, n_items))
    counted.sum_duplicates()
    return counted


def best(score: np.ndarray, k: int) -> Recommendations:
    """Return the ``k`` highest of each row of ``score`` (Q, V); -inf is no item. Ties go to the lower row of items."""
    k = min(k, score.shape[1])
    reach = np.partition(score, score.shape[1] - k, axis=1)[:, -k]
    item = np.full((len(score), k), -1, dtype=np.int64)
    value = np.full((len(score), k), -np.inf, dtype=np.float32)
    for row, low in enumerate(reach):
        near = np.flatnonzero((score[row] >= low) & np.isfinite(score[row]))
        order = near[np.argsort(-score[row, near], kind="stable")][:k]
        item[row, : len(order)], value[row, : len(order)] = order, score[row, order]
    return Recommendations(item, value)


def filled(lists: Recommendations, users: np.ndarray, history: Events, split: Split, *, new: bool) -> Recommendations:
    """Complete short lists with what sold most in the last window, then ever; with ``new``, nothing bought before.

    Items that are filled in score below the peer's own.
    """
    n_items, k = len(split.item_ids), split.k
    item = np.full((len(users), k), -1, dtype=np.int64)
    score = np.full((len(users), k), -np.inf, dtype=np.float32)
    item[:, : lists.item.shape[1]], score[:, : lists.item.shape[1]] = lists.item[:, :k], lists.score[:, :k]
    lately = history.day > history.day.max() - int(split.meta["horizon_days"])
    recent = np.bincount(history.item[lately], minlength=n_items)
    order = np.lexsort((-np.bincount(history.item, minlength=n_items), -recent))
    seen = matrix(history, len(split.user_ids), n_items) if new else None
    for row in np.flatnonzero((item < 0).any(axis=1)):
        own = item[row][item[row] >= 0]
        taken = set(own.tolist()) | (set(seen[users[row]].indices.tolist()) if seen is not None else set())
        more = [code for code in order[: k + len(taken)].tolist() if code not in taken][: k - len(own)]
        lowest = float(score[row, : len(own)].min()) if len(own) else 0.0
        item[row, len(own) : len(own) + len(more)] = more
        score[row, len(own) : len(own) + len(more)] = lowest - 1 - np.arange(len(more))
    return Recommendations(item, score)


def map_at_k(lists: Recommendations, bought: sparse.csr_matrix, k: int) -> float:
    """Return MAP@k of lists (Q, K) against what was bought (Q, V); divided by min(k, bought) as on Kaggle."""
    item = lists.item[:, :k]
    rows = np.repeat(np.arange(len(item)), item.shape[1])
    hit = np.asarray(bought[rows, np.maximum(item, 0).ravel()]).reshape(item.shape).astype(bool) & (item >= 0)
    precision = np.cumsum(hit, axis=1) / np.arange(1, item.shape[1] + 1)
    relevant = np.minimum(np.diff(bought.indptr), k)
    return float(((hit * precision).sum(axis=1) / np.maximum(relevant, 1)).mean())
