import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.config import DataConfig
from recsys.data.prepare import prepare
from recsys.data.purchases import Purchases, open_purchases
from recsys.errors import DataError


@pytest.fixture
def folder(workplace: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"u{user} " + " ".join(f"i{item}" for item in rng.integers(0, 9, user + 1)) for user in range(6)]
    (workplace / "few.txt").write_text("\n".join(lines) + "\n")
    prepare(DataConfig(source="sequences", raw=workplace / "few.txt"))
    return Path("data/processed/sequences")


@pytest.fixture
def data(folder: Path) -> Purchases:
    return open_purchases(folder)


def test_arrays_are_mapped_and_not_read(data):
    assert all(isinstance(array, np.memmap) for array in (data.item, data.day, data.price, data.offsets))


def test_ids_and_indices_are_inverse_and_unknown_ids_are_told(data):
    assert data.item_index_of(data.item_ids).tolist() == list(range(1, data.n_items + 1))
    assert data.user_index_of(data.user_ids).tolist() == list(range(data.n_users))
    assert data.item_index_of(pa.array(["nothing", None])).tolist() == [0, 0]
    assert data.user_index_of(pa.array(["nobody"])).tolist() == [-1]


def test_known_histories_end_before_the_day_asked(data):
    for day in range(-1, data.last_day + 2):
        expected = [
            data.offsets[user] + sum(data.day[data.offsets[user] : data.offsets[user + 1]] < day)
            for user in range(data.n_users)
        ]
        assert data.ends_before(day).tolist() == expected


def test_every_event_belongs_to_the_user_whose_offsets_hold_it(data):
    users = data.user_of_event()
    for user in range(data.n_users):
        assert set(users[data.offsets[user] : data.offsets[user + 1]]) == {user}


def test_the_fingerprint_is_the_manifests(folder, data):
    assert data.fingerprint == json.loads((folder / "manifest.json").read_text())["fingerprint"]


def test_a_folder_without_prepared_data_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="run `recsys dataset main` first"):
        open_purchases(tmp_path)


def test_a_damaged_or_shortened_array_is_refused(folder):
    np.save(folder / "day.npy", np.zeros(3, dtype=np.int32))
    with pytest.raises(DataError, match="unlike the offsets"):
        open_purchases(folder)
    np.save(folder / "day.npy", np.zeros(21, dtype=np.int64))
    with pytest.raises(DataError, match="expected int32"):
        open_purchases(folder)
    (folder / "day.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="cannot be opened"):
        open_purchases(folder)
