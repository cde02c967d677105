"""Small prepared data for tests, written in the real format and opened by the real reader."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

from recsys.data.purchases import open_purchases
from recsys.evaluation.splits import Fold


def write_prepared(folder, events, *, n_items=None, users=None, items=None, columns=None, promotions=None):
    """Write ``events``, rows (user_index, day, item_index), as prepared data and open them.

    Rows keep their order within a user's day; each day is a basket. ``users`` are ids or a table; ``columns``,
    given the three columns, returns arrays of prices and the like that stand in place of constant ones. ``promotions``
    are rows (item_index, first day, day after the last, medium, share).
    """
    folder.mkdir(parents=True, exist_ok=True)
    events = np.asarray(events, dtype=np.int64).reshape(-1, 3)
    user, day, item = events[np.lexsort((np.arange(len(events)), events[:, 1], events[:, 0]))].T
    n_users = int(user.max()) + 1 if users is None else len(users)
    others = {} if columns is None else columns(user, day, item)
    n_items = int(item.max()) if n_items is None else n_items
    new_basket = np.concatenate([[True], (user[1:] != user[:-1]) | (day[1:] != day[:-1])])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))])
    basket = np.cumsum(new_basket) - 1
    basket = basket - np.repeat(basket[np.minimum(offsets[:-1], len(basket) - 1)], np.diff(offsets))
    arrays = {
        "item": item.astype(np.int32),
        "day": day.astype(np.int32),
        "price": np.ones(len(item), dtype=np.float32),
        "channel": np.zeros(len(item), dtype=np.int8),
        "quantity": np.ones(len(item), dtype=np.float32),
        "basket": basket.astype(np.int32),
        "offsets": offsets.astype(np.int64),
    }
    arrays |= {name: np.asarray(array).astype(arrays[name].dtype) for name, array in others.items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    item_ids = [f"{number:010d}" for number in range(1, n_items + 1)]
    user_ids = [f"u{number}" for number in range(n_users)] if users is None else users
    users = user_ids if isinstance(user_ids, pa.Table) else pa.table({"user_id": user_ids})
    pq.write_table(items or pa.table({"item_id": item_ids}), folder / "items.parquet")
    pq.write_table(users, folder / "users.parquet")
    if promotions is not None:
        types = {"item_index": pa.int32(), "first_day": pa.int32(), "end_day": pa.int32(), "medium": pa.string()}
        fields = [*types.items(), ("share", pa.float32())]
        rows = [dict(zip((name for name, _ in fields), row, strict=True)) for row in promotions]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), folder / "promotions.parquet")
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": "toy"}))
    (folder / "report.json").write_text("{}")
    return open_purchases(folder)


def fold_of(user_index, target_offsets, target_item):
    """Return a fold by its users and their targets; nothing is known of anybody's history."""
    return Fold("d", 0, 1, np.zeros(0, dtype=np.int64), user_index, target_offsets, target_item)


def events_of(log):
    """Return the rows (user_index, day, item_index) that :func:`write_prepared` takes."""
    return np.stack([log.user_of_event(), log.day, log.item], axis=1).astype(np.int64)


def toy_data(folder, *, n_users, n_items, n_days, seed, first_day=18_000):
    """Return data in which customers buy a few favourites again and again, and now and then something else."""
    random = np.random.default_rng(seed)
    events = []
    for user in range(n_users):
        favourites = random.choice(np.arange(1, n_items + 1), size=3, replace=False)
        for day in range(first_day + int(random.integers(7)), first_day + n_days):
            if random.random() < 0.25:
                bought = random.choice(favourites) if random.random() < 0.8 else random.integers(1, n_items + 1)
                events.append((user, day, int(bought)))
    return write_prepared(folder / "toy", events, n_items=n_items, users=[f"u{number}" for number in range(n_users)])


def write_vectors(folder, n_items, *, width):
    """Write embeddings of the three special tokens and the items, in the form in which they are read."""
    vectors = np.random.default_rng(0).normal(size=(n_items + 3, width)).astype(np.float32)
    folder.mkdir(parents=True)
    save_file({"vectors": vectors}, folder / "vectors.safetensors")
    ids = [f"{number:010d}" for number in range(1, n_items + 1)]
    pq.write_table(
        pa.table({"item_id": ids, "row": pa.array(range(3, n_items + 3), pa.int32())}), folder / "ids.parquet"
    )
    (folder / "manifest.json").write_text(json.dumps({"n_vectors": n_items + 3, "dim": width}))
    return vectors


def taken_of(queries, query_N):
    """Return the queries ``query_N`` of a QueryTensors, which may repeat and leave out, in that order."""
    taken = {name: part[query_N] for name, part in vars(queries).items() if name.endswith("_Q")}
    for name in ("past_query_P", "category_query_R", "co_purchase_query_C"):
        of_query = [(getattr(queries, name) == query).nonzero().flatten() for query in query_N]
        kind, rows = name.split("_query_")[0], torch.cat(of_query)
        taken |= {other: part[rows] for other, part in vars(queries).items() if other.startswith(kind)}
        taken[name] = torch.repeat_interleave(torch.tensor([len(rows) for rows in of_query]))
    return replace(queries, **taken)
