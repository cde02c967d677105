"""A small shop with a finished and scored run, written as the real files that reports and plots read."""

import hashlib
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import schema
from recsys.config import Config, dump_config, load_config
from recsys.data.days import day_number
from recsys.storage import write_json, write_text

N_USERS, N_ITEMS, N_DAYS = 40, 30, 60
LAST_DAY = day_number(date(2020, 3, 31))
NEWCOMER = N_USERS - 1  # buys in the last week only
BEST = 0.3
VALUES = {
    "decoder": 0.2,
    "repeat": BEST,
    "covisitation": 0.12,
    "item_knn": 0.15,
    "als": 0.11,
    "popularity_week": 0.1,
    "popularity": 0.05,
}


def user_id(user: int) -> str:
    return hashlib.sha256(str(user).encode()).hexdigest()


def item_id(item_index: int) -> str:
    return f"{item_index:010d}"


def item_name(item_index: int) -> str:
    return "<script>alert('x')</script>" if item_index == 1 else f"SCARF NUMBER {item_index}"


def events(user: int) -> list[tuple[int, int]]:
    """(day, item_index) of a user: item 1, the user's own item and one that changes, every week from a start on."""
    first = LAST_DAY - N_DAYS + 1 + user
    days = [LAST_DAY] if user == NEWCOMER else range(first, LAST_DAY + 1, 7)
    return [(day, item) for day in [*days, LAST_DAY] for item in (1, 2 + user % 20, 2 + day % (N_ITEMS - 1))]


def write_data(folder: Path) -> str:
    """Write prepared data and return their fingerprint."""
    rows = [sorted(set(events(user))) for user in range(N_USERS)]
    flat = np.array([row for user_rows in rows for row in user_rows])
    folder.mkdir(parents=True)
    arrays = {"item": flat[:, 1], "day": flat[:, 0]}
    for name, dtype in schema.EVENT_ARRAYS.items():
        np.save(folder / f"{name}.npy", arrays.get(name, np.ones(len(flat))).astype(dtype))
    np.save(folder / "offsets.npy", np.cumsum([0, *map(len, rows)]).astype(np.int64))
    indices = range(1, N_ITEMS + 1)
    items = {
        "item_id": [item_id(index) for index in indices],
        "prod_name": [item_name(index) for index in indices],
        "product_type_name": ["Scarf"] * N_ITEMS,
        "colour_group_name": ["Dark Blue"] * N_ITEMS,
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": [user_id(user) for user in range(N_USERS)]}), folder / "users.parquet")
    write_json(folder / "report.json", {"rows_read": 12345, "dropped": {"bad_date": 67}, "kept": len(flat)})
    write_json(folder / "manifest.json", {"fingerprint": "f" * 64})
    return "f" * 64


def write_run(name: str = "small", *settings: str) -> Path:
    """Write a run folder with its log, and the data it learned from."""
    config = load_config(None, [f"name={name}", "split.n_folds=2", *settings])
    folder = Path("models") / name
    write_text(folder / "config.yaml", dump_config(config))
    info = {"seed": 42, "code_version": "abc123def456", "command": "recsys train --config configs/small.yaml"}
    write_json(folder / "run.json", info | {"data_fingerprint": write_data(config.data.folder)})
    write_text(folder / "weights.safetensors", "")
    write_text(folder / "metrics.csv", log_text())
    return folder


def log_text() -> str:
    """A log as Lightning writes it: a row a moment, cells of what was not logged then empty."""
    rows = ["epoch,lr,step,train_loss_epoch,train_loss_step,val_loss,val_map@12"]
    for epoch in range(3):
        rows += [f"{epoch},0.001,{10 * epoch + step},,{5 - 0.1 * (10 * epoch + step)},," for step in (4, 9)]
        rows += [f"{epoch},,{10 * epoch + 9},,,{4.5 - epoch},{(0.1, 0.3, 0.2)[epoch]}"]
        rows += [f"{epoch},,{10 * epoch + 9},{4 - epoch},,,"]
    return "\n".join(rows) + "\n"


def table(scale: float = 1.0) -> dict:
    def interval(value: float) -> dict:
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    return {
        system: {
            "map@1": interval(scale * value / 2),
            "map@12": interval(scale * value),
            "hit_rate@12": interval(scale * min(1, 2 * value)),
            "coverage@12": {"value": 0.25, "low": None, "high": None},
        }
        for system, value in VALUES.items()
    }


def scores(values: dict | None = None) -> dict:
    """What ``recsys evaluate`` writes."""
    lead = {name: round(VALUES["decoder"] - value, 6) for name, value in VALUES.items() if name != "decoder"}
    return {
        "protocol": {
            "name": "weekly",
            "candidates": "all 30 items",
            "n_users_asked": [39, 40],
            "n_users_left_out": [1, 0],
            "data": {"fingerprint": "f" * 64},
        },
        "systems": values or table(),
        "folds": [
            {"start": start, "systems": table(scale)} for start, scale in (("2020-03-18", 0.9), ("2020-03-25", 1.1))
        ],
        "segments": {"repeated": table(1.2), "history_1-4": table(0.5), "tail": {}},
        "segment_sizes": {"repeated": 70, "history_1-4": 30, "tail": 0},
        "differences": {
            name: {"map@12": {"value": value, "low": value - 0.01, "high": value + 0.01}}
            for name, value in lead.items()
        },
    }


def write_scores(name: str = "small", found: object = None) -> Path:
    path = Path("reports") / name / "metrics.json"
    write_json(path, scores() if found is None else found)
    return path


def write_lists(name: str = "small", fold: str = "2020-03-25", k: int = 12) -> Path:
    """Write the decoder's lists: everybody is shown items 1 … k, best first; rows are not in rank order."""
    rows = [(user_id(user), rank, item_id(rank), 1.0 / rank) for rank in range(k, 0, -1) for user in range(N_USERS)]
    users, ranks, items, values = zip(*rows, strict=True)
    path = Path("reports") / name / "recommendations" / "decoder" / f"{fold}.parquet"
    path.parent.mkdir(parents=True)
    columns = {
        "user_id": users,
        "rank": pa.array(ranks, pa.int32()),
        "item_id": items,
        "score": pa.array(values, pa.float32()),
    }
    pq.write_table(pa.table(columns), path)
    return path


def config() -> Config:
    return load_config(None, ["name=small", "split.n_folds=2"])
