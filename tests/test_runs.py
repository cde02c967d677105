import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import schema
from recsys.config import Config, dump_config, load_config
from recsys.errors import DataError, RunError
from recsys.runs import CHECKPOINTS, CONFIG_FILE, INFO_FILE, LAST, WEIGHTS_FILE, find_run
from recsys.storage import code_version, write_json, write_text


def make_run(name: str, *, minute: int = 0, fingerprint: str = "f" * 64) -> Path:
    folder = Path("models") / name
    write_text(folder / CONFIG_FILE, dump_config(load_config(None, [f"name={name}"])))
    write_json(folder / INFO_FILE, {"seed": 42, "data_fingerprint": fingerprint})
    write_text(folder / WEIGHTS_FILE, "weights")
    os.utime(folder / INFO_FILE, (1_600_000_000 + 60 * minute,) * 2)
    return folder


def prepare(fingerprint: str) -> None:
    folder = Config().data.folder
    folder.mkdir(parents=True)
    for name, dtype in schema.EVENT_ARRAYS.items():
        np.save(folder / f"{name}.npy", np.ones(3, dtype=dtype))
    np.save(folder / "offsets.npy", np.array([0, 3], dtype=np.int64))
    pq.write_table(pa.table({"item_id": ["a"]}), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": ["u"]}), folder / "users.parquet")
    write_json(folder / "manifest.json", {"fingerprint": fingerprint})


def test_a_run_is_found_by_its_name_and_by_its_folder(workplace):
    make_run("small")
    assert find_run("small") == find_run("models/small")
    assert find_run("small").name == "small"
    assert find_run("small").config.name == "small"


def test_a_run_elsewhere_is_found_by_its_folder(workplace):
    make_run("small").rename("kept")
    assert find_run("kept").folder == Path("kept")


def test_a_run_s_name_means_the_run_where_a_folder_of_the_purchases_is_called_alike(workplace):
    make_run("shop")
    Path("shop").mkdir()
    assert find_run("shop").folder == Path("models/shop")


def test_without_a_name_the_newest_run_is_found(workplace):
    make_run("newer", minute=2)
    make_run("newest", minute=3)
    make_run("older", minute=1)
    assert find_run(None).name == "newest"


def test_without_any_run_the_error_says_how_to_make_one(workplace):
    with pytest.raises(RunError, match="run `recsys train` first"):
        find_run(None)


def test_a_training_that_was_stopped_is_named_only_where_no_other_run_is_there(workplace):
    (make_run("stopped", minute=2) / INFO_FILE).unlink()
    with pytest.raises(RunError, match=r"models/stopped lacks run.json: its training has not ended"):
        find_run(None)
    make_run("ended", minute=1)
    assert find_run(None).name == "ended"


def test_an_unknown_name_lists_the_known_ones(workplace):
    make_run("small")
    make_run("large")
    with pytest.raises(RunError, match=r"models/smal is not a run folder: it does not exist; known runs: large, small"):
        find_run("smal")


@pytest.mark.parametrize("missing", [CONFIG_FILE, INFO_FILE, WEIGHTS_FILE])
def test_a_folder_that_lacks_a_file_is_not_a_run_and_the_file_is_named(workplace, missing):
    (make_run("small") / missing).unlink()
    with pytest.raises(RunError, match=rf"lacks {missing}"):
        find_run("small")


def test_a_training_that_was_stopped_is_called_one_and_how_to_go_on_is_said(workplace):
    folder = make_run("half")
    for file in (INFO_FILE, WEIGHTS_FILE):
        (folder / file).unlink()
    with pytest.raises(RunError, match=r"has not ended.*recsys train --force --config models/half/config\.yaml"):
        find_run("half")  # no epoch of it has ended: there is nothing to go on from
    write_text(folder / CHECKPOINTS / LAST, "an epoch")
    with pytest.raises(RunError, match=r"has not ended.*recsys train --resume --config models/half/config\.yaml"):
        find_run("half")


def test_lists_of_a_fold_lie_under_the_report_of_the_run(workplace):
    make_run("small")
    path = find_run("small").table_path("repeat", "2017-12-25")
    assert path == Path("reports/small/recommendations/repeat/2017-12-25.parquet")


def test_a_run_opens_the_data_it_learned_from(workplace):
    make_run("small", fingerprint="a" * 64)
    prepare("a" * 64)
    assert find_run("small").open_data().n_events == 3


def test_a_run_refuses_data_it_did_not_learn_from(workplace):
    make_run("small", fingerprint="a" * 64)
    prepare("b" * 64)
    with pytest.raises(RunError, match=r"fingerprint bbbbbbbbbbbb.*trained on \(aaaaaaaaaaaa\); prepare the same data"):
        find_run("small").open_data()


def test_a_run_without_its_data_says_how_to_prepare_them(workplace):
    make_run("small")
    with pytest.raises(DataError, match="run `recsys dataset main` first"):
        find_run("small").open_data()


def test_the_code_version_is_the_commit_where_there_is_one(root):
    done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True)
    expected = done.stdout.strip() if done.returncode == 0 else "unknown"
    assert code_version().removesuffix("+changes") == expected


@pytest.mark.parametrize("info", [{}, [], {"seed": 42}])
def test_a_run_that_does_not_say_its_data_is_one_line(workplace, info):
    write_json(make_run("small") / INFO_FILE, info)
    with pytest.raises(RunError, match=r"run\.json does not say which data"):
        find_run("small")
